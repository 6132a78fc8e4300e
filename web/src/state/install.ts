// A new VM from a template, in the steps of `xe vm-install`: clone, name, size, choose the storage of its
// new disks, provision. What a failure leaves half made is removed again.
import { sentenceOf } from "../api/errors.js";
import { disksIn, oneDisk } from "./provision.js";
import { client } from "./session.js";
import { runJob, type Steps } from "./jobs.js";
import { cdDrive } from "./devices.js";
import { destroyWithDisks } from "./vm-actions.js";

export interface InstallOrder {
  template: string;
  name: string;
  description: string;
  vcpus: number;
  memoryBytes: number;
  /** The uuid of the SR for disks that the template describes; "" keeps what the template says. */
  srUuid: string;
  /** The size of the first disk, for a template that has none; 0: no disk. */
  firstDiskBytes: number;
  /** The disc to start from; "": none. */
  disc: string;
  start: boolean;
}

async function configure(steps: Steps, vm: string, order: InstallOrder): Promise<void> {
  const api = client();
  const record = await api.call("VM.get_record", vm);
  steps.say("Setting name, processors and memory");
  await api.call("VM.set_name_description", vm, order.description);
  if (order.vcpus !== record.VCPUs_max || order.vcpus !== record.VCPUs_at_startup) {
    // At no moment may the number at start exceed the greatest number.
    if (order.vcpus >= record.VCPUs_max) {
      await api.call("VM.set_VCPUs_max", vm, order.vcpus);
      await api.call("VM.set_VCPUs_at_startup", vm, order.vcpus);
    } else {
      await api.call("VM.set_VCPUs_at_startup", vm, order.vcpus);
      await api.call("VM.set_VCPUs_max", vm, order.vcpus);
    }
  }
  if (order.memoryBytes !== record.memory_static_max || order.memoryBytes !== record.memory_dynamic_min) {
    await api.call("VM.set_memory_limits", vm, Math.min(record.memory_static_min, order.memoryBytes),
      order.memoryBytes, order.memoryBytes, order.memoryBytes);
  }
  const disks = order.firstDiskBytes > 0 ? oneDisk(order.firstDiskBytes) : record.other_config.disks;
  if (disks !== undefined && order.srUuid !== "") {
    const rewritten = disksIn(disks, order.srUuid);
    await api.call("VM.remove_from_other_config", vm, "disks");
    await api.call("VM.add_to_other_config", vm, "disks", rewritten);
  }
}

/** Puts the disc into the VM's CD drive, or gives the VM a drive with the disc in it. */
async function insertDisc(steps: Steps, vm: string, disc: string): Promise<void> {
  const api = client();
  for (const vbd of await api.call("VM.get_VBDs", vm)) {
    const record = await api.call("VBD.get_record", vbd);
    if (record.type === "CD") {
      if (!record.empty) {
        await steps.run("VBD.eject", vbd);
      }
      await steps.run("VBD.insert", vbd, disc);
      return;
    }
  }
  await api.call("VBD.create", cdDrive(vm, disc));
}

/** Removes a VM that could not be finished, with the disks already made for it. */
async function removeHalfMade(steps: Steps, vm: string): Promise<void> {
  const api = client();
  const disks: { ref: string; name: string }[] = [];
  for (const vbd of await api.call("VM.get_VBDs", vm)) {
    const record = await api.call("VBD.get_record", vbd);
    const ours = record.type === "Disk" && !record.empty && "owner" in record.other_config;
    // A disk that another VM uses too was not made for this one, whatever its mark says.
    if (ours && (await api.call("VDI.get_VBDs", record.VDI)).length === 1) {
      disks.push({ ref: record.VDI, name: record.userdevice });
    }
  }
  await destroyWithDisks(steps, vm, disks);
}

export function install(order: InstallOrder): Promise<boolean> {
  return runJob("Install", order.name, async (steps) => {
    steps.say("Cloning the template");
    const vm = await steps.run("VM.clone", order.template, order.name);
    if (!vm) {
      throw new Error("The server did not name the new VM.");
    }
    try {
      await configure(steps, vm, order);
      steps.say("Making the disks");
      await steps.run("VM.provision", vm);
      if (order.disc !== "") {
        steps.say("Inserting the disc");
        await insertDisc(steps, vm, order.disc);
      }
    } catch (e) {
      try {
        steps.say("Removing what was made");
        await removeHalfMade(steps, vm);
        steps.hint("Nothing is left of the new VM.");
      } catch (e2) {
        steps.hint(`The half-made VM could not be removed: ${sentenceOf(e2)}`);
      }
      throw e;
    }
    if (order.start) {
      steps.say("Starting");
      steps.hint("The VM is installed, but it was not started.");
      await steps.run("VM.start", vm, false, false);
      steps.hint("");
    }
  });
}
