// The VM's snapshots: taken with or without memory, returned to, deleted.
import { useState } from "preact/hooks";
import { runJob, runTask } from "../state/jobs.js";
import { useStore } from "../state/store.js";
import { deleteVm } from "../state/vm-actions.js";
import { ownedDisks, snapshotsOf, type VmView } from "../state/vms.js";
import { Button, Card, Empty, Field, When } from "../ui/basics.js";
import { ask, Dialog, DialogFoot } from "../ui/dialog.js";
import { bytes, parseTime } from "../ui/format.js";
import { DataTable, type Column } from "../ui/table.js";

function hasMemory(snapshot: VmView): boolean {
  return snapshot.state === "Suspended";
}

export function SnapshotsTab({ view }: { view: VmView }) {
  const data = useStore();
  const [taking, setTaking] = useState(false);
  const { vm } = view;
  const snapshots = snapshotsOf(data, vm);
  const size = (s: VmView) => ownedDisks(data, s.vm).reduce((sum, d) => sum + (d.vdi?.virtual_size ?? 0), 0);
  const on = view.state === "Running" || view.state === "Paused";

  const revert = (s: VmView) => ask({
    title: `Return ${vm.name_label} to “${s.vm.name_label}”?`,
    body: (
      <>
        <p>Its disks and settings become what they were <When time={s.vm.snapshot_time} />. What came after that is lost, unless another snapshot has it.</p>
        {on && <p>The VM is running: its power is cut first.</p>}
        {hasMemory(s) && <p>The VM is suspended then, with the memory of the snapshot: resume it to go on from there.</p>}
      </>
    ),
    confirm: "Return to it", icon: "restart",
    run: () => void runTask("Return to", s.vm.name_label, "VM.revert", s.ref),
  });
  const remove = (s: VmView) => ask({
    title: `Delete snapshot “${s.vm.name_label}”?`,
    body: <p>The VM keeps its disks as they are; it cannot be returned to this snapshot any more.</p>,
    confirm: "Delete", icon: "trash",
    run: () => void deleteVm(s),
  });

  const columns: readonly Column<VmView>[] = [
    {
      id: "name", label: "Snapshot", class: "main", sort: (s) => s.vm.name_label,
      render: (s) => (
        <span class="vm-name">
          <span>{s.vm.name_label || <i>no name</i>}</span>
          {s.operation && <span class="faint">{s.operation.words}…</span>}
        </span>
      ),
    },
    {
      id: "taken", label: "Taken", sort: (s) => parseTime(s.vm.snapshot_time)?.getTime() ?? 0,
      render: (s) => <When time={s.vm.snapshot_time} />,
    },
    {
      id: "holds", label: "Holds", sort: (s) => Number(hasMemory(s)),
      render: (s) => hasMemory(s) ? "disks and memory" : "disks",
    },
    { id: "size", label: "Disks", class: "num wide", sort: size, render: (s) => bytes(size(s)) },
    {
      id: "actions", label: "Actions", class: "row-actions",
      render: (s) => (
        <>
          <Button kind="quiet" icon="restart" iconOnly label={`Return to ${s.vm.name_label}`}
            disabled={!s.vm.allowed_operations.includes("revert")} onClick={() => revert(s)} />
          <Button kind="quiet" icon="trash" iconOnly label={`Delete snapshot ${s.vm.name_label}`}
            disabled={!s.vm.allowed_operations.includes("destroy")} onClick={() => remove(s)} />
        </>
      ),
    },
  ];

  const able = vm.allowed_operations.includes("snapshot") || vm.allowed_operations.includes("checkpoint");
  return (
    <>
      <Card title="Snapshots" flush actions={<Button kind="quiet" icon="camera" label="Take a snapshot" disabled={!able}
        title={able ? undefined : "The VM allows none now."} onClick={() => setTaking(true)} />}>
        {snapshots.length > 0
          ? <DataTable label="Snapshots" columns={columns} rows={snapshots} keyOf={(s) => s.ref} nameOf={(s) => s.vm.name_label} sortedBy="taken" />
          : <Empty icon="camera" title="No snapshots"><p>Take one before a change that you may want to undo.</p></Empty>}
      </Card>
      {taking && <TakeDialog view={view} onClose={() => setTaking(false)} />}
    </>
  );
}

function TakeDialog({ view, onClose }: { view: VmView; onClose: () => void }) {
  const { vm, ref } = view;
  const canHoldMemory = vm.allowed_operations.includes("checkpoint");
  const canHoldDisks = vm.allowed_operations.includes("snapshot");
  const [name, setName] = useState(`${vm.name_label}, ${new Date().toLocaleString()}`);
  const [memory, setMemory] = useState(!canHoldDisks);
  const submit = (e: Event) => {
    e.preventDefault();
    void runJob("Take snapshot", name, async (steps) => {
      await steps.run(memory ? "VM.checkpoint" : "VM.snapshot", ref, name);
    });
    onClose();
  };
  return (
    <Dialog title={`Snapshot of ${vm.name_label}`} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <Field label="Name">
            {(ties) => <input {...ties} class="input" required value={name} onInput={(e) => setName(e.currentTarget.value)} autoFocus />}
          </Field>
          <label class="check">
            <input type="checkbox" checked={memory} disabled={!canHoldMemory || !canHoldDisks} onChange={(e) => setMemory(e.currentTarget.checked)} />
            <span>With memory: the VM goes on exactly from here when it is returned to. It stands still while its memory is written.</span>
          </label>
          {!canHoldMemory && <small class="faint">Memory can be kept while the VM runs.</small>}
        </div>
        <DialogFoot icon="camera" label="Take it" onClose={onClose} />
      </form>
    </Dialog>
  );
}
