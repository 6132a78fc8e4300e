// The VM's NICs: network, address, hardware address; a new one, another network, plugged in and out.
import { useState } from "preact/hooks";
import { addNic, moveNic, plugNic, removeNic } from "../state/devices.js";
import { useStore } from "../state/store.js";
import { nicsOf, type NicView, type VmView } from "../state/vms.js";
import { Button, Card, Copyable, Empty, Field } from "../ui/basics.js";
import { ask, Dialog, DialogFoot, openDialog } from "../ui/dialog.js";
import { collator } from "../ui/format.js";
import { Menu, type MenuItem } from "../ui/menu.js";
import { DataTable, type Column } from "../ui/table.js";

const columns = (view: VmView): readonly Column<NicView>[] => [
  { id: "device", label: "NIC", class: "main", sort: (n) => Number(n.vif.device), render: (n) => `NIC ${n.vif.device}` },
  { id: "network", label: "Network", sort: (n) => n.network, render: (n) => n.network || <span class="faint">–</span> },
  {
    id: "address", label: "Addresses",
    render: (n) => n.addresses.length > 0
      ? <span class="stack">{n.addresses.map((a) => <Copyable key={a} text={a} what="address" />)}</span>
      : <span class="faint">none told</span>,
  },
  { id: "mac", label: "MAC", render: (n) => <Copyable text={n.vif.MAC} what="MAC address" /> },
  { id: "mtu", label: "MTU", class: "num wide", render: (n) => n.vif.MTU },
  { id: "attached", label: "Link", render: (n) => n.vif.currently_attached ? <span class="tags"><span class="tag good">attached</span></span> : <span class="tags"><span class="tag">not attached</span></span> },
  { id: "actions", label: "Actions", class: "row-actions", render: (n) => <Menu label={`Actions for NIC ${n.vif.device}`} items={nicItems(view, n)} /> },
];

function nicItems(view: VmView, nic: NicView): (MenuItem | "line")[] {
  const can = (operation: string) => nic.vif.allowed_operations.includes(operation);
  const removable = !nic.vif.currently_attached || can("unplug");
  return [
    { id: "move", label: "Change network…", icon: "network", run: () => openDialog((close) => <NicDialog view={view} nic={nic} onClose={close} />) },
    ...(can("plug") ? [{ id: "plug", label: "Plug in", icon: "check" as const, run: () => void plugNic(view, nic, true) }] : []),
    ...(can("unplug") ? [{ id: "unplug", label: "Unplug", icon: "eject" as const, run: () => void plugNic(view, nic, false) }] : []),
    "line",
    {
      id: "remove", label: "Remove…", icon: "trash", danger: true, disabled: !removable, title: removable ? undefined : "Not while it is attached.",
      run: () => ask({
        title: `Remove NIC ${nic.vif.device} of ${view.vm.name_label}?`,
        body: <p>{nic.vif.currently_attached ? "It is unplugged first: what the guest does over it breaks off. " : ""}Its MAC address, {nic.vif.MAC}, is given up.</p>,
        confirm: "Remove", icon: "trash", run: () => void removeNic(view, nic),
      }),
    },
  ];
}

export function NetworkTab({ view }: { view: VmView }) {
  const data = useStore();
  const nics = nicsOf(data, view);
  const add = () => openDialog((close) => <NicDialog view={view} nic={null} onClose={close} />);
  return (
    <Card title="Network interfaces" flush actions={<Button kind="quiet" icon="plus" label="New NIC" onClick={add} />}>
      {nics.length > 0
        ? <DataTable label="Network interfaces" columns={columns(view)} rows={nics} keyOf={(n) => n.ref} nameOf={(n) => n.vif.device} sortedBy="device" />
        : <Empty icon="network" title="No network interface"><p>This VM is on no network.</p><Button icon="plus" label="New NIC" onClick={add} /></Empty>}
    </Card>
  );
}

/** A new NIC, or another network for one that is there. */
function NicDialog({ view, nic, onClose }: { view: VmView; nic: NicView | null; onClose: () => void }) {
  const data = useStore();
  const networks = data.all("network").filter(([ref]) => ref !== nic?.vif.network).sort(([, a], [, b]) => collator.compare(a.name_label, b.name_label));
  const [picked, setPicked] = useState("");
  const [mac, setMac] = useState("");
  const [network, record] = networks.find(([ref]) => ref === picked) ?? networks[0] ?? [];
  const submit = (e: Event) => {
    e.preventDefault();
    if (network && record) {
      void (nic ? moveNic(view, nic, network) : addNic(view, network, record.MTU, mac.trim()));
    }
    onClose();
  };
  return (
    <Dialog title={nic ? `Network of NIC ${nic.vif.device}` : `New NIC for ${view.vm.name_label}`} onClose={onClose}>
      <form onSubmit={submit}>
        <div class="dialog-body form">
          <Field label="Network" hints={networks.length === 0 ? <span class="warn-text">There is no {nic ? "other " : ""}network.</span> : undefined}>
            {(ties) => (
              <select {...ties} class="input" value={network} onChange={(e) => setPicked(e.currentTarget.value)} autoFocus>
                {networks.map(([ref, n]) => <option key={ref} value={ref}>{n.name_label}</option>)}
              </select>
            )}
          </Field>
          {!nic && (
            <Field label="MAC address" hints="Empty: one is made.">
              {(ties) => (
                <input {...ties} class="input mono" value={mac} placeholder="02:00:00:00:00:01" spellcheck={false} pattern="\s*([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\s*"
                  title="Six pairs of hexadecimal digits with colons between" onInput={(e) => setMac(e.currentTarget.value)} />
              )}
            </Field>
          )}
        </div>
        <DialogFoot icon={nic ? "network" : "plus"} label={nic ? "Change" : "Add"} disabled={!network} onClose={onClose} />
      </form>
    </Dialog>
  );
}
