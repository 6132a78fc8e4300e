// The hosts of the pool, and one host in full.
import { go, href, replace } from "../state/router.js";
import { runTask } from "../state/jobs.js";
import { useStore } from "../state/store.js";
import { hostView, versionOf, type HostView } from "../state/hosts.js";
import { isOrdinaryVm, operationWords, vmView, type VmView } from "../state/vms.js";
import { Bar, Button, Card, Copyable, Empty, Fact, Facts, MapTable, PageHead, StateBadge, Usage, When } from "../ui/basics.js";
import { bytes, parseTime, percent, plural } from "../ui/format.js";
import { Icon } from "../ui/icons.js";
import { DataTable, type Column } from "../ui/table.js";
import { ask, openDialog } from "../ui/dialog.js";
import { Tabs, type Tab } from "../ui/tabs.js";
import { Graphs } from "./graphs.js";
import { MaintenanceDialog } from "./host-maintenance.js";

function HostState({ view }: { view: HostView }) {
  const data = useStore();
  const [task, name] = Object.entries(view.host.current_operations)[0] ?? [];
  if (task !== undefined && name !== undefined) {
    const progress = data.get("task", task)?.progress;
    return <StateBadge state={view.state} operation={{ name, task, words: name === "evacuate" ? "VMs leave" : operationWords(name), progress: progress !== undefined && progress > 0 ? progress : null }} />;
  }
  const css = view.state === "Live" ? "running" : view.state === "Disabled" ? "paused" : "failed";
  return <span class={`state ${css}`}><span class="dot" aria-hidden="true" />{view.state}</span>;
}

const columns: readonly Column<HostView>[] = [
  {
    id: "name", label: "Name", class: "main", sort: (h) => h.host.name_label,
    render: (h) => (
      <span class="vm-name">
        <span><a href={href("host", h.host.uuid)}>{h.host.name_label}</a>{h.coordinator && <span class="tag">coordinator</span>}</span>
        {h.host.name_description !== "" && <span class="faint ellipsis">{h.host.name_description}</span>}
      </span>
    ),
  },
  { id: "state", label: "State", sort: (h) => h.state, render: (h) => <HostState view={h} /> },
  { id: "vms", label: "VMs", class: "num", sort: (h) => h.vms, render: (h) => h.vms },
  { id: "cpu", label: "Processors", sort: (h) => h.cpus, render: (h) => <span title={h.cpuModel}>{h.cpus > 0 ? h.cpus : "–"} <span class="faint">({plural(h.vcpus, "vCPU")} in use)</span></span> },
  { id: "memory", label: "Memory", class: "usage-cell", sort: (h) => h.memoryUsed, render: (h) => h.memoryTotal > 0 ? <Usage used={h.memoryUsed} total={h.memoryTotal} label="Memory used" /> : <span class="faint">–</span> },
  { id: "accel", label: "Runs guests by", class: "wide", render: (h) => h.accelerator ? <span class="ellipsis" title={h.accelerator.reason}>{h.accelerator.name}</span> : <span class="faint">not told</span> },
  { id: "address", label: "Address", class: "wide", sort: (h) => h.host.address, render: (h) => h.host.address ? <span class="mono">{h.host.address}</span> : <span class="faint">–</span> },
];

export function HostsPage() {
  const data = useStore();
  const views = data.all("host").map(([ref, host]) => hostView(data, ref, host));
  return (
    <div class="page">
      <PageHead title="Hosts" />
      {views.length > 0
        ? <DataTable label="Hosts" columns={columns} rows={views} keyOf={(h) => h.ref} nameOf={(h) => h.host.name_label} sortedBy="name" open={(h) => go("host", h.host.uuid)} />
        : data.loaded.value
          ? <Empty icon="host" title="No host yet"><p>VMs run on hosts. Start the agent on a machine and join it to this pool: <code>hostd --join</code> with a token from this server.</p></Empty>
          : <div class="loading"><span class="spinner" /> Loading…</div>}
    </div>
  );
}

const vmColumns: readonly Column<VmView>[] = [
  { id: "name", label: "Name", class: "main", sort: (v) => v.vm.name_label, render: (v) => <a href={href("vm", v.vm.uuid)}>{v.vm.name_label}</a> },
  { id: "state", label: "State", sort: (v) => v.state, render: (v) => <StateBadge state={v.state} operation={v.operation} /> },
  { id: "vcpus", label: "vCPUs", class: "num", sort: (v) => v.vcpus, render: (v) => v.vcpus },
  { id: "memory", label: "Memory", class: "num", sort: (v) => v.memory, render: (v) => bytes(v.memory) },
];

const TABS: readonly Tab[] = [{ id: "overview", label: "Overview", icon: "info" }, { id: "graphs", label: "Graphs", icon: "chart" }];

export function HostPage({ uuid, tab }: { uuid: string; tab: string }) {
  const data = useStore();
  const found = data.byUuid("host", uuid);
  if (!found) {
    return <div class="page">{data.loaded.value ? <Empty icon="host" title="There is no such host"><a class="button plain" href={href("hosts")}>All hosts</a></Empty> : <div class="loading"><span class="spinner" /> Loading…</div>}</div>;
  }
  const [ref, host] = found;
  const view = hostView(data, ref, host);
  const chosen = TABS.some((t) => t.id === tab) ? tab : "overview";
  const busy = Object.keys(host.current_operations).length > 0;
  const setEnabled = (on: boolean) => on
    ? void runTask("Enable", host.name_label, "host.enable", ref)
    : ask({
      title: `Disable ${host.name_label}?`,
      body: <p>The host takes no new VMs until it is enabled again. VMs that run on it go on.</p>,
      confirm: "Disable", icon: "cancel",
      run: () => void runTask("Disable", host.name_label, "host.disable", ref),
    });
  return (
    <div class="page">
      <PageHead title={host.name_label} sub={<HostState view={view} />}
        before={<a class="button quiet icon-only back" href={href("hosts")} aria-label="All hosts" title="All hosts"><Icon name="arrowLeft" /></a>}
        actions={host.enabled
          ? (
            <>
              <Button icon="move" label="Maintenance…" disabled={busy} onClick={() => openDialog((close) => <MaintenanceDialog hostRef={ref} name={host.name_label} vms={view.vms} onClose={close} />)} />
              <Button icon="cancel" label="Disable" disabled={busy} onClick={() => setEnabled(false)} />
            </>
          )
          : <Button kind="primary" icon="check" label="Enable" disabled={busy} onClick={() => setEnabled(true)} />} />
      <Tabs label="Parts of the host" tabs={TABS} chosen={chosen} choose={(id) => replace("host", uuid, id)} />
      <div class="tab-panel" role="tabpanel" id="tab-panel" aria-labelledby={`tab-${chosen}`} tabIndex={0}>
        {chosen === "graphs" ? <Graphs subject={{ kind: "host", uuid, live: true }} /> : <HostOverview view={view} />}
      </div>
    </div>
  );
}

function HostOverview({ view }: { view: HostView }) {
  const data = useStore();
  const { host } = view;
  const vms = host.resident_VMs.flatMap((vmRef) => {
    const vm = data.get("vm", vmRef);
    return vm && isOrdinaryVm(vm) ? [vmView(data, vmRef, vm)] : [];
  });
  const pifs = host.PIFs.flatMap((pifRef) => {
    const pif = data.get("pif", pifRef);
    return pif ? [{ ref: pifRef, pif, network: data.get("network", pif.network)?.name_label ?? "" }] : [];
  });
  const boot = Number(host.other_config.boot_time);
  return (
    <div class="grid">
      <Card title="General">
        <Facts>
          <Fact name="Address">{host.address ? <Copyable text={host.address} what="address" /> : <span class="faint">–</span>}</Fact>
          <Fact name="Role">{view.coordinator ? "coordinator of the pool" : "member of the pool"}</Fact>
          <Fact name="Software">{versionOf(host) || <span class="faint">–</span>}</Fact>
          {view.state === "Not answering" && <Fact name="Last heard"><When time={data.get("host_metrics", host.metrics)?.last_updated} /></Fact>}
          {boot > 0 && <Fact name="Booted"><When time={new Date(boot * 1000)} /></Fact>}
          <Fact name="UUID"><Copyable text={host.uuid} what="UUID" /></Fact>
        </Facts>
      </Card>
      <Card title="Processors and memory">
        <Facts>
          <Fact name="Processors">{view.cpus || "–"}{view.cpuModel && <span class="faint"> × {view.cpuModel}</span>}</Fact>
          <Fact name="In use by VMs">{plural(view.vcpus, "vCPU")}{view.cpus > 0 && <Bar value={percent(view.vcpus, view.cpus)} label="vCPUs in use" />}</Fact>
          <Fact name="Memory">{view.memoryTotal > 0 ? <Usage used={view.memoryUsed} total={view.memoryTotal} label="Memory used" /> : <span class="faint">–</span>}</Fact>
          <Fact name="Runs guests by">
            {view.accelerator
              ? <span class="stack"><b>{view.accelerator.name}</b>{view.accelerator.reason && <span class="faint">{view.accelerator.reason}</span>}</span>
              : <span class="faint">not told</span>}
          </Fact>
        </Facts>
      </Card>
      <div class="span">
        <Card title={`Virtual machines here (${vms.length})`} flush>
          {vms.length > 0
            ? <DataTable label="Virtual machines on this host" columns={vmColumns} rows={vms} keyOf={(v) => v.ref} nameOf={(v) => v.vm.name_label} sortedBy="name" open={(v) => go("vm", v.vm.uuid)} />
            : <Empty icon="vm" title="No VM runs here"><p>Started VMs are placed on the host that fits them best.</p><a class="button plain" href={href("vms")}>Virtual machines</a></Empty>}
        </Card>
      </div>
      {pifs.length > 0 && (
        <div class="span">
          <Card title="Network interfaces" flush>
            <DataTable label="Network interfaces" rows={pifs} keyOf={(p) => p.ref} nameOf={(p) => p.pif.device} sortedBy="device" columns={[
              { id: "device", label: "Device", class: "main", sort: (p) => p.pif.device, render: (p) => <span class="mono">{p.pif.device}{p.pif.VLAN >= 0 ? `.${p.pif.VLAN}` : ""}</span> },
              { id: "network", label: "Network", sort: (p) => p.network, render: (p) => p.network },
              { id: "ip", label: "Address", render: (p) => p.pif.IP ? <span class="mono">{p.pif.IP}</span> : <span class="faint">–</span> },
              { id: "mac", label: "MAC", class: "wide", render: (p) => <span class="mono">{p.pif.MAC}</span> },
              { id: "use", label: "Use", render: (p) => <span class="tags">{p.pif.management && <span class="tag">management</span>}{p.pif.currently_attached && <span class="tag good">up</span>}</span> },
            ]} />
          </Card>
        </div>
      )}
      <div class="span">
        <Card title="All that the host tells" flush>
          <details><summary>Processor</summary><MapTable map={host.cpu_info} label="Processor" /></details>
          <details><summary>Software</summary><MapTable map={host.software_version} label="Software" /></details>
          <details><summary>Other settings</summary><MapTable map={Object.fromEntries(Object.entries(host.other_config).map(([k, v]) => [k, parseTime(v)?.toLocaleString() ?? v]))} label="Other settings" /></details>
          {host.capabilities.length > 0 && <details><summary>Capabilities</summary><p class="pad tags">{host.capabilities.map((c) => <span key={c} class="tag">{c}</span>)}</p></details>}
        </Card>
      </div>
    </div>
  );
}
