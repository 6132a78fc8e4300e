// What is done to the disks, drives and NICs of a VM. A running VM gets a new device at once, and loses one that is
// removed; where the guest does not let that happen, the failure says what is left to do.
import { NULL_REF } from "../api/types.js";
import { client } from "./session.js";
import { runJob, runTask, type Steps } from "./jobs.js";
import type { DiskView, NicView, VmView } from "./vms.js";

function driveRecord(vm: string, vdi: string, fields: object): object {
  return {
    VM: vm, VDI: vdi, userdevice: "autodetect", bootable: false, mode: "RW", type: "Disk", unpluggable: true, empty: false,
    other_config: {}, qos_algorithm_type: "", qos_algorithm_params: {}, ...fields,
  };
}

/** The record of a new CD drive for the VM, with a disc in it or empty. */
export function cdDrive(vm: string, disc: string | null): object {
  return driveRecord(vm, disc ?? NULL_REF, { bootable: true, mode: "RO", type: "CD", unpluggable: false, empty: disc === null });
}

/** Plugs what was just given to a running VM. */
async function plugNew(steps: Steps, view: VmView, method: "VBD.plug" | "VIF.plug", device: string, what: string): Promise<void> {
  if (view.state === "Running") {
    steps.say("Plugging it in");
    steps.hint(`The VM has the ${what}; it sees it when it is next started, or when it can be plugged in.`);
    await steps.run(method, device);
    steps.hint("");
  }
}

export interface NewDisk {
  name: string;
  sr: string;
  sizeBytes: number;
}

export function addDisk(view: VmView, disk: NewDisk): Promise<boolean> {
  return runJob("New disk", disk.name, async (steps) => {
    const vdi = await steps.run("VDI.create", {
      name_label: disk.name, name_description: "", SR: disk.sr, virtual_size: disk.sizeBytes, type: "user", sharable: false,
      read_only: false, other_config: {}, xenstore_data: {}, sm_config: {}, tags: [],
    });
    if (!vdi) {
      throw new Error("The server did not name the new disk.");
    }
    steps.hint("The disk is made, but the VM does not have it.");
    const vbd = await client().call("VBD.create", driveRecord(view.ref, vdi, { other_config: { owner: "" } }));
    steps.hint("");
    await plugNew(steps, view, "VBD.plug", vbd, "disk");
  });
}

/** Gives the VM a disk that exists. */
export function attachDisk(view: VmView, vdi: string, name: string, readOnly: boolean): Promise<boolean> {
  return runJob("Attach disk", name, async (steps) => {
    const vbd = await client().call("VBD.create", driveRecord(view.ref, vdi, { mode: readOnly ? "RO" : "RW" }));
    await plugNew(steps, view, "VBD.plug", vbd, "disk");
  });
}

async function release(steps: Steps, kind: "VBD" | "VIF", ref: string, plugged: boolean, what: string): Promise<void> {
  if (plugged) {
    steps.say("Unplugging it");
    await steps.run(`${kind}.unplug`, ref);
    steps.hint(`The ${what} is unplugged, but still the VM’s.`);
  }
  await steps.run(`${kind}.destroy`, ref);
  steps.hint("");
}

const releaseDisk = (steps: Steps, disk: DiskView) =>
  release(steps, "VBD", disk.vbdRef, disk.vbd.currently_attached, "disk");

const diskName = (disk: DiskView) => disk.vdi?.name_label || `drive ${disk.vbd.userdevice}`;

/** Takes the disk from the VM; what is on it stays. */
export function detachDisk(disk: DiskView): Promise<boolean> {
  return runJob("Detach disk", diskName(disk), (steps) => releaseDisk(steps, disk));
}

export function deleteDisk(disk: DiskView): Promise<boolean> {
  return runJob("Delete disk", diskName(disk), async (steps) => {
    await releaseDisk(steps, disk);
    if (disk.vdiRef) {
      steps.say("Deleting it");
      steps.hint("The disk is detached, but still in its storage.");
      await steps.run("VDI.destroy", disk.vdiRef);
      steps.hint("");
    }
  });
}

/** How a disk may be made larger now: null when it may not. */
export function resizeMethod(disk: DiskView): "VDI.resize" | "VDI.resize_online" | null {
  const can = disk.vdi?.allowed_operations ?? [];
  return can.includes("resize") ? "VDI.resize" : can.includes("resize_online") ? "VDI.resize_online" : null;
}

export function resizeDisk(disk: DiskView, sizeBytes: number): Promise<boolean> {
  return runTask("Resize disk", diskName(disk), resizeMethod(disk) ?? "VDI.resize", disk.vdiRef ?? NULL_REF, sizeBytes);
}

export function plugDisk(disk: DiskView, on: boolean): Promise<boolean> {
  return runTask(on ? "Plug in" : "Unplug", diskName(disk), on ? "VBD.plug" : "VBD.unplug", disk.vbdRef);
}

const nicName = (view: VmView, nic: NicView) => `NIC ${nic.vif.device} of ${view.vm.name_label}`;

/** `mac` "": the server makes one. */
export function addNic(view: VmView, network: string, mtu: number, mac: string): Promise<boolean> {
  return runJob("New NIC for", view.vm.name_label, async (steps) => {
    const [device] = await client().call("VM.get_allowed_VIF_devices", view.ref);
    if (device === undefined) {
      throw new Error("The VM has as many NICs as it can have.");
    }
    const vif = await client().call("VIF.create", {
      VM: view.ref, network, device, MAC: mac, MTU: mtu, other_config: {}, qos_algorithm_type: "", qos_algorithm_params: {},
      locking_mode: "network_default", ipv4_allowed: [], ipv6_allowed: [],
    });
    await plugNew(steps, view, "VIF.plug", vif, "NIC");
  });
}

export function removeNic(view: VmView, nic: NicView): Promise<boolean> {
  return runJob("Remove", nicName(view, nic),
    (steps) => release(steps, "VIF", nic.ref, nic.vif.currently_attached, "NIC"));
}

export function moveNic(view: VmView, nic: NicView, network: string): Promise<boolean> {
  return runTask("Change the network of", nicName(view, nic), "VIF.move", nic.ref, network);
}

export function plugNic(view: VmView, nic: NicView, on: boolean): Promise<boolean> {
  return runTask(on ? "Plug in" : "Unplug", nicName(view, nic), on ? "VIF.plug" : "VIF.unplug", nic.ref);
}
