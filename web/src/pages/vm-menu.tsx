// The actions of VMs as buttons and menu entries, with the questions that some need first.
import { ask, openDialog } from "../ui/dialog.js";
import { bytes, plural } from "../ui/format.js";
import { Menu, type MenuItem } from "../ui/menu.js";
import { Button } from "../ui/basics.js";
import { allowed, deleteVm, HOST_ACTIONS, makeTemplate, runOnAll, VM_ACTIONS, type VmAction } from "../state/vm-actions.js";
import { exportVm } from "../state/export.js";
import { store } from "../state/store.js";
import { disksOf, ownedDisks, savedMemory, type VmView } from "../state/vms.js";
import { CopyDialog } from "./vm-copy.js";
import { HostDialog } from "./vm-hosts.js";

/** Runs the action on the VMs that allow it, after its question. */
export function perform(action: VmAction, views: readonly VmView[]): void {
  const able = views.filter((v) => allowed(v.vm, action));
  if (able.length === 0) {
    return;
  }
  const first = able[0];
  if (!action.confirm || !first) {
    void runOnAll(action, able);
    return;
  }
  const names = able.length === 1 ? first.vm.name_label : plural(able.length, "VM");
  ask({
    title: `${action.label} ${names}?`,
    body: (
      <>
        <p>{action.confirm(able.length === 1 ? first.vm.name_label : "each of them")}</p>
        {able.length > 1 && <ul class="plain-list">{able.map((v) => <li key={v.ref}>{v.vm.name_label}</li>)}</ul>}
      </>
    ),
    confirm: action.label,
    icon: action.icon,
    run: () => void runOnAll(action, able),
  });
}

/** Deletes VMs, after a question that names each VM and each disk that goes with it. */
export function askDelete(views: readonly VmView[], done?: () => void): void {
  const able = views.filter((v) => v.vm.allowed_operations.includes("destroy"));
  if (able.length === 0) {
    return;
  }
  const names = able.length === 1 ? able[0]?.vm.name_label ?? "" : plural(able.length, "VM");
  ask({
    title: `Delete ${names}?`,
    body: (
      <>
        <p>This cannot be undone. These are deleted:</p>
        <ul class="delete-list">
          {able.map((v) => {
            const owned = ownedDisks(store, v.vm);
            const memory = savedMemory(store, v.vm);
            const goes = new Set(owned.map((d) => d.vbdRef));
            const kept = disksOf(store, v.vm).filter((d) => d.vdi && d.vbd.type === "Disk" && !goes.has(d.vbdRef));
            return (
              <li key={v.ref}>
                <b>{v.vm.name_label}</b>
                {owned.map((d) => (
                  <span key={d.vbdRef} class="sub">
                    Disk “{d.vdi?.name_label || d.vdi?.uuid}”, {bytes(d.vdi?.virtual_size)} on {d.srName || "unknown storage"}
                  </span>
                ))}
                {memory && <span class="sub">Its saved memory, {bytes(memory.vdi.virtual_size)}</span>}
                {owned.length === 0 && <span class="sub faint">No disk is deleted with it.</span>}
                {kept.map((d) => (
                  <span key={d.vbdRef} class="sub faint">Kept: disk “{d.vdi?.name_label || d.vdi?.uuid}”</span>
                ))}
                {v.vm.snapshots.length > 0 && (
                  <span class="sub faint">Kept: {plural(v.vm.snapshots.length, "snapshot")}</span>
                )}
              </li>
            );
          })}
        </ul>
      </>
    ),
    confirm: "Delete",
    icon: "trash",
    run: () => {
      done?.();
      for (const v of able) {
        void deleteVm(v);
      }
    },
  });
}

/** Why an action cannot be chosen now. */
function reason(views: readonly VmView[]): string | undefined {
  const only = views.length === 1 ? views[0] : undefined;
  if (!only) {
    return "None of the chosen VMs allows this now.";
  }
  return only.operation ? `Not while this runs: ${only.operation.words.toLowerCase()}.`
    : `Not possible while the VM is ${only.state.toLowerCase()}.`;
}

/** What is done on a host that is asked for. */
function hostItems(views: readonly VmView[]): MenuItem[] {
  return HOST_ACTIONS.filter((a) => views.some((v) => allowed(v.vm, a))).map((action) => ({
    id: action.id, label: `${action.label}…`, icon: action.icon,
    run: () => openDialog((close) => <HostDialog action={action} refs={views.filter((v) => allowed(v.vm, action)).map((v) => v.ref)} onClose={close} />),
  }));
}

/** What makes something new of a VM; for one at a time, since it needs a name. */
function copyItems(views: readonly VmView[]): (MenuItem | "line")[] {
  const [view] = views;
  if (!view || views.length > 1) {
    return [];
  }
  const can = (operation: string) => ({
    disabled: !view.vm.allowed_operations.includes(operation),
    title: view.vm.allowed_operations.includes(operation) ? undefined : reason(views),
  });
  return [
    "line",
    { id: "clone", label: "Clone…", icon: "copy", ...can("clone"), run: () => openDialog((close) => <CopyDialog view={view} full={false} onClose={close} />) },
    { id: "copy", label: "Copy in full…", icon: "copy", ...can("copy"), run: () => openDialog((close) => <CopyDialog view={view} full onClose={close} />) },
    { id: "export", label: "Export…", icon: "download", ...can("export"), run: () => void exportVm(view) },
    {
      id: "template", label: "Make a template…", icon: "paste", ...can("make_into_template"),
      run: () => ask({
        title: `Make a template of ${view.vm.name_label}?`,
        body: <p>The VM can then no longer be started. It leaves the list of VMs and is offered when a new VM is made.</p>,
        confirm: "Make a template", icon: "paste", run: () => void makeTemplate(view),
      }),
    },
  ];
}

export function vmMenuItems(views: readonly VmView[], except: readonly string[] = [], deleted?: () => void) {
  const items: (MenuItem | "line")[] = [];
  for (const action of VM_ACTIONS) {
    const able = views.some((v) => allowed(v.vm, action));
    if (except.includes(action.id) || (!able && !["start", "start-paused", "shutdown", "reboot", "force-off", "force-reboot", "pause"].includes(action.id))) {
      continue;
    }
    if (action.id === "force-off") {
      items.push(...hostItems(views), "line");
    }
    items.push({
      id: action.id, label: action.label, icon: action.icon, danger: action.danger ?? false, disabled: !able,
      title: able ? undefined : reason(views), run: () => perform(action, views),
    });
  }
  items.push(...copyItems(views));
  const canDelete = views.some((v) => v.vm.allowed_operations.includes("destroy"));
  items.push("line", {
    id: "delete", label: "Delete…", icon: "trash", danger: true, disabled: !canDelete,
    title: canDelete ? undefined : reason(views), run: () => askDelete(views, deleted),
  });
  return items;
}

/** The first choices as buttons, the rest in a menu. */
export function VmActions({ view, compact, deleted }: { view: VmView; compact?: boolean; deleted?: () => void }) {
  const first = VM_ACTIONS.filter((a) => a.primaryIn.includes(view.state)).slice(0, compact ? 1 : 2);
  return (
    <span class="actions">
      {first.map((a) => (
        <Button key={a.id} kind={compact ? "quiet" : a.icon === "play" ? "primary" : "plain"} icon={a.icon} iconOnly={compact}
          label={compact ? `${a.label} ${view.vm.name_label}` : a.label} disabled={!allowed(view.vm, a)}
          onClick={() => perform(a, [view])} />
      ))}
      <Menu label={`Actions for ${view.vm.name_label}`} items={vmMenuItems([view], [], deleted)} />
    </span>
  );
}
