// "Clone…" and "Copy in full…": another VM like this one.
import { useState } from "preact/hooks";
import { useStore } from "../state/store.js";
import { copyVm } from "../state/vm-actions.js";
import { diskSrs, type VmView } from "../state/vms.js";
import { Field } from "../ui/basics.js";
import { Dialog, DialogFoot } from "../ui/dialog.js";
import { SrSelect } from "./sr-select.js";

export function CopyDialog({ view, full, onClose }: { view: VmView; full: boolean; onClose: () => void }) {
  const data = useStore();
  const [name, setName] = useState(`${view.vm.name_label} copy`);
  const [sr, setSr] = useState(data.all("pool")[0]?.[1].default_SR ?? "");
  const srs = diskSrs(data);
  const target = srs.some(([ref]) => ref === sr) ? sr : srs[0]?.[0] ?? "";
  const submit = (e: Event) => {
    e.preventDefault();
    void copyVm(view, name, full ? target : null);
    onClose();
  };
  return (
    <Dialog title={`${full ? "Copy" : "Clone"} ${view.vm.name_label}`} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <p class="faint">
            {full ? "Every disk is copied into the storage you choose; the copy has nothing in common with this VM."
              : "The clone’s disks begin as those of this VM, in the same storage, and share what neither has changed."}
          </p>
          <Field label="Name of the new VM">
            {(ties) => <input {...ties} class="input" required value={name} onInput={(e) => setName(e.currentTarget.value)} autoFocus />}
          </Field>
          {full && <SrSelect label="Storage" srs={srs} value={target} choose={setSr} />}
        </div>
        <DialogFoot icon="copy" label={full ? "Copy" : "Clone"} disabled={full && target === ""} onClose={onClose} />
      </form>
    </Dialog>
  );
}
