// The VM's disks and CD drives: sizes, where they are, discs in and out.
import { useState } from "preact/hooks";
import { client } from "../state/session.js";
import { runJob, runTask } from "../state/jobs.js";
import { useStore } from "../state/store.js";
import { href } from "../state/router.js";
import { cdDrive } from "../state/devices.js";
import { disksOf, insertableDiscs, type DiskView, type VmView } from "../state/vms.js";
import { Bar, Button, Card, Empty } from "../ui/basics.js";
import { Dialog, DialogFoot, openDialog } from "../ui/dialog.js";
import { bytes, percent } from "../ui/format.js";
import { Icon } from "../ui/icons.js";
import { Menu } from "../ui/menu.js";
import { DataTable, type Column } from "../ui/table.js";
import { AttachDiskDialog, diskItems, NewDiskDialog } from "./vm-disk-dialogs.js";

export function DisksTab({ view }: { view: VmView }) {
  const data = useStore();
  const [inserting, setInserting] = useState<DiskView | null>(null);
  const all = disksOf(data, view.vm);
  const disks = all.filter((d) => d.vbd.type !== "CD");
  const drives = all.filter((d) => d.vbd.type === "CD");
  const name = view.vm.name_label;
  const running = view.state === "Running" || view.state === "Paused";

  const addDrive = () => void runJob("New CD drive for", name, async () => {
    await client().call("VBD.create", cdDrive(view.ref, null));
  });

  const columns: readonly Column<DiskView>[] = [
    {
      id: "name", label: "Disk", class: "main", sort: (d) => Number(d.vbd.userdevice),
      render: (d) => (
        <span class="vm-name">
          <span>{d.vdi ? d.vdi.name_label || <i>no name</i> : <i>missing disk</i>}</span>
          {d.vdi?.name_description ? <span class="faint ellipsis">{d.vdi.name_description}</span> : null}
        </span>
      ),
    },
    { id: "device", label: "Device", sort: (d) => Number(d.vbd.userdevice), render: (d) => <span class="mono">{d.vbd.device || d.vbd.userdevice}</span> },
    { id: "size", label: "Size", class: "num", sort: (d) => d.vdi?.virtual_size ?? 0, render: (d) => bytes(d.vdi?.virtual_size) },
    {
      id: "used", label: "On storage", class: "wide", sort: (d) => d.vdi?.physical_utilisation ?? 0,
      render: (d) => d.vdi
        ? <span class="usage inline"><span class="usage-text">{bytes(d.vdi.physical_utilisation)}</span><Bar value={percent(d.vdi.physical_utilisation, d.vdi.virtual_size)} label="Used on storage" /></span>
        : null,
    },
    {
      id: "sr", label: "Storage", sort: (d) => d.srName,
      render: (d) => {
        const sr = data.get("sr", d.vdi?.SR);
        return sr ? <a class="soft" href={href("storage", sr.uuid)}>{sr.name_label}</a> : <span class="faint">–</span>;
      },
    },
    {
      id: "mode", label: "Access", class: "wide",
      render: (d) => <>{d.vbd.mode === "RO" ? "read-only" : "read, write"}{d.vbd.bootable && <span class="tag">boot</span>}{d.vbd.currently_attached && <span class="tag good">attached</span>}</>,
    },
    {
      id: "actions", label: "Actions", class: "row-actions",
      render: (d) => <Menu label={`Actions for disk ${d.vdi?.name_label || d.vbd.userdevice}`} items={diskItems(view, d)} />,
    },
  ];

  return (
    <div class="stack-wide">
      <Card title="Disks" flush actions={
        <>
          <Button kind="quiet" icon="plus" label="Attach…" onClick={() => openDialog((close) => <AttachDiskDialog view={view} onClose={close} />)} />
          <Button kind="quiet" icon="plus" label="New disk" onClick={() => openDialog((close) => <NewDiskDialog view={view} onClose={close} />)} />
        </>
      }>
        {disks.length > 0
          ? <DataTable label="Disks" columns={columns} rows={disks} keyOf={(d) => d.vbdRef} nameOf={(d) => d.vdi?.name_label ?? ""} sortedBy="device" />
          : <Empty icon="disk" title="No disks"><p>This VM has nothing to keep data on. Add a disk to change that.</p></Empty>}
      </Card>
      <Card title="CD drives" flush actions={<Button kind="quiet" icon="plus" label="New CD drive" disabled={running} onClick={addDrive}
        title={running ? "Shut the VM down to give it a drive." : undefined} />}>
        {drives.length === 0 && <Empty icon="cd" title="No CD drive"><p>To install from an ISO image, give the VM a drive first.</p></Empty>}
        <ul class="drives">
          {drives.map((d) => (
            <li key={d.vbdRef}>
              <Icon name="cd" size={20} />
              <span class="vm-name">
                <span>{d.vbd.empty || !d.vdi ? <span class="faint">Empty</span> : d.vdi.name_label}</span>
                <span class="faint">Drive {d.vbd.userdevice}{d.vdi && !d.vbd.empty ? `, ${bytes(d.vdi.virtual_size)} from ${d.srName}` : ""}</span>
              </span>
              <Button icon="cd" label="Insert…" disabled={!d.vbd.empty && !d.vbd.allowed_operations.includes("eject")} onClick={() => setInserting(d)} />
              <Button icon="eject" label="Eject" disabled={d.vbd.empty || !d.vbd.allowed_operations.includes("eject")}
                onClick={() => void runTask("Eject", d.vdi?.name_label ?? "", "VBD.eject", d.vbdRef)} />
            </li>
          ))}
        </ul>
      </Card>
      {inserting && <InsertDialog drive={inserting} vmName={name} onClose={() => setInserting(null)} />}
    </div>
  );
}

function InsertDialog({ drive, vmName, onClose }: { drive: DiskView; vmName: string; onClose: () => void }) {
  const data = useStore();
  const discs = insertableDiscs(data);
  const libraries = data.all("sr").filter(([, sr]) => sr.content_type === "iso" || sr.type === "iso");
  const [chosen, setChosen] = useState(discs[0]?.ref ?? "");
  const rescan = () => {
    for (const [ref, sr] of libraries) {
      void runTask("Look for new discs in", sr.name_label, "SR.scan", ref);
    }
  };
  const submit = (e: Event) => {
    e.preventDefault();
    const disc = discs.find((d) => d.ref === chosen);
    void runJob("Insert", `${disc?.vdi.name_label ?? ""} into ${vmName}`, async (steps) => {
      if (!drive.vbd.empty) {
        steps.say("Ejecting the former disc");
        await steps.run("VBD.eject", drive.vbdRef);
      }
      await steps.run("VBD.insert", drive.vbdRef, chosen);
    });
    onClose();
  };
  return (
    <Dialog title="Insert a disc" onClose={onClose}>
      {discs.length === 0
        ? (
          <Empty icon="cd" title="No disc images">
            <p>{libraries.length > 0
              ? <>Put ISO files into the folder of “{libraries[0]?.[1].name_label}”, then look again.</>
              : <>There is no library of ISO images. Make one: <code>xe sr-create type=iso content-type=iso</code>.</>}
            </p>
            {libraries.length > 0 && <Button icon="refresh" label="Look again" onClick={rescan} />}
          </Empty>
        )
        : (
          <form onSubmit={submit}>
            <div class="dialog-body form">
              <div class="choices" role="radiogroup" aria-label="Disc">
                {discs.map((d) => (
                  <label key={d.ref} class="choice">
                    <input type="radio" name="disc" value={d.ref} checked={d.ref === chosen} onChange={() => setChosen(d.ref)} />
                    <span class="vm-name"><span>{d.vdi.name_label}</span><span class="faint">{bytes(d.vdi.virtual_size)}, {d.srName}</span></span>
                  </label>
                ))}
              </div>
              <Button kind="quiet" icon="refresh" label="Look for new discs" onClick={rescan} />
            </div>
            <DialogFoot icon="cd" label="Insert" onClose={onClose} />
          </form>
        )}
    </Dialog>
  );
}
