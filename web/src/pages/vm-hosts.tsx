// "Migrate…", "Start on…": a host is chosen for one or more VMs; a host that cannot take them says why.
import { useState } from "preact/hooks";
import { useHostChoices, type HostChoice } from "../state/placement.js";
import { useStore } from "../state/store.js";
import type { HostAction } from "../state/vm-actions.js";
import { vmView, type VmView } from "../state/vms.js";
import { Dialog, DialogFoot } from "../ui/dialog.js";
import { ErrorText } from "../ui/error.js";
import { bytes, plural } from "../ui/format.js";

export function HostDialog({ action, refs, onClose }: { action: HostAction; refs: readonly string[]; onClose: () => void }) {
  const data = useStore();
  const choices = useHostChoices(refs);
  const [picked, setPicked] = useState("");
  const views = refs.flatMap((ref) => {
    const vm = data.get("vm", ref);
    return vm ? [vmView(data, ref, vm)] : [];
  });
  const chosen = choices?.find((c) => c.ref === picked) ?? choices?.find((c) => c.takes.length > 0);
  const submit = (e: Event) => {
    e.preventDefault();
    for (const view of views.filter((v) => chosen?.takes.includes(v.ref))) {
      void action.run(view, chosen?.ref ?? "");
    }
    onClose();
  };
  const names = views.length === 1 ? views[0]?.vm.name_label ?? "" : plural(views.length, "VM");
  return (
    <Dialog title={`${action.label} ${action.id === "migrate" ? "" : "a host: "}${names}`} onClose={onClose} wide>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <p class="faint">{needWords(action, views)}</p>
          {choices === null
            ? <div class="loading"><span class="spinner" /> Asking the hosts…</div>
            : (
              <div class="choices" role="radiogroup" aria-label="Host">
                {choices.map((choice) => (
                  <HostRow key={choice.ref} choice={choice} views={views} checked={choice === chosen} choose={() => setPicked(choice.ref)} />
                ))}
              </div>
            )}
          {choices !== null && !chosen && <p class="warn-text">No other host can take {views.length === 1 ? "this VM" : "any of these VMs"} now.</p>}
        </div>
        <DialogFoot icon={action.icon} disabled={!chosen}
          label={`${action.label.split(" ")[0] ?? ""}${chosen && views.length > 1 ? ` ${plural(chosen.takes.length, "VM")}` : ""}`} onClose={onClose} />
      </form>
    </Dialog>
  );
}

function needWords(action: HostAction, views: readonly VmView[]): string {
  const memory = bytes(views.reduce((sum, v) => sum + v.memory, 0));
  return action.id === "migrate"
    ? `${views.length === 1 ? "The VM goes" : "The VMs go"} on running while ${views.length === 1 ? "it moves" : "they move"}. Memory needed: ${memory}.`
    : `Memory needed: ${memory}.`;
}

function HostRow({ choice, views, checked, choose }: { choice: HostChoice; views: readonly VmView[]; checked: boolean; choose: () => void }) {
  const nameOf = (ref: string) => views.find((v) => v.ref === ref)?.vm.name_label ?? "";
  const many = views.length > 1;
  return (
    <label class={`choice${choice.takes.length === 0 ? " off" : ""}`}>
      <input type="radio" name="host" value={choice.ref} checked={checked} disabled={choice.takes.length === 0} onChange={choose} />
      <span class="vm-name whole">
        <span><b>{choice.name}</b> <span class="faint">{choice.memoryFree === null ? "free memory not known" : `${bytes(choice.memoryFree)} free`}{many && choice.takes.length > 0 ? `, takes ${choice.takes.length} of ${views.length}` : ""}</span></span>
        {choice.has.length > 0 && <span class="faint">{many ? `${choice.has.map(nameOf).join(", ")}: already there` : "The VM is here."}</span>}
        {choice.refuses.map(({ vm, error }) => (
          <span key={vm} class="refusal">{many && <b>{nameOf(vm)}</b>}<ErrorText error={error} /></span>
        ))}
      </span>
    </label>
  );
}
