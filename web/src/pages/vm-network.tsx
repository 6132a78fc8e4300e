// The VM's NICs: network, address, hardware address.
import { addressesOf, type VmView } from "../state/vms.js";
import { useStore } from "../state/store.js";
import { Card, Copyable, Empty } from "../ui/basics.js";
import { DataTable, type Column } from "../ui/table.js";
import type { VIF } from "../api/types.js";

interface NicView {
  ref: string;
  vif: VIF;
  network: string;
  addresses: string[];
}

const columns: readonly Column<NicView>[] = [
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
];

export function NetworkTab({ view }: { view: VmView }) {
  const data = useStore();
  const told = data.get("vm_guest_metrics", view.vm.guest_metrics)?.networks ?? {};
  const running = view.state === "Running" || view.state === "Paused";
  const nics: NicView[] = view.vm.VIFs.flatMap((ref) => {
    const vif = data.get("vif", ref);
    if (!vif) {
      return [];
    }
    const own = Object.fromEntries(Object.entries(told).filter(([key]) => key.startsWith(`${vif.device}/`)));
    return [{
      ref, vif, network: data.get("network", vif.network)?.name_label ?? "", addresses: running ? addressesOf(own) : [],
    }];
  });
  return (
    <Card title="Network interfaces" flush>
      {nics.length > 0
        ? <DataTable label="Network interfaces" columns={columns} rows={nics} keyOf={(n) => n.ref} nameOf={(n) => n.vif.device} sortedBy="device" />
        : <Empty icon="network" title="No network interface"><p>Add one with <code>xe vif-create vm-uuid={view.vm.uuid} network-uuid=… device=0</code>.</p></Empty>}
    </Card>
  );
}
