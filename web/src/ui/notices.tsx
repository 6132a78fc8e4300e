// Notices at the corner: what this tab asked for, how far it is, in full what failed, and bad news of the pool.
import { alerts, dismissAlert, messageSubject, messageTitle } from "../state/alerts.js";
import { dismissJob, jobs, type Job } from "../state/jobs.js";
import { useCell } from "../state/cell.js";
import { useStore } from "../state/store.js";
import { Bar, Button } from "./basics.js";
import { ErrorText } from "./error.js";
import { Icon } from "./icons.js";

function Notice({ job }: { job: Job }) {
  const task = useStore().get("task", job.task ?? undefined);
  const progress = task && task.progress > 0 ? task.progress * 100 : null;
  return (
    <li class={`notice ${job.status}`} role={job.status === "failed" ? "alert" : undefined}>
      <span class="notice-icon">
        {job.status === "running" ? <span class="spinner" aria-hidden="true" />
          : <Icon name={job.status === "done" ? "check" : "alert"} />}
      </span>
      <div class="notice-body">
        <p class="notice-title">
          <b>{job.verb}</b> {job.subject}
          <span class="faint">{job.status === "running" ? "" : job.status === "done" ? " – done" : " – failed"}</span>
        </p>
        {job.status === "running" && job.step !== "" && <p class="faint">{job.step}…</p>}
        {job.status === "running" && <Bar value={progress} label={`${job.verb} ${job.subject}`} />}
        {job.status === "failed" && <ErrorText error={job.error} hint={job.hint} />}
      </div>
      <Button kind="quiet" icon="close" iconOnly label="Dismiss" onClick={() => dismissJob(job.id)} />
    </li>
  );
}

export function Notices() {
  const list = useCell(jobs);
  const bad = useCell(alerts);
  return (
    <ol class="notices" aria-label="Notices" aria-live="polite" aria-relevant="additions text">
      {bad.map(({ ref, message }) => (
        <li key={ref} class="notice alert" role="alert">
          <span class="notice-icon"><Icon name="alert" /></span>
          <div class="notice-body">
            <p class="notice-title"><b>{messageTitle(message)}</b> {messageSubject(message)}</p>
            {message.body !== "" && <p class="pre">{message.body}</p>}
          </div>
          <Button kind="quiet" icon="close" iconOnly label="Dismiss" onClick={() => dismissAlert(ref)} />
        </li>
      ))}
      {list.map((job) => <Notice key={job.id} job={job} />)}
    </ol>
  );
}
