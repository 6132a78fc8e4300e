// What the page says about a host, gathered from its record and the VMs on it.
import type { Host } from "../api/types.js";
import type { Store } from "./store.js";
import { isOrdinaryVm } from "./vms.js";

export interface HostView {
  ref: string;
  host: Host;
  state: "Live" | "Disabled" | "Not answering";
  vms: number;
  vcpus: number;
  cpus: number;
  cpuModel: string;
  memoryTotal: number;
  memoryUsed: number;
  accelerator: { name: string; reason: string } | null;
  coordinator: boolean;
}

/**
 * The accelerator as the host tells it: the keys that speak of one, wherever they are. The shortest value
 * is taken for the name and the rest for the reason.
 */
export function acceleratorOf(host: Host): HostView["accelerator"] {
  const told = [host.other_config, host.software_version, host.cpu_info]
    .flatMap((map) => Object.entries(map ?? {}))
    .filter(([key, value]) => /accel/i.test(key) && value !== "");
  if (told.length === 0) {
    return null;
  }
  const isReason = ([key]: [string, string]) => /reason|why|text|detail/i.test(key);
  const name = told.find((entry) => !isReason(entry)) ?? told[0];
  const reason = told.find((entry) => isReason(entry) && entry !== name);
  return { name: name?.[1] ?? "", reason: reason?.[1] ?? "" };
}

export function hostView(store: Store, ref: string, host: Host): HostView {
  const metrics = store.get("host_metrics", host.metrics);
  const pool = store.all("pool")[0]?.[1];
  let used = 0;
  let vms = 0;
  let vcpus = 0;
  for (const vmRef of host.resident_VMs) {
    const vm = store.get("vm", vmRef);
    if (vm && isOrdinaryVm(vm)) {
      const now = store.get("vm_metrics", vm.metrics);
      used += now && now.memory_actual > 0 ? now.memory_actual : vm.memory_dynamic_max;
      vcpus += vm.VCPUs_at_startup;
      vms++;
    }
  }
  const total = metrics?.memory_total ?? 0;
  const free = metrics?.memory_free ?? 0;
  return {
    ref, host, vms, vcpus,
    state: metrics && !metrics.live ? "Not answering" : host.enabled ? "Live" : "Disabled",
    cpus: Number(host.cpu_info.cpu_count ?? 0) || 0,
    cpuModel: host.cpu_info.modelname || host.cpu_info.model_name || host.cpu_info.vendor || "",
    memoryTotal: total,
    memoryUsed: free > 0 && free <= total ? total - free : used,
    accelerator: acceleratorOf(host),
    coordinator: pool?.master === ref,
  };
}

/** The product's version, as the host tells it. */
export function versionOf(host: Host): string {
  const v = host.software_version;
  // product_version is what clients of other products compare; the agent's own version is the true one.
  const product = v.corral_agent ? `Corral ${v.corral_agent}` : [v.product_brand, v.product_version_text || v.product_version].filter(Boolean).join(" ");
  return [product, v.qemu && `QEMU ${v.qemu}`, v.os].filter(Boolean).join(", ");
}
