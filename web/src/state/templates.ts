// What the page says of templates: which there are, what a VM made from each begins as, whose they are.
import type { VM } from "../api/types.js";
import { collator } from "../ui/format.js";
import { describedDisks } from "./provision.js";
import { runJob } from "./jobs.js";
import { client } from "./session.js";
import type { Store } from "./store.js";
import { disksOf, vmView, type VmView } from "./vms.js";

export interface TemplateView extends VmView {
  /** What a VM made from it begins as. */
  purpose: string;
  /** Sizes of the disks that such a VM gets. */
  disks: number[];
  /** It came with the pool and is not deleted from the page. */
  supplied: boolean;
}

export function isTemplate(vm: VM): boolean {
  return vm.is_a_template && !vm.is_a_snapshot;
}

function view(store: Store, ref: string, vm: VM): TemplateView {
  const described = describedDisks(vm.other_config.disks).map((d) => d.size);
  const own = disksOf(store, vm).flatMap((d) => (d.vbd.type === "Disk" && d.vdi ? [d.vdi.virtual_size] : []));
  const kernel = vm.PV_kernel !== "" || vm.HVM_boot_params.kernel !== undefined;
  const purpose = own.length > 0 ? "A copy of its disks"
    : kernel ? "Starts a kernel of its own"
      : "A blank machine: install from a disc or the network";
  return {
    ...vmView(store, ref, vm), purpose, disks: [...described, ...own],
    supplied: vm.is_default_template || vm.other_config.default_template === "true",
  };
}

/** All templates by name. */
export function templatesOf(store: Store): TemplateView[] {
  return store.all("vm").filter(([, vm]) => isTemplate(vm)).map(([ref, vm]) => view(store, ref, vm))
    .sort((a, b) => collator.compare(a.vm.name_label, b.vm.name_label));
}

export function makeVm(template: VmView): Promise<boolean> {
  return runJob("Make a VM of", template.vm.name_label, async () => client().call("VM.set_is_a_template", template.ref, false));
}

export function renameTemplate(template: VmView, name: string, description: string): Promise<boolean> {
  return runJob("Describe", template.vm.name_label, async () => {
    await client().call("VM.set_name_label", template.ref, name);
    await client().call("VM.set_name_description", template.ref, description);
  });
}
