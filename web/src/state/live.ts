// Keeps the store current: one long poll of event.from after another, and after a failure again, with a
// growing pause, while the page says so.
import { ApiError, sentenceOf } from "../api/errors.js";
import { CLASS_NAMES } from "../api/types.js";
import { Cell } from "./cell.js";
import { session, type SignedIn } from "./session.js";
import { store } from "./store.js";

export type Link =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "retrying"; error: unknown; sentence: string; at: number };

export const link = new Cell<Link>({ state: "connecting" });

const POLL_SECONDS = 30;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;

let wake: (() => void) | null = null;

/** Ends the present pause between two tries. */
export function retryNow(): void {
  wake?.();
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      wake = null;
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    wake = done;
  });
}

async function follow(signedIn: SignedIn, signal: AbortSignal): Promise<void> {
  let token = "";
  let failures = 0;
  while (!signal.aborted) {
    try {
      const batch = await signedIn.client.callWith(
        { signal, timeoutMs: (POLL_SECONDS + 20) * 1000 }, "event.from", CLASS_NAMES, token,
        // The first answer after a failure should come at once, so that the page can say it is live again.
        failures > 0 ? 0.1 : POLL_SECONDS);
      if (signal.aborted) {
        return;
      }
      store.apply(batch.events, token === "");
      token = batch.token;
      failures = 0;
      link.set({ state: "live" });
    } catch (e) {
      if (signal.aborted) {
        return;
      }
      if (e instanceof ApiError && e.code === "EVENT_FROM_TOKEN_PARSE_FAILURE" && token !== "") {
        token = "";
        continue;
      }
      failures++;
      const ms = Math.min(FIRST_PAUSE_MS * 2 ** (failures - 1), LONGEST_PAUSE_MS) * (0.8 + Math.random() * 0.4);
      link.set({ state: "retrying", error: e, sentence: sentenceOf(e), at: Date.now() + ms });
      await pause(ms, signal);
    }
  }
}

/** Follows the events of whatever session there is, from now on. */
export function startLive(): void {
  let running: { of: SignedIn; stop: AbortController } | null = null;
  const change = () => {
    if (running?.of === session.value) {
      return;
    }
    running?.stop.abort();
    running = null;
    store.reset();
    link.set({ state: "connecting" });
    if (session.value) {
      running = { of: session.value, stop: new AbortController() };
      void follow(running.of, running.stop.signal);
    }
  };
  session.watch(change);
  window.addEventListener("online", retryNow);
  change();
}
