// What the user asked for in this tab: each job runs one or more tasks of the server one after another,
// and is shown as a notice until it has succeeded for a while or has been read.
import { refOfResult } from "../api/client.js";
import { ApiError, ConnectionError, isSessionError } from "../api/errors.js";
import { NULL_REF, type Method, type Methods, type Task } from "../api/types.js";
import { Cell } from "./cell.js";
import { client, session } from "./session.js";
import { store } from "./store.js";

export interface Job {
  id: number;
  /** What is done, to what: "Start", "web1". */
  verb: string;
  subject: string;
  status: "running" | "done" | "failed";
  /** The step of a job of several. */
  step: string;
  task: string | null;
  error: unknown;
  /** What the user may do after a failure, in words. */
  hint: string;
}

export const jobs = new Cell<readonly Job[]>([]);

const DONE_SHOWN_MS = 4_000;
let nextId = 1;

function change(id: number, part: Partial<Job>): void {
  jobs.update((list) => list.map((job) => (job.id === id ? { ...job, ...part } : job)));
}

export function dismissJob(id: number): void {
  jobs.update((list) => list.filter((job) => job.id !== id));
}

/** The task, once it has ended. The store tells; a poll stands in when events do not come. */
async function ended(ref: string): Promise<Task> {
  const own = session.value;
  for (;;) {
    const seen = store.get("task", ref);
    if (seen && seen.status !== "pending" && seen.status !== "cancelling") {
      return seen;
    }
    const changed = await nextChange(5_000);
    if (session.value !== own) {
      throw new Error("The session ended meanwhile; the server goes on with the task.");
    }
    if (!changed) {
      let polled: Task;
      try {
        polled = await client().call("task.get_record", ref);
      } catch (e) {
        if (e instanceof ConnectionError) {
          continue;
        }
        throw e;
      }
      if (polled.status !== "pending" && polled.status !== "cancelling") {
        return polled;
      }
    }
  }
}

/** True when the store changed within the time. */
function nextChange(ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => finish(false), ms);
    const stop = store.generation.watch(() => finish(true));
    const stopSession = session.watch(() => finish(true));
    function finish(changed: boolean): void {
      clearTimeout(timer);
      stop();
      stopSession();
      resolve(changed);
    }
  });
}

export class Steps {
  constructor(private readonly id: number) {}

  say(step: string): void {
    change(this.id, { step });
  }

  hint(hint: string): void {
    change(this.id, { hint });
  }

  /** Shows how far the task is while `work` goes on. */
  async watch(task: string, work: () => Promise<void>): Promise<void> {
    change(this.id, { task });
    try {
      await work();
    } finally {
      change(this.id, { task: null });
    }
  }

  /** Runs the call as a task; answers the ref in its result, or null. Throws the task's error. */
  async run<M extends Method>(method: M, ...args: Parameters<Methods[M]>): Promise<string | null> {
    const ref = await client().start(method, ...args);
    change(this.id, { task: ref });
    try {
      const task = await ended(ref);
      if (task.status !== "success") {
        throw ApiError.fromList(task.error_info.length > 0 ? task.error_info : ["TASK_CANCELLED", ref]);
      }
      return refOfResult(task.result);
    } finally {
      change(this.id, { task: null });
    }
  }
}

/** Runs `work` as a job with a notice. Resolves to true when it succeeded; never rejects. */
export async function runJob(verb: string, subject: string, work: (steps: Steps) => Promise<void>): Promise<boolean> {
  const id = nextId++;
  jobs.update((list) => [
    ...list, { id, verb, subject, status: "running", step: "", task: null, error: null, hint: "" },
  ]);
  try {
    await work(new Steps(id));
    change(id, { status: "done", step: "" });
    setTimeout(() => dismissJob(id), DONE_SHOWN_MS);
    return true;
  } catch (e) {
    if (isSessionError(e)) {
      // The user left instead of logging in again, and was told so.
      dismissJob(id);
      return false;
    }
    change(id, { status: "failed", error: e });
    return false;
  }
}

/** One call as a job. */
export function runTask<M extends Method>(
  verb: string, subject: string, method: M, ...args: Parameters<Methods[M]>): Promise<boolean> {
  return runJob(verb, subject, async (steps) => {
    await steps.run(method, ...args);
  });
}

export function isNull(ref: string | undefined | null): boolean {
  return !ref || ref === NULL_REF;
}
