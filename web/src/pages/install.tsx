// "New VM": choose a template, name and size it.
import { useMemo, useState } from "preact/hooks";
import { install } from "../state/install.js";
import { describedDisks } from "../state/provision.js";
import { isNull } from "../state/jobs.js";
import { useStore } from "../state/store.js";
import { disksOf, insertableDiscs } from "../state/vms.js";
import { Button, Empty, Field } from "../ui/basics.js";
import { Dialog, DialogFoot } from "../ui/dialog.js";
import { bytes, collator } from "../ui/format.js";
import type { SR, VM } from "../api/types.js";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/** A first name that no VM has: "tiny-linux-1" for "Corral tiny Linux". */
function suggestName(template: string, taken: ReadonlySet<string>): string {
  const base = template.replace(/^corral\s+/i, "").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "vm";
  for (let n = 1; ; n++) {
    if (!taken.has(`${base}-${n}`)) {
      return `${base}-${n}`;
    }
  }
}

function holdsDisks(sr: SR): boolean {
  return sr.content_type !== "iso" && sr.type !== "iso" && sr.type !== "udev" && sr.PBDs.length > 0;
}

/** `template`: the one that is chosen at first. */
export function InstallDialog({ template: asked = "", onClose }: { template?: string; onClose: () => void }) {
  const data = useStore();
  const templates = useMemo(
    () => data.all("vm").filter(([, vm]) => vm.is_a_template && !vm.is_a_snapshot && vm.allowed_operations.includes("clone"))
      .sort(([, a], [, b]) => collator.compare(a.name_label, b.name_label)),
    [data.generation.value]);
  const [chosen, setTemplateRef] = useState(asked);
  const templateRef = chosen || (templates.find(([, t]) => /corral/i.test(t.name_label)) ?? templates[0])?.[0] || "";
  const template = data.get("vm", templateRef);
  if (!template) {
    return (
      <Dialog title="New VM" onClose={onClose}>
        <Empty icon="vm" title="There is no template">
          <p>A VM is made from a template. The pool makes “Corral tiny Linux” when it is first started; look at the tasks for what it is doing, or make one with <code>xe vm-param-set is-a-template=true</code>.</p>
          <Button label="Close" onClick={onClose} />
        </Empty>
      </Dialog>
    );
  }
  return (
    <Dialog title="New VM" onClose={onClose} wide>
      <InstallForm key={templateRef} templateRef={templateRef} template={template} templates={templates}
        choose={setTemplateRef} onClose={onClose} />
    </Dialog>
  );
}

function InstallForm({ templateRef, template, templates, choose, onClose }: {
  templateRef: string; template: VM; templates: readonly [string, VM][]; choose: (ref: string) => void; onClose: () => void;
}) {
  const data = useStore();
  const pool = data.all("pool")[0]?.[1];
  const taken = useMemo(() => new Set(data.all("vm").map(([, vm]) => vm.name_label)), []);
  const srs = data.all("sr").filter(([, sr]) => holdsDisks(sr)).sort(([, a], [, b]) => collator.compare(a.name_label, b.name_label));
  const preferred = pool && !isNull(pool.default_SR) && data.get("sr", pool.default_SR) ? pool.default_SR : srs[0]?.[0] ?? "";
  const [name, setName] = useState(() => suggestName(template.name_label, taken));
  const [description, setDescription] = useState("");
  const [vcpus, setVcpus] = useState(template.VCPUs_max || 1);
  const [memory, setMemory] = useState(Math.round(template.memory_dynamic_max / MIB) || 256);
  const [srRef, setSrRef] = useState(preferred);
  const [start, setStart] = useState(true);
  const described = describedDisks(template.other_config.disks);
  const cloned = disksOf(data, template).filter((d) => d.vbd.type === "Disk" && d.vdi);
  // A template for systems that install themselves: it needs a disk to install to and a disc to start from.
  const bare = described.length === 0 && cloned.length === 0;
  const bootsDisc = template.PV_kernel === "";
  const discs = bootsDisc ? insertableDiscs(data) : [];
  const [diskGib, setDiskGib] = useState(bare && bootsDisc ? 8 : 0);
  const [disc, setDisc] = useState("");
  const wantsDisks = described.length > 0 || diskGib > 0;
  const needsSr = wantsDisks && srs.length === 0;

  const submit = (e: Event) => {
    e.preventDefault();
    void install({
      template: templateRef, name: name.trim(), description: description.trim(), vcpus, memoryBytes: memory * MIB,
      srUuid: data.get("sr", srRef)?.uuid ?? "", firstDiskBytes: bare ? diskGib * GIB : 0, disc, start,
    });
    onClose();
  };
  return (
    <form onSubmit={submit}>
      <div class="dialog-body form">
        <Field label="Template" hints={template.name_description !== "" && <span>{template.name_description}</span>}>
          {(ties) => (
            <select {...ties} class="input" value={templateRef} onChange={(e) => choose(e.currentTarget.value)}>
              {templates.map(([ref, t]) => <option key={ref} value={ref}>{t.name_label}</option>)}
            </select>
          )}
        </Field>
        <Field label="Name" hints={taken.has(name.trim()) && <span class="warn-text">Another VM has this name already. That is allowed, but confusing.</span>}>
          {(ties) => <input {...ties} class="input" required maxLength={255} value={name} onInput={(e) => setName(e.currentTarget.value)} autoFocus />}
        </Field>
        <Field label="Description">
          {(ties) => <input {...ties} class="input" value={description} placeholder="What is it for? (optional)" onInput={(e) => setDescription(e.currentTarget.value)} />}
        </Field>
        <div class="field-row">
          <Field label="vCPUs">
            {(ties) => <input {...ties} class="input" type="number" min={1} max={64} step={1} required value={vcpus} onInput={(e) => setVcpus(e.currentTarget.valueAsNumber || 1)} />}
          </Field>
          <Field label="Memory (MiB)">
            {(ties) => <input {...ties} class="input" type="number" min={32} step={1} required value={memory} onInput={(e) => setMemory(e.currentTarget.valueAsNumber || 0)} />}
          </Field>
        </div>
        {bootsDisc && (
          <div class="field-row">
            {bare && (
              <Field label="Disk (GiB)" hints={<span>0: no disk</span>}>
                {(ties) => <input {...ties} class="input" type="number" min={0} step="any" required value={diskGib} onInput={(e) => setDiskGib(e.currentTarget.valueAsNumber || 0)} />}
              </Field>
            )}
            <Field label="Disc to start from" hints={discs.length === 0 && <span>Put ISO files into the folder of an ISO library to choose one here.</span>}>
              {(ties) => (
                <select {...ties} class="input" value={disc} onChange={(e) => setDisc(e.currentTarget.value)}>
                  <option value="">none</option>
                  {discs.map((d) => <option key={d.ref} value={d.ref}>{d.vdi.name_label}</option>)}
                </select>
              )}
            </Field>
          </div>
        )}
        <Field label="Storage for new disks" hints={
          <>
            <span>
              {described.length > 0
                ? `New: ${described.map((d) => `disk ${d.device}, ${bytes(d.size)}`).join("; ")}.`
                : diskGib > 0 ? `New: disk 0, ${bytes(diskGib * GIB)}.` : cloned.length > 0 ? "The template’s own disks are cloned where they are." : "This template has no disks."}
              {described.length > 0 && cloned.length > 0 ? ` And ${cloned.length} of the template’s own are cloned where they are.` : ""}
            </span>
            {needsSr && <span class="warn-text">No storage can take the disks. Make one first: xe sr-create.</span>}
          </>
        }>
          {(ties) => (
            <select {...ties} class="input" value={srRef} disabled={!wantsDisks} onChange={(e) => setSrRef(e.currentTarget.value)}>
              {srs.length === 0 && <option value="">none</option>}
              {srs.map(([ref, sr]) => (
                <option key={ref} value={ref}>
                  {sr.name_label} – {bytes(sr.physical_size - sr.physical_utilisation)} free{ref === pool?.default_SR ? " (default)" : ""}
                </option>
              ))}
            </select>
          )}
        </Field>
        <label class="check">
          <input type="checkbox" checked={start} onChange={(e) => setStart(e.currentTarget.checked)} />
          <span>Start it when it is installed</span>
        </label>
      </div>
      <DialogFoot icon="plus" label="Install" disabled={needsSr || name.trim() === ""} onClose={onClose} />
    </form>
  );
}
