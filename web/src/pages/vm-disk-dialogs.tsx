// What one does with the disks of a VM: the menu of a disk, and the dialogs for a new, another and a larger one.
import { useState } from "preact/hooks";
import { addDisk, attachDisk, deleteDisk, detachDisk, plugDisk, resizeDisk, resizeMethod } from "../state/devices.js";
import { useStore } from "../state/store.js";
import { attachableDisks, diskSrs, type DiskView, type VmView } from "../state/vms.js";
import { Button, Empty, Field } from "../ui/basics.js";
import { ask, Dialog, DialogFoot, openDialog } from "../ui/dialog.js";
import { bytes } from "../ui/format.js";
import type { MenuItem } from "../ui/menu.js";
import { SrSelect } from "./sr-select.js";

const GIB = 1024 ** 3;

export function diskItems(view: VmView, disk: DiskView): (MenuItem | "line")[] {
  const can = (operation: string) => disk.vbd.allowed_operations.includes(operation);
  const name = disk.vdi?.name_label || `drive ${disk.vbd.userdevice}`;
  const attached = disk.vbd.currently_attached;
  const free = !attached || can("unplug");
  const why = free ? undefined : "Not while the disk is attached.";
  const unplugged = attached ? " It is unplugged from the running VM first." : "";
  return [
    {
      id: "resize", label: "Resize…", icon: "expand", disabled: !disk.vdi || !resizeMethod(disk),
      title: resizeMethod(disk) ? undefined : attached ? "Its storage cannot resize it while it is attached." : "Its storage cannot resize it now.",
      run: () => openDialog((close) => <ResizeDialog disk={disk} onClose={close} />),
    },
    ...(can("plug") ? [{ id: "plug", label: "Plug in", icon: "check" as const, run: () => void plugDisk(disk, true) }] : []),
    ...(can("unplug") ? [{ id: "unplug", label: "Unplug", icon: "eject" as const, run: () => void plugDisk(disk, false) }] : []),
    "line",
    {
      id: "detach", label: "Detach…", icon: "eject", disabled: !free, title: why,
      run: () => ask({
        title: `Detach disk “${name}”?`,
        body: <p>{view.vm.name_label} no longer has the disk.{unplugged} What is on it stays on {disk.srName || "its storage"}, and another VM can be given it.</p>,
        confirm: "Detach", icon: "eject", run: () => void detachDisk(disk),
      }),
    },
    {
      id: "delete", label: "Delete…", icon: "trash", danger: true, disabled: !free, title: why,
      run: () => ask({
        title: `Delete disk “${name}”?`,
        body: <p>{bytes(disk.vdi?.virtual_size)} on {disk.srName}. What is on the disk is lost for good.{unplugged}</p>,
        confirm: "Delete", icon: "trash", run: () => void deleteDisk(disk),
      }),
    },
  ];
}

export function NewDiskDialog({ view, onClose }: { view: VmView; onClose: () => void }) {
  const data = useStore();
  const srs = diskSrs(data);
  const pool = data.all("pool")[0]?.[1];
  const [name, setName] = useState(`${view.vm.name_label} data`);
  const [size, setSize] = useState(8);
  const [sr, setSr] = useState(srs.find(([ref]) => ref === pool?.default_SR)?.[0] ?? srs[0]?.[0] ?? "");
  const submit = (e: Event) => {
    e.preventDefault();
    void addDisk(view, { name, sr, sizeBytes: Math.round(size * GIB) });
    onClose();
  };
  return (
    <Dialog title="New disk" onClose={onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <Field label="Name">
            {(ties) => <input {...ties} class="input" required value={name} onInput={(e) => setName(e.currentTarget.value)} autoFocus />}
          </Field>
          <div class="field-row">
            <Field label="Size (GiB)">
              {(ties) => <input {...ties} class="input" type="number" min={0.001} step="any" required value={size} onInput={(e) => setSize(e.currentTarget.valueAsNumber || 0)} />}
            </Field>
            <SrSelect label="Storage" srs={srs} value={sr} choose={setSr} />
          </div>
          {view.state === "Running" && <small class="faint">The running VM gets the disk at once.</small>}
        </div>
        <DialogFoot icon="plus" label="Make the disk" disabled={sr === ""} onClose={onClose} />
      </form>
    </Dialog>
  );
}

export function AttachDiskDialog({ view, onClose }: { view: VmView; onClose: () => void }) {
  const data = useStore();
  const disks = attachableDisks(data, view.vm);
  const [picked, setPicked] = useState("");
  const [readOnly, setReadOnly] = useState(false);
  const chosen = disks.find((d) => d.ref === picked) ?? disks[0];
  const submit = (e: Event) => {
    e.preventDefault();
    if (chosen) {
      void attachDisk(view, chosen.ref, chosen.vdi.name_label, readOnly || chosen.vdi.read_only);
    }
    onClose();
  };
  return (
    <Dialog title={`Attach a disk to ${view.vm.name_label}`} onClose={onClose}>
      {disks.length === 0
        ? <Empty icon="disk" title="No disk is free"><p>Every disk of the pool is some VM’s. A disk that is detached from its VM is offered here.</p><Button label="Close" onClick={onClose} /></Empty>
        : (
          <form onSubmit={submit}>
            <div class="dialog-body form">
              <div class="choices" role="radiogroup" aria-label="Disk">
                {disks.map((d) => (
                  <label key={d.ref} class="choice">
                    <input type="radio" name="disk" value={d.ref} checked={d === chosen} onChange={() => setPicked(d.ref)} />
                    <span class="vm-name"><span>{d.vdi.name_label || <i>no name</i>}</span><span class="faint">{bytes(d.vdi.virtual_size)} on {d.srName}</span></span>
                  </label>
                ))}
              </div>
              <label class="check"><input type="checkbox" checked={readOnly || chosen?.vdi.read_only} disabled={chosen?.vdi.read_only} onChange={(e) => setReadOnly(e.currentTarget.checked)} /> Read-only</label>
            </div>
            <DialogFoot icon="plus" label="Attach" onClose={onClose} />
          </form>
        )}
    </Dialog>
  );
}

function ResizeDialog({ disk, onClose }: { disk: DiskView; onClose: () => void }) {
  const now = disk.vdi?.virtual_size ?? 0;
  const [size, setSize] = useState(Math.ceil((now / GIB) * 1000) / 1000);
  const submit = (e: Event) => {
    e.preventDefault();
    void resizeDisk(disk, Math.round(size * GIB));
    onClose();
  };
  return (
    <Dialog title={`Size of disk “${disk.vdi?.name_label ?? ""}”`} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <Field label="Size (GiB)" hints="A disk can only grow. The guest then has to enlarge its partition and file system.">
            {(ties) => (
              <input {...ties} class="input" type="number" min={Math.ceil((now / GIB) * 1000) / 1000} step="any" required value={size} autoFocus
                onInput={(e) => setSize(e.currentTarget.valueAsNumber || 0)} />
            )}
          </Field>
        </div>
        <DialogFoot icon="expand" label="Resize" disabled={Math.round(size * GIB) <= now} onClose={onClose} />
      </form>
    </Dialog>
  );
}
