// Templates: what new VMs are made from. Installed from, described, exported, and one's own deleted.
import { useMemo, useState } from "preact/hooks";
import { exportVm } from "../state/export.js";
import { useStore } from "../state/store.js";
import { makeVm, renameTemplate, templatesOf, type TemplateView } from "../state/templates.js";
import { Button, Empty, Field, PageHead } from "../ui/basics.js";
import { ask, Dialog, DialogFoot, openDialog } from "../ui/dialog.js";
import { bytes } from "../ui/format.js";
import { Menu, type MenuItem } from "../ui/menu.js";
import { DataTable, type Column } from "../ui/table.js";
import { InstallDialog } from "./install.js";
import { CopyDialog } from "./vm-copy.js";
import { askDelete } from "./vm-menu.js";

const columns: readonly Column<TemplateView>[] = [
  {
    id: "name", label: "Name", class: "main", sort: (t) => t.vm.name_label,
    render: (t) => (
      <span class="vm-name">
        <span>{t.vm.name_label || <i>no name</i>}{t.supplied && <span class="tag">supplied</span>}</span>
        {t.vm.name_description !== "" && <span class="faint ellipsis" title={t.vm.name_description}>{t.vm.name_description}</span>}
      </span>
    ),
  },
  { id: "purpose", label: "A new VM begins as", class: "wide", sort: (t) => t.operation?.words ?? t.purpose, render: (t) => t.operation ? `${t.operation.words}…` : t.purpose },
  { id: "disks", label: "Disks", class: "num", sort: (t) => t.disks.length, render: (t) => t.disks.length > 0 ? t.disks.map((size) => bytes(size)).join(", ") : <span class="faint">none</span> },
  { id: "vcpus", label: "vCPUs", class: "num", sort: (t) => t.vcpus, render: (t) => t.vcpus },
  { id: "memory", label: "Memory", class: "num", sort: (t) => t.memory, render: (t) => bytes(t.memory) },
  {
    id: "actions", label: "Actions", class: "row-actions",
    render: (t) => (
      <span class="actions">
        <Button kind="quiet" icon="plus" iconOnly label={`New VM from ${t.vm.name_label}`} disabled={!t.vm.allowed_operations.includes("clone")} onClick={() => installFrom(t)} />
        <Menu label={`Actions for ${t.vm.name_label}`} items={items(t)} />
      </span>
    ),
  },
];

function installFrom(t: TemplateView): void {
  openDialog((close) => <InstallDialog template={t.ref} onClose={close} />);
}

function items(t: TemplateView): (MenuItem | "line")[] {
  const busy = t.operation ? `Not while this runs: ${t.operation.words.toLowerCase()}.` : undefined;
  const unless = (operation: string, why = busy) => {
    const title = why ?? (t.vm.allowed_operations.includes(operation) ? undefined : busy ?? "The server does not allow it now.");
    return { disabled: title !== undefined, title };
  };
  const supplied = t.supplied ? "It came with the pool." : undefined;
  return [
    { id: "install", label: "New VM…", icon: "plus", ...unless("clone"), run: () => installFrom(t) },
    { id: "clone", label: "Clone…", icon: "copy", ...unless("clone"), run: () => openDialog((close) => <CopyDialog view={t} full={false} onClose={close} />) },
    { id: "describe", label: "Rename and describe…", icon: "edit", run: () => openDialog((close) => <DescribeDialog template={t} onClose={close} />) },
    { id: "export", label: "Export…", icon: "download", ...unless("export"), run: () => void exportVm(t) },
    "line",
    {
      id: "vm", label: "Make a VM of it…", icon: "vm", disabled: (supplied ?? busy) !== undefined, title: supplied ?? busy, run: () => ask({
        title: `Make a VM of ${t.vm.name_label}?`, body: <p>It leaves the templates and can be started; new VMs can no longer be made from it.</p>,
        confirm: "Make a VM", icon: "vm", run: () => void makeVm(t),
      }),
    },
    { id: "delete", label: "Delete…", icon: "trash", danger: true, ...unless("destroy", supplied ?? busy), run: () => askDelete([t]) },
  ];
}

function DescribeDialog({ template, onClose }: { template: TemplateView; onClose: () => void }) {
  const [name, setName] = useState(template.vm.name_label);
  const [description, setDescription] = useState(template.vm.name_description);
  const submit = (e: Event) => {
    e.preventDefault();
    void renameTemplate(template, name.trim(), description.trim());
    onClose();
  };
  return (
    <Dialog title={`Describe ${template.vm.name_label}`} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <Field label="Name">{(ties) => <input {...ties} class="input" required maxLength={255} value={name} onInput={(e) => setName(e.currentTarget.value)} autoFocus />}</Field>
          <Field label="What it is for">{(ties) => <input {...ties} class="input" value={description} onInput={(e) => setDescription(e.currentTarget.value)} />}</Field>
        </div>
        <DialogFoot icon="check" label="Save" disabled={name.trim() === ""} onClose={onClose} />
      </form>
    </Dialog>
  );
}

export function TemplatesPage({ marked }: { marked: string }) {
  const data = useStore();
  const templates = useMemo(() => templatesOf(data), [data.generation.value]);
  return (
    <div class="page">
      <PageHead title="Templates" />
      {templates.length > 0
        ? (
          <DataTable label="Templates" columns={columns} rows={templates} keyOf={(t) => t.ref} nameOf={(t) => t.vm.name_label} sortedBy="name"
            marked={templates.find((t) => t.vm.uuid === marked)?.ref} />
        )
        : data.loaded.value
          ? <Empty icon="template" title="No template yet"><p>VMs are made from templates. A VM that is shut down becomes one by “Make a template…” in its menu.</p></Empty>
          : <div class="loading"><span class="spinner" /> Loading…</div>}
    </div>
  );
}
