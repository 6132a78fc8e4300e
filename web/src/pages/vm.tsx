// One VM: its head with name, state and actions, and a tab for each thing one may want to see of it.
import { lazyPart } from "../ui/lazy.js";
import { client } from "../state/session.js";
import { go, href, replace } from "../state/router.js";
import { useStore } from "../state/store.js";
import { runJob } from "../state/jobs.js";
import { vmView } from "../state/vms.js";
import { EditableText, Empty, PageHead, StateBadge } from "../ui/basics.js";
import { Icon } from "../ui/icons.js";
import { Tabs, type Tab } from "../ui/tabs.js";
import { Graphs } from "./graphs.js";
import { DisksTab } from "./vm-disks.js";
import { NetworkTab } from "./vm-network.js";
import { OverviewTab } from "./vm-overview.js";
import { SnapshotsTab } from "./vm-snapshots.js";
import { VmActions } from "./vm-menu.js";

// The terminal and the screen are large: they are loaded when first opened.
const SerialTab = lazyPart(() => import("../console/serial.js").then((m) => m.SerialTab), "the console");
const ScreenTab = lazyPart(() => import("../console/screen.js").then((m) => m.ScreenTab), "the screen");

export function VmPage({ uuid, tab }: { uuid: string; tab: string }) {
  const data = useStore();
  const found = data.byUuid("vm", uuid);
  if (!found) {
    return (
      <div class="page">
        {data.loaded.value
          ? (
            <Empty icon="vm" title="There is no such VM">
              <p>It may have been deleted meanwhile.</p>
              <a class="button plain" href={href("vms")}>All virtual machines</a>
            </Empty>
          )
          : <div class="loading"><span class="spinner" /> Loading…</div>}
      </div>
    );
  }
  const [ref, vm] = found;
  const view = vmView(data, ref, vm);
  const tabs: Tab[] = [
    { id: "overview", label: "Overview", icon: "info" },
    { id: "graphs", label: "Graphs", icon: "chart" },
    { id: "console", label: "Console", icon: "terminal" },
    { id: "screen", label: "Screen", icon: "monitor" },
    { id: "disks", label: "Disks", icon: "disk", count: vm.VBDs.length },
    { id: "network", label: "Network", icon: "network", count: vm.VIFs.length },
    { id: "snapshots", label: "Snapshots", icon: "camera", count: vm.snapshots.length },
  ];
  const chosen = tabs.some((t) => t.id === tab) ? tab : "overview";
  const rename = async (name: string) => {
    await runJob("Rename", vm.name_label, async () => client().call("VM.set_name_label", ref, name));
  };
  return (
    <div class={`page vm-page${chosen === "console" || chosen === "screen" ? " fill" : ""}`}>
      <PageHead
        before={<a class="button quiet icon-only back" href={href("vms")} aria-label="All virtual machines" title="All virtual machines"><Icon name="arrowLeft" /></a>}
        title={<EditableText value={vm.name_label} label="name" save={rename} placeholder="no name" />}
        sub={<StateBadge state={view.state} operation={view.operation} />}
        actions={<VmActions view={view} deleted={() => go("vms")} />} />
      <Tabs label="Parts of the VM" tabs={tabs} chosen={chosen} choose={(id) => replace("vm", uuid, id)} />
      <div class="tab-panel" role="tabpanel" id="tab-panel" aria-labelledby={`tab-${chosen}`} tabIndex={chosen === "console" || chosen === "screen" ? undefined : 0}>
        {chosen === "overview" && <OverviewTab view={view} />}
        {chosen === "graphs" && <Graphs subject={{ kind: "vm", uuid: vm.uuid, live: view.state === "Running" || view.state === "Paused" }} />}
        {chosen === "disks" && <DisksTab view={view} />}
        {chosen === "network" && <NetworkTab view={view} />}
        {chosen === "snapshots" && <SnapshotsTab view={view} />}
        {chosen === "console" && <SerialTab view={view} />}
        {chosen === "screen" && <ScreenTab view={view} />}
      </div>
    </div>
  );
}
