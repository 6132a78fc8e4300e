// All VMs of the pool, live: find, choose, act.
import { useMemo, useState } from "preact/hooks";
import { says } from "../state/find.js";
import { go, href } from "../state/router.js";
import { useStore, type Store } from "../state/store.js";
import { disksOf, isOrdinaryVm, vmView, type VmView } from "../state/vms.js";
import { allowed, VM_ACTIONS } from "../state/vm-actions.js";
import { Button, Empty, PageHead, StateBadge } from "../ui/basics.js";
import { bytes, plural } from "../ui/format.js";
import { Icon } from "../ui/icons.js";
import { DataTable, type Column } from "../ui/table.js";
import { Menu } from "../ui/menu.js";
import { InstallDialog } from "./install.js";
import { perform, VmActions, vmMenuItems } from "./vm-menu.js";

const STATES = ["Running", "Halted", "Paused", "Suspended"] as const;

/** True when each word of the filter is somewhere in what the row says, or in the names and numbers of the VM's devices. */
function matches(data: Store, view: VmView, words: readonly string[]): boolean {
  const disks = disksOf(data, view.vm).map(({ vdi }) => vdi);
  const texts = [
    view.vm.name_label, view.vm.name_description, view.host, view.os, view.state, ...view.addresses, ...(view.vm.tags ?? []),
    ...disks.map((vdi) => vdi?.name_label),
  ];
  const ids = [view.vm.uuid, view.hostUuid, ...disks.map((vdi) => vdi?.uuid), ...view.vm.VIFs.map((ref) => data.get("vif", ref)?.MAC)];
  return words.every((word) => says(word, texts, ids));
}

const columns: readonly Column<VmView>[] = [
  {
    id: "name", label: "Name", class: "main", sort: (v) => v.vm.name_label,
    render: (v) => (
      <span class="vm-name">
        <a href={href("vm", v.vm.uuid)}>{v.vm.name_label || <i>no name</i>}</a>
        {v.vm.name_description !== "" && <span class="faint ellipsis">{v.vm.name_description}</span>}
      </span>
    ),
  },
  {
    id: "state", label: "State", class: "state-cell", sort: (v) => v.operation?.words ?? v.state,
    render: (v) => <StateBadge state={v.state} operation={v.operation} />,
  },
  {
    id: "address", label: "Address", sort: (v) => v.addresses[0] ?? "",
    render: (v) => v.addresses[0]
      ? <span class="mono" title={v.addresses.join("\n")}>{v.addresses[0]}{v.addresses.length > 1 && <span class="faint"> +{v.addresses.length - 1}</span>}</span>
      : <span class="faint">–</span>,
  },
  {
    id: "os", label: "OS", class: "wide", sort: (v) => v.os,
    render: (v) => v.os ? <span class="ellipsis" title={v.os}>{v.os}</span> : <span class="faint">–</span>,
  },
  {
    id: "host", label: "Host", class: "wide", sort: (v) => v.host,
    render: (v) => v.host ? <a class="soft ellipsis" title={v.host} href={href("host", v.hostUuid)}>{v.host}</a> : <span class="faint">–</span>,
  },
  { id: "vcpus", label: "vCPUs", class: "num wide", sort: (v) => v.vcpus, render: (v) => v.vcpus },
  { id: "memory", label: "Memory", class: "num", sort: (v) => v.memory, render: (v) => bytes(v.memory) },
  {
    id: "actions", label: "Actions", class: "row-actions",
    render: (v) => (
      <>
        <a class="button quiet icon-only" href={href("vm", v.vm.uuid, "console")} title={`Console of ${v.vm.name_label}`}
          aria-label={`Console of ${v.vm.name_label}`}><Icon name="terminal" /></a>
        <VmActions view={v} compact />
      </>
    ),
  },
];

export function VmsPage() {
  const data = useStore();
  const [filter, setFilter] = useState("");
  const [state, setState] = useState<string | null>(null);
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const [installing, setInstalling] = useState(false);

  const all = useMemo(
    () => data.all("vm").filter(([, vm]) => isOrdinaryVm(vm)).map(([ref, vm]) => vmView(data, ref, vm)),
    [data.generation.value]);
  const words = filter.toLowerCase().split(/\s+/).filter((word) => word !== "");
  const found = useMemo(
    () => all.filter((v) => (state === null || v.state === state) && matches(data, v, words)), [all, filter, state]);
  const picked = found.filter((v) => chosen.has(v.ref));

  const newButton = <Button kind="primary" icon="plus" label="New VM" onClick={() => setInstalling(true)} />;
  return (
    <div class="page">
      <PageHead title="Virtual machines" actions={newButton} />
      {all.length > 0 && (
        <div class="toolbar">
          <label class="search">
            <Icon name="search" />
            <input type="search" class="input" placeholder="Filter by name, address, host, disk…" aria-label="Filter" value={filter}
              onInput={(e) => setFilter(e.currentTarget.value)} />
          </label>
          <div class="chips" role="group" aria-label="State">
            <button type="button" class="chip" aria-pressed={state === null} onClick={() => setState(null)}>
              All <span class="count">{all.length}</span>
            </button>
            {STATES.map((s) => {
              const n = all.filter((v) => v.state === s).length;
              return n > 0 || state === s
                ? (
                  <button key={s} type="button" class="chip" aria-pressed={state === s} onClick={() => setState(state === s ? null : s)}>
                    <span class={`state ${s.toLowerCase()}`}><span class="dot" /></span>{s} <span class="count">{n}</span>
                  </button>
                )
                : null;
            })}
          </div>
        </div>
      )}
      {picked.length > 0 && (
        <div class="bulk" role="region" aria-label="Chosen VMs">
          <b>{plural(picked.length, "VM")} chosen</b>
          <span class="bulk-actions">
            {VM_ACTIONS.filter((a) => ["start", "shutdown", "reboot"].includes(a.id)).map((a) => {
              const able = picked.filter((v) => allowed(v.vm, a)).length;
              return (
                <Button key={a.id} icon={a.icon} disabled={able === 0} onClick={() => perform(a, picked)}
                  label={able > 0 && able < picked.length ? `${a.label} (${able})` : a.label} />
              );
            })}
            <Menu label="More actions for the chosen VMs" text="More" icon="more"
              items={vmMenuItems(picked, ["start", "shutdown", "reboot"], () => setChosen(new Set()))} />
          </span>
          <Button kind="quiet" label="Clear" onClick={() => setChosen(new Set())} />
        </div>
      )}
      {found.length > 0
        ? (
          <DataTable label="Virtual machines" columns={columns} rows={found} keyOf={(v) => v.ref} nameOf={(v) => v.vm.name_label}
            sortedBy="name" open={(v) => go("vm", v.vm.uuid)} selection={{ chosen, set: setChosen }}
            rowClass={(v) => (v.state === "Halted" && !v.operation ? "off" : "")} />
        )
        : all.length > 0
          ? (
            <Empty icon="search" title="No VM matches">
              <p>{filter !== "" ? <>Nothing contains “{filter}”{state ? ` and is ${state.toLowerCase()}` : ""}.</> : <>No VM is {state?.toLowerCase()}.</>}</p>
              <Button label="Show all VMs" onClick={() => { setFilter(""); setState(null); }} />
            </Empty>
          )
          : data.loaded.value
            ? (
              <Empty icon="vm" title="No virtual machines yet">
                <p>Install the first one from a template: it takes a minute.</p>
                {newButton}
              </Empty>
            )
            : <div class="loading"><span class="spinner" /> Loading…</div>}
      {installing && <InstallDialog onClose={() => setInstalling(false)} />}
    </div>
  );
}
