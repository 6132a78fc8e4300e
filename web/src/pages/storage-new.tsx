// "New storage": the kinds that the server offers, each with a form of what it wants to be told.
import { useState } from "preact/hooks";
import { createSr, srKinds } from "../state/storage-actions.js";
import { useStore } from "../state/store.js";
import { Button, Empty, Field } from "../ui/basics.js";
import { Dialog, DialogFoot } from "../ui/dialog.js";
import { collator } from "../ui/format.js";

export function NewSrDialog({ onClose }: { onClose: () => void }) {
  const data = useStore();
  const kinds = srKinds(data);
  const hosts = data.all("host").sort(([, a], [, b]) => collator.compare(a.name_label, b.name_label));
  const [type, setType] = useState("");
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [host, setHost] = useState(data.all("pool")[0]?.[1].master ?? "");
  const [shared, setShared] = useState<boolean | null>(null);
  const [config, setConfig] = useState<Record<string, string>>({});
  const kind = kinds.find((k) => k.type === type) ?? kinds[0];
  if (!kind) {
    return <Dialog title="New storage" onClose={onClose}><Empty icon="disk" title="No kind of storage"><p>The server offers no kind of storage that can be made.</p><Button label="Close" onClick={onClose} /></Empty></Dialog>;
  }
  const isShared = shared ?? kind.shared;
  const submit = (e: Event) => {
    e.preventDefault();
    const told = Object.fromEntries(kind.fields.map(({ key }) => [key, (config[key] ?? "").trim()]));
    void createSr({ kind, name, description, host, shared: isShared, config: told });
    onClose();
  };
  return (
    <Dialog title="New storage" onClose={onClose} wide>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <Field label="Kind" hints={kind.description}>
            {(ties) => (
              <select {...ties} class="input" value={kind.type} onChange={(e) => { setType(e.currentTarget.value); setShared(null); }} autoFocus>
                {kinds.map((k) => <option key={k.type} value={k.type}>{k.label}</option>)}
              </select>
            )}
          </Field>
          <Field label="Name">
            {(ties) => <input {...ties} class="input" required value={name} onInput={(e) => setName(e.currentTarget.value)} />}
          </Field>
          <Field label="Description">
            {(ties) => <input {...ties} class="input" value={description} onInput={(e) => setDescription(e.currentTarget.value)} />}
          </Field>
          {kind.fields.map((field) => (
            <Field key={`${kind.type} ${field.key}`} label={field.label} hints={field.hint}>
              {(ties) => {
                const props = {
                  ...ties, class: "input", autocomplete: "off" as const, spellcheck: false, required: !field.optional, value: config[field.key] ?? "",
                  onInput: (e: { currentTarget: HTMLInputElement }) => setConfig({ ...config, [field.key]: e.currentTarget.value }),
                };
                return field.secret ? <input {...props} type="password" /> : <input {...props} type="text" />;
              }}
            </Field>
          ))}
          <label class="check"><input type="checkbox" checked={isShared} onChange={(e) => setShared(e.currentTarget.checked)} /> Shared: every host sees the same there</label>
          {!isShared && (
            <Field label="Host">
              {(ties) => (
                <select {...ties} class="input" value={host} onChange={(e) => setHost(e.currentTarget.value)}>
                  {hosts.map(([ref, h]) => <option key={ref} value={ref}>{h.name_label}</option>)}
                </select>
              )}
            </Field>
          )}
        </div>
        <DialogFoot icon="plus" label="Make it" onClose={onClose} />
      </form>
    </Dialog>
  );
}
