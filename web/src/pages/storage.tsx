// Storage repositories with how full they are, and the disks in one.
import { useMemo } from "preact/hooks";
import { client } from "../state/session.js";
import { go, href } from "../state/router.js";
import { runJob, runTask } from "../state/jobs.js";
import { useStore } from "../state/store.js";
import { canDestroy, connectSr, disconnectSr, plugPbd, removeSr } from "../state/storage-actions.js";
import { Bar, Button, Card, Copyable, EditableText, Empty, Fact, Facts, MapTable, PageHead, Usage } from "../ui/basics.js";
import { ask, openDialog } from "../ui/dialog.js";
import { bytes, percent, plural } from "../ui/format.js";
import { Icon } from "../ui/icons.js";
import { Menu, type MenuItem } from "../ui/menu.js";
import { DataTable, type Column } from "../ui/table.js";
import { NewSrDialog } from "./storage-new.js";
import type { SR, VDI } from "../api/types.js";

interface SrView {
  ref: string;
  sr: SR;
  isDefault: boolean;
  hosts: number;
  connected: number;
}

function kindWords(sr: SR): string {
  const names: Record<string, string> = { dir: "directory", file: "directory", ext: "local disk", iso: "ISO library", nfs: "NFS", lvm: "LVM", lvmoiscsi: "LVM over iSCSI", udev: "removable" };
  return names[sr.type] ?? sr.type;
}

function Connection({ view }: { view: SrView }) {
  return view.hosts === 0
    ? <span class="state failed"><span class="dot" />no host</span>
    : view.connected === view.hosts
      ? <span class="state running"><span class="dot" />{view.hosts === 1 ? "connected" : `on all ${view.hosts} hosts`}</span>
      : <span class="state paused"><span class="dot" />on {view.connected} of {view.hosts} hosts</span>;
}

const columns: readonly Column<SrView>[] = [
  {
    id: "name", label: "Name", class: "main", sort: (s) => s.sr.name_label,
    render: (s) => (
      <span class="vm-name">
        <span><a href={href("storage", s.sr.uuid)}>{s.sr.name_label}</a>{s.isDefault && <span class="tag">default</span>}</span>
        {s.sr.name_description !== "" && <span class="faint ellipsis">{s.sr.name_description}</span>}
      </span>
    ),
  },
  { id: "kind", label: "Kind", sort: (s) => s.sr.type, render: (s) => <>{kindWords(s.sr)}{s.sr.shared && <span class="tag">shared</span>}</> },
  { id: "disks", label: "Disks", class: "num", sort: (s) => s.sr.VDIs.length, render: (s) => s.sr.VDIs.length },
  { id: "used", label: "Used", class: "usage-cell", sort: (s) => percent(s.sr.physical_utilisation, s.sr.physical_size), render: (s) => s.sr.physical_size > 0 ? <Usage used={s.sr.physical_utilisation} total={s.sr.physical_size} label="Space used" /> : <span class="faint">–</span> },
  { id: "link", label: "Connection", class: "wide", render: (s) => <Connection view={s} /> },
];

function useSrs(): SrView[] {
  const data = useStore();
  const pool = data.all("pool")[0]?.[1];
  return useMemo(() => data.all("sr").map(([ref, sr]) => ({
    ref, sr, isDefault: pool?.default_SR === ref, hosts: sr.PBDs.length,
    connected: sr.PBDs.filter((p) => data.get("pbd", p)?.currently_attached).length,
  })), [data.generation.value]);
}

export function StoragePage() {
  const data = useStore();
  const views = useSrs();
  const newButton = <Button kind="primary" icon="plus" label="New storage" onClick={() => openDialog((close) => <NewSrDialog onClose={close} />)} />;
  return (
    <div class="page">
      <PageHead title="Storage" actions={data.loaded.value && newButton} />
      {views.length > 0
        ? <DataTable label="Storage" columns={columns} rows={views} keyOf={(s) => s.ref} nameOf={(s) => s.sr.name_label} sortedBy="name" open={(s) => go("storage", s.sr.uuid)} />
        : data.loaded.value
          ? <Empty icon="disk" title="No storage yet"><p>The disks of VMs need storage: a directory of a host, for one.</p></Empty>
          : <div class="loading"><span class="spinner" /> Loading…</div>}
    </div>
  );
}

interface VdiView {
  ref: string;
  vdi: VDI;
  /** `what` is the kind of those that have no page. */
  users: { name: string; uuid: string; what: string }[];
}

function srItems(view: SrView, wipes: boolean): (MenuItem | "line")[] {
  const { ref, sr } = view;
  const busy = Object.keys(sr.current_operations).length > 0 ? "Not while the storage is busy." : undefined;
  const disconnects = view.connected > 0 ? " It is disconnected from its hosts first." : "";
  const full = sr.VDIs.length > 0 ? "Not while it holds disks." : undefined;
  return [
    ...(view.connected < view.hosts ? [{ id: "connect", label: "Connect", icon: "check" as const, run: () => void connectSr(sr) }] : []),
    ...(view.connected > 0 ? [{
      id: "disconnect", label: "Disconnect…", icon: "eject" as const, run: () => ask({
        title: `Disconnect ${sr.name_label}?`, body: <p>Hosts no longer see what is on it, until it is connected again. VMs that run must not use it.</p>,
        confirm: "Disconnect", icon: "eject", run: () => void disconnectSr(sr),
      }),
    }] : []),
    "line",
    {
      id: "forget", label: "Forget…", icon: "close", disabled: busy !== undefined, title: busy, run: () => ask({
        title: `Forget ${sr.name_label}?`,
        body: <p>The pool no longer knows the storage nor its {plural(sr.VDIs.length, "disk")}; VMs lose them. What is on it stays as it is.{disconnects}</p>,
        confirm: "Forget", icon: "close", run: () => { go("storage"); void removeSr(ref, sr, false); },
      }),
    },
    ...(wipes ? [{
      id: "destroy", label: "Destroy…", icon: "trash" as const, danger: true, disabled: (busy ?? full) !== undefined, title: busy ?? full, run: () => ask({
        title: `Destroy ${sr.name_label}?`, body: <p>The storage is erased and forgotten. This cannot be undone.{disconnects}</p>,
        confirm: "Destroy", icon: "trash", run: () => { go("storage"); void removeSr(ref, sr, true); },
      }),
    }] : []),
  ];
}

export function SrPage({ uuid, marked }: { uuid: string; marked: string }) {
  const data = useStore();
  const view = useSrs().find((s) => s.sr.uuid === uuid);
  if (!view) {
    return <div class="page">{data.loaded.value ? <Empty icon="disk" title="There is no such storage"><a class="button plain" href={href("storage")}>All storage</a></Empty> : <div class="loading"><span class="spinner" /> Loading…</div>}</div>;
  }
  const { ref, sr } = view;
  const pool = data.all("pool")[0];
  const rename = async (name: string) => {
    await runJob("Rename", sr.name_label, async () => client().call("SR.set_name_label", ref, name));
  };
  const vdis: VdiView[] = sr.VDIs.flatMap((vdiRef) => {
    const vdi = data.get("vdi", vdiRef);
    if (!vdi) {
      return [];
    }
    const users = vdi.VBDs.flatMap((vbd) => {
      const vm = data.get("vm", data.get("vbd", vbd)?.VM);
      return vm ? [{ name: vm.name_label, uuid: vm.is_a_template ? "" : vm.uuid, what: vm.is_a_snapshot ? "snapshot" : "template" }] : [];
    });
    return [{ ref: vdiRef, vdi, users }];
  });
  const isLibrary = sr.content_type === "iso" || sr.type === "iso";
  const columns: readonly Column<VdiView>[] = [
    {
      id: "name", label: "Name", class: "main", sort: (v) => v.vdi.name_label,
      render: (v) => <span class="vm-name"><span>{v.vdi.name_label || <i>no name</i>}{v.vdi.is_a_snapshot && <span class="tag">snapshot</span>}{v.vdi.missing && <span class="tag bad">missing</span>}</span>{v.vdi.name_description !== "" && <span class="faint ellipsis">{v.vdi.name_description}</span>}</span>,
    },
    { id: "size", label: "Size", class: "num", sort: (v) => v.vdi.virtual_size, render: (v) => bytes(v.vdi.virtual_size) },
    { id: "used", label: "On storage", class: "wide", sort: (v) => v.vdi.physical_utilisation, render: (v) => <span class="usage inline"><span class="usage-text">{bytes(v.vdi.physical_utilisation)}</span><Bar value={percent(v.vdi.physical_utilisation, v.vdi.virtual_size)} label="Used on storage" /></span> },
    { id: "users", label: "Used by", sort: (v) => v.users[0]?.name ?? "", render: (v) => v.users.length > 0 ? <span class="list">{v.users.map((u) => u.uuid ? <a key={u.uuid} class="soft" href={href("vm", u.uuid, "disks")}>{u.name}</a> : <span key={u.name} class="faint">{u.name} ({u.what})</span>)}</span> : <span class="faint">nobody</span> },
    {
      id: "actions", label: "Actions", class: "row-actions",
      render: (v) => isLibrary ? null : (
        <Button kind="quiet" icon="trash" iconOnly label={`Delete ${v.vdi.name_label}`} disabled={v.users.length > 0 || !v.vdi.allowed_operations.includes("destroy")}
          title={v.users.length > 0 ? "A VM has this disk." : undefined}
          onClick={() => ask({
            title: `Delete disk “${v.vdi.name_label || v.vdi.uuid}”?`, confirm: "Delete", icon: "trash",
            body: <p>{bytes(v.vdi.virtual_size)} on {sr.name_label}. What is on the disk is lost for good.</p>,
            run: () => void runTask("Delete disk", v.vdi.name_label, "VDI.destroy", v.ref),
          })} />
      ),
    },
  ];
  return (
    <div class="page">
      <PageHead title={<EditableText value={sr.name_label} label="name" save={rename} placeholder="no name" />} sub={<Connection view={view} />}
        before={<a class="button quiet icon-only back" href={href("storage")} aria-label="All storage" title="All storage"><Icon name="arrowLeft" /></a>}
        actions={
          <>
            {!view.isDefault && !isLibrary && pool && (
              <Button icon="star" label="Make default" onClick={() => void runJob("Make default", sr.name_label, async () => client().call("pool.set_default_SR", pool[0], ref))} />
            )}
            <Menu label={`Actions for ${sr.name_label}`} items={srItems(view, canDestroy(data, sr))} />
            <Button icon="refresh" label="Scan" disabled={!sr.allowed_operations.includes("scan")} onClick={() => void runTask("Scan", sr.name_label, "SR.scan", ref)} />
          </>
        } />
      <div class="grid">
        <Card title="General">
          <Facts>
            <Fact name="Kind">{kindWords(sr)}{sr.shared ? ", shared by hosts" : ""}{view.isDefault ? " – the pool’s default" : ""}</Fact>
            {sr.name_description !== "" && <Fact name="Description">{sr.name_description}</Fact>}
            <Fact name="Used">{sr.physical_size > 0 ? <Usage used={sr.physical_utilisation} total={sr.physical_size} label="Space used" /> : "–"}</Fact>
            <Fact name="Promised to disks">{bytes(sr.virtual_allocation)}</Fact>
            <Fact name="UUID"><Copyable text={sr.uuid} what="UUID" /></Fact>
          </Facts>
        </Card>
        <Card title="Connections" flush>
          {sr.PBDs.length === 0 && <p class="faint pad">No host is connected to it.</p>}
          {sr.PBDs.map((p) => {
            const pbd = data.get("pbd", p);
            return pbd && (
              <details key={p}>
                <summary>
                  {data.get("host", pbd.host)?.name_label ?? "a host"} <span class={`tag${pbd.currently_attached ? " good" : " bad"}`}>{pbd.currently_attached ? "connected" : "not connected"}</span>
                </summary>
                <MapTable map={pbd.device_config} label="Device configuration" />
                <p class="pad"><Button icon={pbd.currently_attached ? "eject" : "check"} label={pbd.currently_attached ? "Disconnect this host" : "Connect this host"} onClick={() => void plugPbd(p, !pbd.currently_attached)} /></p>
              </details>
            );
          })}
        </Card>
        <div class="span">
          <Card title={isLibrary ? `Disc images (${vdis.length})` : `Disks (${vdis.length})`} flush>
            {vdis.length > 0
              ? <DataTable label="Disks" columns={columns} rows={vdis} keyOf={(v) => v.ref} nameOf={(v) => v.vdi.name_label} sortedBy="name" marked={vdis.find((v) => v.vdi.uuid === marked)?.ref} />
              : <Empty icon={isLibrary ? "cd" : "disk"} title={isLibrary ? "No disc images" : "No disks here"}><p>{isLibrary ? "Put ISO files into its folder, then scan." : "Disks are made here when a VM is installed, or with xe vdi-create and xe vdi-import."}</p></Empty>}
          </Card>
        </div>
      </div>
    </div>
  );
}
