// The drawer at the right: what the pool is doing and has done, and its messages.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Cell, useCell } from "../state/cell.js";
import { isBad, messageSubject, messageTitle } from "../state/alerts.js";
import { client } from "../state/session.js";
import { runJob } from "../state/jobs.js";
import { store, useStore } from "../state/store.js";
import { ApiError } from "../api/errors.js";
import type { Message, Task } from "../api/types.js";
import { Bar, Button, Empty, When } from "../ui/basics.js";
import { ErrorText } from "../ui/error.js";
import { duration, parseTime } from "../ui/format.js";
import { Icon } from "../ui/icons.js";
import { Tabs } from "../ui/tabs.js";

export const drawerOpen = new Cell(false);

export function isRunning(task: Task): boolean {
  return task.status === "pending" || task.status === "cancelling";
}

/** "Async.VM.start" -> "VM.start"; a task with words for a person keeps them. */
function taskTitle(task: Task): string {
  return task.name_label.replace(/^Async\./, "") || "task";
}

function TaskRow({ taskRef, task }: { taskRef: string; task: Task }) {
  const running = isRunning(task);
  const subjects = [...(store.taskSubjects.get(taskRef) ?? [])].filter((name) => name !== "");
  const created = parseTime(task.created);
  const finished = parseTime(task.finished);
  const cancel = () => void runJob("Cancel", taskTitle(task), async () => client().call("task.cancel", taskRef));
  const remove = () => void runJob("Clear", taskTitle(task), async () => client().call("task.destroy", taskRef));
  return (
    <li class={`task ${task.status}`}>
      <span class="task-icon">
        {running ? <span class="spinner" aria-hidden="true" /> : <Icon name={task.status === "success" ? "check" : task.status === "cancelled" ? "cancel" : "alert"} />}
      </span>
      <div class="task-body">
        <p class="task-title"><b>{taskTitle(task)}</b> {subjects.join(", ")}</p>
        {task.name_description !== "" && <p class="faint">{task.name_description}</p>}
        {running && (
          <div class="task-progress">
            <Bar value={task.progress > 0 ? task.progress * 100 : null} label={taskTitle(task)} />
            <span class="faint">{task.status === "cancelling" ? "cancelling" : task.progress > 0 ? `${Math.round(task.progress * 100)} %` : ""}</span>
          </div>
        )}
        {task.status === "failure" && <ErrorText error={ApiError.fromList(task.error_info)} />}
        <p class="faint task-when">
          {task.status === "success" ? "Done" : task.status === "failure" ? "Failed" : task.status === "cancelled" ? "Cancelled" : "Started"}{" "}
          <When time={running ? created : finished ?? created} />
          {!running && created && finished && finished > created && `, took ${duration((finished.getTime() - created.getTime()) / 1000)}`}
        </p>
      </div>
      {running
        ? <Button kind="quiet" label="Cancel" disabled={!task.allowed_operations.includes("cancel")} title={task.allowed_operations.includes("cancel") ? undefined : "This task cannot be cancelled."} onClick={cancel} />
        : <Button kind="quiet" icon="close" iconOnly label="Remove from the list" onClick={remove} />}
    </li>
  );
}

function MessageRow({ messageRef, message }: { messageRef: string; message: Message }) {
  const bad = isBad(message);
  return (
    <li class={`task ${bad ? "failure" : ""}`}>
      <span class="task-icon"><Icon name={bad ? "alert" : "info"} /></span>
      <div class="task-body">
        <p class="task-title"><b>{messageTitle(message)}</b> {messageSubject(message)}</p>
        {message.body !== "" && <p class="pre">{message.body}</p>}
        <p class="faint task-when"><When time={message.timestamp} /></p>
      </div>
      <Button kind="quiet" icon="close" iconOnly label="Delete message"
        onClick={() => void runJob("Delete message", messageTitle(message), async () => client().call("message.destroy", messageRef))} />
    </li>
  );
}

const SHOWN = 100;

export function Drawer() {
  const open = useCell(drawerOpen);
  const data = useStore();
  const [tab, setTab] = useState("tasks");
  const box = useRef<HTMLElement>(null);
  const tasks = useMemo(() => data.all("task").filter(([, t]) => t.subtask_of === undefined || !data.get("task", t.subtask_of))
    .sort(([, a], [, b]) => Number(isRunning(b)) - Number(isRunning(a)) ||
      (b.finished > "1971" ? b.finished : b.created).localeCompare(a.finished > "1971" ? a.finished : a.created)),
  [data.generation.value]);
  const messages = useMemo(() => data.all("message").sort(([, a], [, b]) => b.timestamp.localeCompare(a.timestamp)), [data.generation.value]);
  useEffect(() => {
    if (open) {
      box.current?.focus();
    }
  }, [open]);
  if (!open) {
    return null;
  }
  const finished = tasks.filter(([, t]) => !isRunning(t));
  const clear = () => void runJob("Clear", `${finished.length} finished tasks`, async () => {
    for (const [ref] of finished) {
      await client().call("task.destroy", ref);
    }
  });
  return (
    <aside class="drawer" aria-label="Tasks and messages" ref={box} tabIndex={-1}
      onKeyDown={(e) => { if (e.key === "Escape") drawerOpen.set(false); }}>
      <div class="drawer-head">
        <Tabs label="Tasks and messages" chosen={tab} choose={setTab} tabs={[
          { id: "tasks", label: "Tasks", count: tasks.length }, { id: "messages", label: "Messages", count: messages.length }]} />
        <Button kind="quiet" icon="close" iconOnly label="Close" onClick={() => drawerOpen.set(false)} />
      </div>
      <div class="drawer-body" role="tabpanel" id="tab-panel" aria-labelledby={`tab-${tab}`}>
        {tab === "tasks"
          ? tasks.length > 0
            ? (
              <>
                <ul class="task-list">{tasks.slice(0, SHOWN).map(([ref, task]) => <TaskRow key={ref} taskRef={ref} task={task} />)}</ul>
                {tasks.length > SHOWN && <p class="faint pad">And {tasks.length - SHOWN} older ones.</p>}
                {finished.length > 0 && <div class="pad"><Button kind="quiet" icon="trash" label="Clear finished tasks" onClick={clear} /></div>}
              </>
            )
            : <Empty icon="tasks" title="No tasks"><p>What the pool does, for you and for others, is listed here with its progress.</p></Empty>
          : messages.length > 0
            ? <ul class="task-list">{messages.slice(0, SHOWN).map(([ref, m]) => <MessageRow key={ref} messageRef={ref} message={m} />)}</ul>
            : <Empty icon="info" title="No messages"><p>The pool leaves a message here when something happens by itself, such as a guest that stops.</p></Empty>}
      </div>
    </aside>
  );
}
