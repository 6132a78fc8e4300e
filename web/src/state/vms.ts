// What the page says about a VM, gathered from its record and the records around it.
import { NULL_REF, type PowerState, type SR, type VBD, type VDI, type VIF, type VM } from "../api/types.js";
import { collator } from "../ui/format.js";
import { type Store } from "./store.js";

export interface Operation {
  /** "clean_shutdown" */
  name: string;
  /** "Shutting down" */
  words: string;
  /** 0..1, or null when the server does not tell. */
  progress: number | null;
  task: string;
}

export interface VmView {
  ref: string;
  vm: VM;
  state: PowerState;
  operation: Operation | null;
  host: string;
  hostUuid: string;
  os: string;
  addresses: string[];
  vcpus: number;
  memory: number;
}

const OPERATION_WORDS: Record<string, string> = {
  start: "Starting", start_on: "Starting", clean_shutdown: "Shutting down", hard_shutdown: "Forcing off",
  shutdown: "Shutting down", clean_reboot: "Rebooting", hard_reboot: "Forcing reboot", pause: "Pausing",
  unpause: "Unpausing", suspend: "Suspending", resume: "Resuming", resume_on: "Resuming", clone: "Cloning",
  copy: "Copying", provision: "Provisioning", destroy: "Deleting", snapshot: "Taking a snapshot",
  checkpoint: "Taking a checkpoint", revert: "Reverting", export: "Exporting", import: "Importing",
  pool_migrate: "Migrating", migrate_send: "Migrating", csvm: "Copying", attach: "Attaching",
};

export function operationWords(name: string): string {
  const known = OPERATION_WORDS[name];
  if (known) {
    return known;
  }
  const spaced = name.replaceAll("_", " ");
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

export function operationOf(store: Store, vm: VM): Operation | null {
  const first = Object.entries(vm.current_operations)[0];
  if (!first) {
    return null;
  }
  const [task, name] = first;
  const progress = store.get("task", task)?.progress;
  return { name, words: operationWords(name), progress: progress !== undefined && progress > 0 ? progress : null, task };
}

/** The addresses that the guest told, each once, IPv4 first, without those that only the guest can use. */
export function addressesOf(networks: Record<string, string> | undefined): string[] {
  const found = new Set<string>();
  for (const [key, value] of Object.entries(networks ?? {})) {
    if (/^\d+\/(ip|ipv4\/\d+|ipv6\/\d+)$/.test(key)) {
      for (const address of value.split(/[\s,]+/)) {
        if (address !== "") {
          found.add(address);
        }
      }
    }
  }
  const rank = (a: string) => (a.includes(":") ? (a.toLowerCase().startsWith("fe80:") ? 2 : 1) : 0);
  return [...found].sort((a, b) => rank(a) - rank(b));
}

export function vmView(store: Store, ref: string, vm: VM): VmView {
  const guest = store.get("vm_guest_metrics", vm.guest_metrics);
  const metrics = store.get("vm_metrics", vm.metrics);
  const host = store.get("host", vm.resident_on);
  const running = vm.power_state === "Running" || vm.power_state === "Paused";
  return {
    ref,
    vm,
    state: vm.power_state,
    operation: operationOf(store, vm),
    host: host?.name_label ?? "",
    hostUuid: host?.uuid ?? "",
    os: guest?.os_version.name || guest?.os_version.distro || "",
    addresses: running ? addressesOf(guest?.networks) : [],
    vcpus: running && metrics && metrics.VCPUs_number > 0 ? metrics.VCPUs_number : vm.VCPUs_at_startup,
    memory: running && metrics && metrics.memory_actual > 0 ? metrics.memory_actual : vm.memory_dynamic_max,
  };
}

export function isOrdinaryVm(vm: VM): boolean {
  return !vm.is_a_template && !vm.is_a_snapshot && !vm.is_control_domain;
}

/** The VM's snapshots. */
export function snapshotsOf(store: Store, vm: VM): VmView[] {
  return vm.snapshots.flatMap((ref) => {
    const snapshot = store.get("vm", ref);
    return snapshot ? [vmView(store, ref, snapshot)] : [];
  });
}

export interface DiskView {
  vbdRef: string;
  vbd: VBD;
  vdiRef: string | null;
  vdi: VDI | null;
  srName: string;
}

/** The VM's drives in the order of their device numbers. */
export function disksOf(store: Store, vm: VM): DiskView[] {
  const views: DiskView[] = [];
  for (const vbdRef of vm.VBDs) {
    const vbd = store.get("vbd", vbdRef);
    if (vbd) {
      const vdi = store.get("vdi", vbd.VDI) ?? null;
      views.push({
        vbdRef, vbd, vdi,
        vdiRef: vbd.VDI === NULL_REF ? null : vbd.VDI,
        srName: store.get("sr", vdi?.SR)?.name_label ?? "",
      });
    }
  }
  return views.sort((a, b) => Number(a.vbd.userdevice) - Number(b.vbd.userdevice) ||
    a.vbd.userdevice.localeCompare(b.vbd.userdevice));
}

export interface NicView {
  ref: string;
  vif: VIF;
  network: string;
  addresses: string[];
}

/** The VM's NICs, each with the addresses that the guest told of it. */
export function nicsOf(store: Store, view: VmView): NicView[] {
  const running = view.state === "Running" || view.state === "Paused";
  const told = running ? store.get("vm_guest_metrics", view.vm.guest_metrics)?.networks ?? {} : {};
  return view.vm.VIFs.flatMap((ref) => {
    const vif = store.get("vif", ref);
    if (!vif) {
      return [];
    }
    const own = Object.fromEntries(Object.entries(told).filter(([key]) => key.startsWith(`${vif.device}/`)));
    return [{ ref, vif, network: store.get("network", vif.network)?.name_label ?? "", addresses: addressesOf(own) }];
  });
}

/** Disks that the VM could be given: those of nobody, and those that may be shared. */
export function attachableDisks(store: Store, vm: VM): { ref: string; vdi: VDI; srName: string }[] {
  const own = new Set(disksOf(store, vm).map((d) => d.vdiRef));
  return diskSrs(store).flatMap(([, sr]) => sr.VDIs.flatMap((ref) => {
    const vdi = store.get("vdi", ref);
    const fits = vdi && vdi.managed && !vdi.missing && !vdi.is_a_snapshot && ["user", "system"].includes(vdi.type) &&
      (vdi.VBDs.length === 0 || vdi.sharable) && !own.has(ref);
    return fits ? [{ ref, vdi, srName: sr.name_label }] : [];
  })).sort((a, b) => collator.compare(a.vdi.name_label, b.vdi.name_label));
}

/** Disks that go with the VM when it is deleted: those that were made for it, and for no other VM. */
export function ownedDisks(store: Store, vm: VM): DiskView[] {
  return disksOf(store, vm).filter((d) =>
    d.vdi !== null && d.vbd.type === "Disk" && "owner" in d.vbd.other_config &&
    d.vdi.VBDs.every((other) => vm.VBDs.includes(other)));
}

/** The disk with the memory of a suspended VM, or of a snapshot with memory. */
export function savedMemory(store: Store, vm: VM): { ref: string; vdi: VDI } | null {
  const vdi = store.get("vdi", vm.suspend_VDI);
  return vdi ? { ref: vm.suspend_VDI, vdi } : null;
}

/** Storage that takes new disks, by name. */
export function diskSrs(store: Store): [ref: string, sr: SR][] {
  return store.all("sr").filter(([, sr]) => sr.content_type !== "iso" && sr.type !== "iso" && sr.allowed_operations.includes("vdi_create"))
    .sort(([, a], [, b]) => collator.compare(a.name_label, b.name_label));
}

/** The discs that may be put into a CD drive, by the library that holds them. */
export function insertableDiscs(store: Store): { ref: string; vdi: VDI; srName: string }[] {
  const found: { ref: string; vdi: VDI; srName: string }[] = [];
  for (const [ref, vdi] of store.all("vdi")) {
    const sr = store.get("sr", vdi.SR);
    if (sr && (sr.content_type === "iso" || sr.type === "iso") && !vdi.missing && !vdi.is_a_snapshot) {
      found.push({ ref, vdi, srName: sr.name_label });
    }
  }
  return found.sort((a, b) => a.vdi.name_label.localeCompare(b.vdi.name_label));
}
