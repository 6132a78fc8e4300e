// "Maintenance…": a host takes no new VMs, and those on it go to other hosts while they run.
import { useEffect, useState } from "preact/hooks";
import { ApiError } from "../api/errors.js";
import { runJob } from "../state/jobs.js";
import { client } from "../state/session.js";
import { store } from "../state/store.js";
import { Dialog, DialogFoot } from "../ui/dialog.js";
import { ErrorText } from "../ui/error.js";
import { plural } from "../ui/format.js";

interface Answer {
  /** VMs that cannot leave, with what the server says. */
  stuck: { vm: string; error: unknown }[];
  error: unknown;
}

function enter(host: string, name: string): void {
  void runJob("Maintenance of", name, async (steps) => {
    steps.say("No new VMs");
    await steps.run("host.disable", host);
    steps.say("VMs go to other hosts");
    steps.hint("The host stays disabled; VMs that did not leave go on running on it. “Enable” lets it take VMs again.");
    await steps.run("host.evacuate", host);
    steps.hint("");
  });
}

export function MaintenanceDialog({ hostRef, name, vms, onClose }: { hostRef: string; name: string; vms: number; onClose: () => void }) {
  const [answer, setAnswer] = useState<Answer | null>(null);
  useEffect(() => {
    let wanted = true;
    client().call("host.get_vms_which_prevent_evacuation", hostRef).then(
      (found) => ({ stuck: Object.entries(found).map(([vm, list]) => ({ vm, error: ApiError.fromList(list) })), error: null }),
      (error: unknown) => ({ stuck: [], error }),
    ).then((result) => {
      if (wanted) {
        setAnswer(result);
      }
    });
    return () => { wanted = false; };
  }, []);
  const submit = (e: Event) => {
    e.preventDefault();
    enter(hostRef, name);
    onClose();
  };
  const goes = answer !== null && answer.error === null && answer.stuck.length === 0;
  return (
    <Dialog title={`Maintenance of ${name}`} onClose={onClose} wide>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <p>
            The host takes no new VMs until it is enabled again. {vms === 0 ? "No VM runs on it." : `${plural(vms, "VM")} on it ${vms === 1 ? "goes" : "go"} to other hosts, running on meanwhile.`}
          </p>
          {answer === null && <div class="loading"><span class="spinner" /> Asking whether all can leave…</div>}
          {answer?.error ? <div class="callout bad" role="alert"><ErrorText error={answer.error} /></div> : null}
          {answer !== null && answer.stuck.length > 0 && (
            <>
              <p class="warn-text">These cannot leave. Shut them down or suspend them first:</p>
              <ul class="delete-list" aria-label="VMs that cannot leave">
                {answer.stuck.map(({ vm, error }) => <li key={vm}><b>{store.get("vm", vm)?.name_label ?? "a VM"}</b><ErrorText error={error} /></li>)}
              </ul>
            </>
          )}
        </div>
        <DialogFoot icon="move" label="Begin" disabled={!goes} onClose={onClose} />
      </form>
    </Dialog>
  );
}
