// The records that the page reads, with the fields it uses: names and types as the API publishes them.
// A record of the server has more fields; an older or newer server may lack one, so code that shows a
// field of a map (other_config, os_version, ...) always allows for its absence.

/** A handle, good until the object is gone. The class is for the type checker alone. */
export type Ref<C extends string = string> = string & { readonly __class?: C };
export const NULL_REF = "OpaqueRef:NULL";

export type StringMap = Record<string, string>;
export type PowerState = "Halted" | "Paused" | "Running" | "Suspended";
export type TaskStatus = "pending" | "success" | "failure" | "cancelling" | "cancelled";

interface Named {
  uuid: string;
  name_label: string;
  name_description: string;
}

export interface VM extends Named {
  allowed_operations: string[];
  current_operations: StringMap;
  power_state: PowerState;
  is_a_template: boolean;
  is_default_template: boolean;
  is_a_snapshot: boolean;
  is_control_domain: boolean;
  resident_on: Ref<"host">;
  affinity: Ref<"host">;
  memory_static_max: number;
  memory_dynamic_max: number;
  memory_dynamic_min: number;
  memory_static_min: number;
  VCPUs_max: number;
  VCPUs_at_startup: number;
  consoles: Ref<"console">[];
  VIFs: Ref<"VIF">[];
  VBDs: Ref<"VBD">[];
  snapshots: Ref<"VM">[];
  snapshot_of: Ref<"VM">;
  snapshot_time: string;
  suspend_VDI: Ref<"VDI">;
  HVM_boot_policy: string;
  HVM_boot_params: StringMap;
  PV_kernel: string;
  PV_args: string;
  platform: StringMap;
  other_config: StringMap;
  domid: number;
  metrics: Ref<"VM_metrics">;
  guest_metrics: Ref<"VM_guest_metrics">;
  tags: string[];
}

export interface VMMetrics {
  uuid: string;
  memory_actual: number;
  VCPUs_number: number;
  start_time: string;
  install_time: string;
  last_updated: string;
}

export interface VMGuestMetrics {
  uuid: string;
  os_version: StringMap;
  networks: StringMap;
  memory: StringMap;
  other: StringMap;
  PV_drivers_version: StringMap;
  last_updated: string;
  live: boolean;
}

export interface Host extends Named {
  enabled: boolean;
  hostname: string;
  address: string;
  software_version: StringMap;
  other_config: StringMap;
  cpu_info: StringMap;
  capabilities: string[];
  resident_VMs: Ref<"VM">[];
  PIFs: Ref<"PIF">[];
  PBDs: Ref<"PBD">[];
  metrics: Ref<"host_metrics">;
  memory_overhead: number;
  allowed_operations: string[];
  current_operations: StringMap;
  tags: string[];
}

export interface HostMetrics {
  uuid: string;
  memory_total: number;
  memory_free: number;
  live: boolean;
  last_updated: string;
}

export interface SR extends Named {
  allowed_operations: string[];
  current_operations: StringMap;
  VDIs: Ref<"VDI">[];
  PBDs: Ref<"PBD">[];
  virtual_allocation: number;
  physical_utilisation: number;
  physical_size: number;
  type: string;
  content_type: string;
  shared: boolean;
  other_config: StringMap;
}

export interface SM extends Named {
  type: string;
  /** What a device configuration for it holds: a description of each key. */
  configuration: StringMap;
  capabilities: string[];
}

export interface VDI extends Named {
  allowed_operations: string[];
  current_operations: StringMap;
  SR: Ref<"SR">;
  VBDs: Ref<"VBD">[];
  virtual_size: number;
  physical_utilisation: number;
  type: string;
  sharable: boolean;
  read_only: boolean;
  location: string;
  managed: boolean;
  missing: boolean;
  is_a_snapshot: boolean;
  other_config: StringMap;
}

export interface VBD {
  uuid: string;
  allowed_operations: string[];
  current_operations: StringMap;
  VM: Ref<"VM">;
  VDI: Ref<"VDI">;
  device: string;
  userdevice: string;
  bootable: boolean;
  mode: "RO" | "RW";
  type: "CD" | "Disk" | "Floppy";
  empty: boolean;
  currently_attached: boolean;
  other_config: StringMap;
}

export interface VIF {
  uuid: string;
  allowed_operations: string[];
  device: string;
  network: Ref<"network">;
  VM: Ref<"VM">;
  MAC: string;
  MTU: number;
  currently_attached: boolean;
  ipv4_addresses: string[];
  ipv6_addresses: string[];
}

export interface PIF {
  uuid: string;
  device: string;
  network: Ref<"network">;
  host: Ref<"host">;
  MAC: string;
  MTU: number;
  VLAN: number;
  VLAN_master_of: Ref<"VLAN">;
  IP: string;
  netmask: string;
  gateway: string;
  management: boolean;
  physical: boolean;
  currently_attached: boolean;
  ip_configuration_mode: string;
}

export interface PBD {
  uuid: string;
  host: Ref<"host">;
  SR: Ref<"SR">;
  device_config: StringMap;
  currently_attached: boolean;
}

export interface Network extends Named {
  VIFs: Ref<"VIF">[];
  PIFs: Ref<"PIF">[];
  MTU: number;
  bridge: string;
  managed: boolean;
  other_config: StringMap;
}

export interface Task extends Named {
  allowed_operations: string[];
  current_operations: StringMap;
  created: string;
  finished: string;
  status: TaskStatus;
  resident_on: Ref<"host">;
  progress: number;
  type: string;
  result: string;
  error_info: string[];
  subtask_of: Ref<"task">;
}

export interface Console {
  uuid: string;
  protocol: "vt100" | "rfb" | "rdp";
  location: string;
  VM: Ref<"VM">;
}

export interface Pool extends Named {
  master: Ref<"host">;
  default_SR: Ref<"SR">;
  other_config: StringMap;
}

export interface Message {
  uuid: string;
  name: string;
  priority: number;
  cls: string;
  obj_uuid: string;
  timestamp: string;
  body: string;
}

/** The classes that the page follows, by the name they have in events (lower case). */
export interface Classes {
  vm: VM;
  vm_metrics: VMMetrics;
  vm_guest_metrics: VMGuestMetrics;
  host: Host;
  host_metrics: HostMetrics;
  sr: SR;
  sm: SM;
  vdi: VDI;
  vbd: VBD;
  vif: VIF;
  pif: PIF;
  pbd: PBD;
  network: Network;
  task: Task;
  console: Console;
  pool: Pool;
  message: Message;
}
export type ClassName = keyof Classes;
export const CLASS_NAMES = [
  "vm", "vm_metrics", "vm_guest_metrics", "host", "host_metrics", "sr", "sm", "vdi", "vbd", "vif", "pif", "pbd",
  "network", "task", "console", "pool", "message",
] as const satisfies readonly ClassName[];

export interface ServerEvent {
  id: string;
  class: string;
  operation: "add" | "mod" | "del";
  ref: string;
  snapshot?: unknown;
}

export interface EventBatch {
  events: ServerEvent[];
  token: string;
}

/** The calls that the page makes, without the session that comes first on the wire. */
export interface Methods {
  "event.from": (classes: readonly string[], token: string, timeout: number) => EventBatch;
  "host.compute_free_memory": (host: Ref<"host">) => number;
  "host.enable": (host: Ref<"host">) => void;
  "host.disable": (host: Ref<"host">) => void;
  "host.evacuate": (host: Ref<"host">) => void;
  "host.get_vms_which_prevent_evacuation": (self: Ref<"host">) => Record<string, string[]>;
  "message.destroy": (self: Ref<"message">) => void;
  "network.create": (args: object) => Ref<"network">;
  "network.destroy": (self: Ref<"network">) => void;
  "network.set_name_description": (self: Ref<"network">, value: string) => void;
  "network.set_name_label": (self: Ref<"network">, value: string) => void;
  "PBD.plug": (self: Ref<"PBD">) => void;
  "PBD.unplug": (self: Ref<"PBD">) => void;
  "pool.create_VLAN_from_PIF": (pif: Ref<"PIF">, network: Ref<"network">, tag: number) => Ref<"PIF">[];
  "pool.set_default_SR": (self: Ref<"pool">, value: Ref<"SR">) => void;
  "SR.create": (
    host: Ref<"host">, deviceConfig: StringMap, physicalSize: number, name: string, description: string, type: string,
    contentType: string, shared: boolean, smConfig: StringMap) => Ref<"SR">;
  "SR.destroy": (sr: Ref<"SR">) => void;
  "SR.forget": (sr: Ref<"SR">) => void;
  "SR.scan": (sr: Ref<"SR">) => void;
  "SR.set_name_label": (sr: Ref<"SR">, value: string) => void;
  "task.create": (label: string, description: string) => Ref<"task">;
  "task.cancel": (task: Ref<"task">) => void;
  "task.destroy": (self: Ref<"task">) => void;
  "task.get_record": (self: Ref<"task">) => Task;
  "VBD.create": (args: object) => Ref<"VBD">;
  "VBD.destroy": (self: Ref<"VBD">) => void;
  "VBD.eject": (vbd: Ref<"VBD">) => void;
  "VBD.insert": (vbd: Ref<"VBD">, vdi: Ref<"VDI">) => void;
  "VBD.get_record": (self: Ref<"VBD">) => VBD;
  "VBD.plug": (self: Ref<"VBD">) => void;
  "VBD.unplug": (self: Ref<"VBD">) => void;
  "VDI.create": (args: object) => Ref<"VDI">;
  "VDI.destroy": (self: Ref<"VDI">) => void;
  "VDI.get_VBDs": (self: Ref<"VDI">) => Ref<"VBD">[];
  "VDI.resize": (vdi: Ref<"VDI">, size: number) => void;
  "VDI.resize_online": (vdi: Ref<"VDI">, size: number) => void;
  "VIF.create": (args: object) => Ref<"VIF">;
  "VIF.destroy": (self: Ref<"VIF">) => void;
  "VIF.move": (self: Ref<"VIF">, network: Ref<"network">) => void;
  "VIF.plug": (self: Ref<"VIF">) => void;
  "VIF.unplug": (self: Ref<"VIF">) => void;
  "VLAN.destroy": (self: Ref<"VLAN">) => void;
  "VM.add_to_other_config": (self: Ref<"VM">, key: string, value: string) => void;
  "VM.assert_can_boot_here": (self: Ref<"VM">, host: Ref<"host">) => void;
  "VM.checkpoint": (vm: Ref<"VM">, name: string) => Ref<"VM">;
  "VM.clean_reboot": (vm: Ref<"VM">) => void;
  "VM.clean_shutdown": (vm: Ref<"VM">) => void;
  "VM.clone": (vm: Ref<"VM">, name: string) => Ref<"VM">;
  "VM.copy": (vm: Ref<"VM">, name: string, sr: Ref<"SR">) => Ref<"VM">;
  "VM.destroy": (self: Ref<"VM">) => void;
  "VM.get_allowed_VIF_devices": (vm: Ref<"VM">) => string[];
  "VM.get_record": (self: Ref<"VM">) => VM;
  "VM.get_VBDs": (self: Ref<"VM">) => Ref<"VBD">[];
  "VM.hard_reboot": (vm: Ref<"VM">) => void;
  "VM.hard_shutdown": (vm: Ref<"VM">) => void;
  "VM.pause": (vm: Ref<"VM">) => void;
  "VM.pool_migrate": (vm: Ref<"VM">, host: Ref<"host">, options: StringMap) => void;
  "VM.provision": (vm: Ref<"VM">) => void;
  "VM.remove_from_other_config": (self: Ref<"VM">, key: string) => void;
  "VM.resume": (vm: Ref<"VM">, paused: boolean, force: boolean) => void;
  "VM.resume_on": (vm: Ref<"VM">, host: Ref<"host">, paused: boolean, force: boolean) => void;
  "VM.revert": (snapshot: Ref<"VM">) => void;
  "VM.set_is_a_template": (self: Ref<"VM">, value: boolean) => void;
  "VM.set_memory_limits": (
    self: Ref<"VM">, staticMin: number, staticMax: number, dynamicMin: number, dynamicMax: number) => void;
  "VM.set_name_description": (self: Ref<"VM">, value: string) => void;
  "VM.set_name_label": (self: Ref<"VM">, value: string) => void;
  "VM.set_VCPUs_at_startup": (self: Ref<"VM">, value: number) => void;
  "VM.set_VCPUs_max": (self: Ref<"VM">, value: number) => void;
  "VM.snapshot": (vm: Ref<"VM">, name: string) => Ref<"VM">;
  "VM.start": (vm: Ref<"VM">, paused: boolean, force: boolean) => void;
  "VM.start_on": (vm: Ref<"VM">, host: Ref<"host">, paused: boolean, force: boolean) => void;
  "VM.suspend": (vm: Ref<"VM">) => void;
  "VM.unpause": (vm: Ref<"VM">) => void;
}
export type Method = keyof Methods;
