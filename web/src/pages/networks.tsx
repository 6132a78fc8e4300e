// Networks: who is on them.
import { useStore } from "../state/store.js";
import { href } from "../state/router.js";
import { Empty, PageHead } from "../ui/basics.js";
import { DataTable, type Column } from "../ui/table.js";
import type { Network } from "../api/types.js";

interface NetworkView {
  ref: string;
  network: Network;
  pifs: string[];
  vms: { name: string; uuid: string }[];
}

const columns: readonly Column<NetworkView>[] = [
  { id: "name", label: "Name", class: "main", sort: (n) => n.network.name_label, render: (n) => <span class="vm-name"><span>{n.network.name_label}</span>{n.network.name_description !== "" && <span class="faint ellipsis">{n.network.name_description}</span>}</span> },
  { id: "bridge", label: "Bridge", sort: (n) => n.network.bridge, render: (n) => <span class="mono">{n.network.bridge || "–"}</span> },
  { id: "pifs", label: "Host NICs", render: (n) => n.pifs.length > 0 ? <span class="list">{n.pifs.map((p) => <span key={p}>{p}</span>)}</span> : <span class="faint">none</span> },
  { id: "vms", label: "VMs", sort: (n) => n.vms.length, render: (n) => n.vms.length > 0 ? <span class="list">{n.vms.slice(0, 6).map((v) => <a key={v.uuid} class="soft" href={href("vm", v.uuid, "network")}>{v.name}</a>)}{n.vms.length > 6 && <span class="faint">and {n.vms.length - 6} more</span>}</span> : <span class="faint">none</span> },
  { id: "mtu", label: "MTU", class: "num wide", sort: (n) => n.network.MTU, render: (n) => n.network.MTU },
];

export function NetworksPage() {
  const data = useStore();
  const views: NetworkView[] = data.all("network").map(([ref, network]) => ({
    ref, network,
    pifs: network.PIFs.flatMap((p) => {
      const pif = data.get("pif", p);
      return pif ? [`${data.get("host", pif.host)?.name_label ?? "?"}: ${pif.device}${pif.VLAN >= 0 ? ` VLAN ${pif.VLAN}` : ""}`] : [];
    }),
    vms: network.VIFs.flatMap((v) => {
      const vm = data.get("vm", data.get("vif", v)?.VM);
      return vm && !vm.is_a_template && !vm.is_a_snapshot ? [{ name: vm.name_label, uuid: vm.uuid }] : [];
    }),
  }));
  return (
    <div class="page">
      <PageHead title="Networks" />
      {views.length > 0
        ? <DataTable label="Networks" columns={columns} rows={views} keyOf={(n) => n.ref} nameOf={(n) => n.network.name_label} sortedBy="name" />
        : data.loaded.value
          ? <Empty icon="network" title="No network yet"><p>Make one: <code>xe network-create name-label=Internal</code>.</p></Empty>
          : <div class="loading"><span class="spinner" /> Loading…</div>}
    </div>
  );
}
