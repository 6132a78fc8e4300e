// What can be done to a VM: one table, so that list, detail view and bulk bar offer the same, under the
// same names, by what the server says is allowed.
import type { VM } from "../api/types.js";
import { runJob, runTask, type Steps } from "./jobs.js";
import { client } from "./session.js";
import { ownedDisks, savedMemory, type VmView } from "./vms.js";
import { store } from "./store.js";
import type { IconName } from "../ui/icons.js";

export interface VmAction {
  id: string;
  label: string;
  icon: IconName;
  /** The operation that must be in allowed_operations. */
  needs: string;
  /** Shown as one of the first choices in this power state. */
  primaryIn: readonly string[];
  danger?: boolean;
  /** Asked before; the sentence says what is lost. */
  confirm?: (names: string) => string;
  run: (view: VmView) => Promise<boolean>;
}

export const VM_ACTIONS: readonly VmAction[] = [
  {
    id: "start", label: "Start", icon: "play", needs: "start", primaryIn: ["Halted"],
    run: (v) => runTask("Start", v.vm.name_label, "VM.start", v.ref, false, false),
  },
  {
    id: "start-paused", label: "Start paused", icon: "playPause", needs: "start", primaryIn: [],
    run: (v) => runTask("Start paused", v.vm.name_label, "VM.start", v.ref, true, false),
  },
  {
    id: "resume", label: "Resume", icon: "play", needs: "resume", primaryIn: ["Suspended"],
    run: (v) => runTask("Resume", v.vm.name_label, "VM.resume", v.ref, false, false),
  },
  {
    id: "unpause", label: "Unpause", icon: "play", needs: "unpause", primaryIn: ["Paused"],
    run: (v) => runTask("Unpause", v.vm.name_label, "VM.unpause", v.ref),
  },
  {
    id: "shutdown", label: "Shut down", icon: "power", needs: "clean_shutdown", primaryIn: ["Running"],
    run: (v) => runTask("Shut down", v.vm.name_label, "VM.clean_shutdown", v.ref),
  },
  {
    id: "reboot", label: "Reboot", icon: "restart", needs: "clean_reboot", primaryIn: ["Running"],
    run: (v) => runTask("Reboot", v.vm.name_label, "VM.clean_reboot", v.ref),
  },
  {
    id: "pause", label: "Pause", icon: "pause", needs: "pause", primaryIn: [],
    run: (v) => runTask("Pause", v.vm.name_label, "VM.pause", v.ref),
  },
  {
    id: "suspend", label: "Suspend", icon: "moon", needs: "suspend", primaryIn: [],
    run: (v) => runTask("Suspend", v.vm.name_label, "VM.suspend", v.ref),
  },
  {
    id: "force-off", label: "Force off", icon: "bolt", needs: "hard_shutdown", primaryIn: ["Paused"], danger: true,
    confirm: (names) => `The power of ${names} is cut at once. The guest does not save anything first.`,
    run: (v) => runTask("Force off", v.vm.name_label, "VM.hard_shutdown", v.ref),
  },
  {
    id: "force-reboot", label: "Force reboot", icon: "bolt", needs: "hard_reboot", primaryIn: [], danger: true,
    confirm: (names) => `${names} is reset at once. The guest does not save anything first.`,
    run: (v) => runTask("Force reboot", v.vm.name_label, "VM.hard_reboot", v.ref),
  },
];

/** What is done on a host that the user chooses. */
export interface HostAction {
  id: string;
  label: string;
  icon: IconName;
  needs: string;
  run: (view: VmView, host: string) => Promise<boolean>;
}

export const HOST_ACTIONS: readonly HostAction[] = [
  {
    id: "migrate", label: "Migrate", icon: "move", needs: "pool_migrate",
    run: (v, host) => runTask("Migrate", v.vm.name_label, "VM.pool_migrate", v.ref, host, { live: "true" }),
  },
  {
    id: "start-on", label: "Start on", icon: "play", needs: "start_on",
    run: (v, host) => runTask("Start", v.vm.name_label, "VM.start_on", v.ref, host, false, false),
  },
  {
    id: "resume-on", label: "Resume on", icon: "play", needs: "resume_on",
    run: (v, host) => runTask("Resume", v.vm.name_label, "VM.resume_on", v.ref, host, false, false),
  },
];

/** A VM like this one. `sr` null: each disk is cloned where it is, at once where the storage can; else copied in full. */
export function copyVm(view: VmView, name: string, sr: string | null): Promise<boolean> {
  const words = `${view.vm.name_label} as ${name}`;
  return sr === null ? runTask("Clone", words, "VM.clone", view.ref, name) : runTask("Copy", words, "VM.copy", view.ref, name, sr);
}

export function makeTemplate(view: VmView): Promise<boolean> {
  return runJob("Make a template of", view.vm.name_label, async () => client().call("VM.set_is_a_template", view.ref, true));
}

export function allowed(vm: VM, action: { needs: string }): boolean {
  return vm.allowed_operations.includes(action.needs);
}

/** Runs each VM's own job; they do not wait for each other. */
export function runOnAll(action: VmAction, views: readonly VmView[]): Promise<boolean[]> {
  return Promise.all(views.map((v) => action.run(v)));
}

/** Deletes the VM and the disks that were made for it, its saved memory among them. */
export function deleteVm(view: VmView): Promise<boolean> {
  const disks = ownedDisks(store, view.vm).map((d) => ({ ref: d.vdiRef ?? "", name: d.vdi?.name_label ?? "" }));
  const memory = savedMemory(store, view.vm);
  if (memory) {
    disks.push({ ref: memory.ref, name: memory.vdi.name_label });
  }
  return runJob("Delete", view.vm.name_label, async (steps) => destroyWithDisks(steps, view.ref, disks));
}

/** The VM first, so that a failure leaves no VM that points to a disk that is gone. */
export async function destroyWithDisks(
  steps: Steps, vm: string, disks: readonly { ref: string; name: string }[]): Promise<void> {
  await steps.run("VM.destroy", vm);
  for (const [i, disk] of disks.entries()) {
    steps.say(`Disk ${i + 1} of ${disks.length}: ${disk.name}`);
    steps.hint("The VM is deleted; the disk named above and those after it are still in their storage.");
    await steps.run("VDI.destroy", disk.ref);
  }
  steps.hint("");
}
