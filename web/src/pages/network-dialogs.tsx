// "New network" and "Rename…".
import { useState } from "preact/hooks";
import { createNetwork, renameNetwork, vlanCarriers } from "../state/network-actions.js";
import { useStore } from "../state/store.js";
import { Field } from "../ui/basics.js";
import { Dialog, DialogFoot } from "../ui/dialog.js";
import type { Network } from "../api/types.js";

function NameFields({ name, setName, description, setDescription }: {
  name: string; setName: (text: string) => void; description: string; setDescription: (text: string) => void;
}) {
  return (
    <>
      <Field label="Name">
        {(ties) => <input {...ties} class="input" required value={name} onInput={(e) => setName(e.currentTarget.value)} autoFocus />}
      </Field>
      <Field label="Description">
        {(ties) => <input {...ties} class="input" value={description} onInput={(e) => setDescription(e.currentTarget.value)} />}
      </Field>
    </>
  );
}

export function NewNetworkDialog({ onClose }: { onClose: () => void }) {
  const carriers = vlanCarriers(useStore());
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [mtu, setMtu] = useState(1500);
  const [isVlan, setIsVlan] = useState(false);
  const [picked, setPicked] = useState("");
  const [tag, setTag] = useState(1);
  const pif = carriers.find(([ref]) => ref === picked)?.[0] ?? carriers[0]?.[0];
  const submit = (e: Event) => {
    e.preventDefault();
    void createNetwork({ name, description, mtu, vlan: isVlan && pif !== undefined ? { pif, tag } : null });
    onClose();
  };
  return (
    <Dialog title="New network" onClose={onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <NameFields {...{ name, setName, description, setDescription }} />
          <div class="choices" role="radiogroup" aria-label="Kind">
            <label class="choice">
              <input type="radio" name="kind" checked={!isVlan} onChange={() => setIsVlan(false)} />
              <span class="vm-name whole"><span>Private</span><span class="faint">Joins the VMs of one host with each other, and with nothing else.</span></span>
            </label>
            <label class={`choice${carriers.length === 0 ? " off" : ""}`}>
              <input type="radio" name="kind" checked={isVlan} disabled={carriers.length === 0} onChange={() => setIsVlan(true)} />
              <span class="vm-name whole"><span>VLAN of a NIC</span><span class="faint">Joins the VMs of all hosts, through the NIC of the same name on each.</span></span>
            </label>
          </div>
          {isVlan && (
            <div class="field-row">
              <Field label="NIC">
                {(ties) => (
                  <select {...ties} class="input" value={pif} onChange={(e) => setPicked(e.currentTarget.value)}>
                    {carriers.map(([ref, p]) => <option key={ref} value={ref}>{p.device}</option>)}
                  </select>
                )}
              </Field>
              <Field label="VLAN tag">
                {(ties) => <input {...ties} class="input" type="number" min={0} max={4094} required value={tag} onInput={(e) => setTag(e.currentTarget.valueAsNumber || 0)} />}
              </Field>
            </div>
          )}
          <Field label="MTU">
            {(ties) => <input {...ties} class="input" type="number" min={576} max={65535} required value={mtu} onInput={(e) => setMtu(e.currentTarget.valueAsNumber || 0)} />}
          </Field>
        </div>
        <DialogFoot icon="plus" label="Make it" onClose={onClose} />
      </form>
    </Dialog>
  );
}

export function RenameNetworkDialog({ of, network, onClose }: { network: Network; of: string; onClose: () => void }) {
  const [name, setName] = useState(network.name_label);
  const [description, setDescription] = useState(network.name_description);
  const submit = (e: Event) => {
    e.preventDefault();
    void renameNetwork(of, network, name, description);
    onClose();
  };
  return (
    <Dialog title={`Rename ${network.name_label}`} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body form"><NameFields {...{ name, setName, description, setDescription }} /></div>
        <DialogFoot icon="check" label="Rename" onClose={onClose} />
      </form>
    </Dialog>
  );
}
