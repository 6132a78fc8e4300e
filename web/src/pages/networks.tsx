// Networks: who is on them; made, renamed, removed.
import { useStore } from "../state/store.js";
import { href } from "../state/router.js";
import { keptBy, removeNetwork } from "../state/network-actions.js";
import { Button, Empty, PageHead } from "../ui/basics.js";
import { ask, openDialog } from "../ui/dialog.js";
import { Menu, type MenuItem } from "../ui/menu.js";
import { DataTable, type Column } from "../ui/table.js";
import { NewNetworkDialog, RenameNetworkDialog } from "./network-dialogs.js";
import type { Network } from "../api/types.js";

interface NetworkView {
  ref: string;
  network: Network;
  pifs: string[];
  vms: { name: string; uuid: string }[];
  /** Why it cannot be removed; null: it can. */
  kept: string | null;
}

const columns: readonly Column<NetworkView>[] = [
  { id: "name", label: "Name", class: "main", sort: (n) => n.network.name_label, render: (n) => <span class="vm-name"><span>{n.network.name_label}</span>{n.network.name_description !== "" && <span class="faint ellipsis">{n.network.name_description}</span>}</span> },
  { id: "bridge", label: "Bridge", sort: (n) => n.network.bridge, render: (n) => <span class="mono">{n.network.bridge || "–"}</span> },
  { id: "pifs", label: "Host NICs", render: (n) => n.pifs.length > 0 ? <span class="list">{n.pifs.map((p) => <span key={p}>{p}</span>)}</span> : <span class="faint">none</span> },
  { id: "vms", label: "VMs", sort: (n) => n.vms.length, render: (n) => n.vms.length > 0 ? <span class="list">{n.vms.slice(0, 6).map((v) => <a key={v.uuid} class="soft" href={href("vm", v.uuid, "network")}>{v.name}</a>)}{n.vms.length > 6 && <span class="faint">and {n.vms.length - 6} more</span>}</span> : <span class="faint">none</span> },
  { id: "mtu", label: "MTU", class: "num wide", sort: (n) => n.network.MTU, render: (n) => n.network.MTU },
  { id: "actions", label: "Actions", class: "row-actions", render: (n) => <Menu label={`Actions for ${n.network.name_label}`} items={items(n)} /> },
];

function items({ ref, network, kept }: NetworkView): (MenuItem | "line")[] {
  return [
    { id: "rename", label: "Rename…", icon: "edit", run: () => openDialog((close) => <RenameNetworkDialog of={ref} network={network} onClose={close} />) },
    "line",
    {
      id: "remove", label: "Remove…", icon: "trash", danger: true, disabled: kept !== null, title: kept ?? undefined, run: () => ask({
        title: `Remove ${network.name_label}?`,
        body: <p>{network.PIFs.length > 0 ? "Its VLAN is removed from each host. " : ""}No VM is on it.</p>,
        confirm: "Remove", icon: "trash", run: () => void removeNetwork(ref, network),
      }),
    },
  ];
}

export function NetworksPage({ marked }: { marked: string }) {
  const data = useStore();
  const views: NetworkView[] = data.all("network").map(([ref, network]) => ({
    ref, network, kept: keptBy(data, network),
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
      <PageHead title="Networks" actions={data.loaded.value && <Button kind="primary" icon="plus" label="New network" onClick={() => openDialog((close) => <NewNetworkDialog onClose={close} />)} />} />
      {views.length > 0
        ? <DataTable label="Networks" columns={columns} rows={views} keyOf={(n) => n.ref} nameOf={(n) => n.network.name_label} sortedBy="name" marked={views.find((n) => n.network.uuid === marked)?.ref} />
        : data.loaded.value
          ? <Empty icon="network" title="No network yet"><p>A network joins VMs with each other, and through the NICs of hosts with the rest.</p></Empty>
          : <div class="loading"><span class="spinner" /> Loading…</div>}
    </div>
  );
}
