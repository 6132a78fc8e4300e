// The rows of the fake pool: objects by ref, generations, and what event.from answers about them.
import { EventEmitter } from "node:events";
import { randomUUID } from "node:crypto";

export const NULL_REF = "OpaqueRef:NULL";

export class ApiFailure extends Error {
  constructor(code, ...params) {
    super([code, ...params].join(" "));
    this.code = code;
    this.params = params.map(String);
  }
}

export function wireTime(date = new Date()) {
  return date.toISOString().replace(/[-]/g, "").replace(/\.\d+Z$/, "Z");
}

const never = "19700101T00:00:00Z";

const defaults = {
  VM: () => ({
    allowed_operations: [], current_operations: {}, name_label: "", name_description: "", power_state: "Halted",
    is_a_template: false, is_default_template: false, is_a_snapshot: false, is_control_domain: false,
    resident_on: NULL_REF, affinity: NULL_REF, memory_static_min: 64 << 20, memory_dynamic_min: 512 << 20,
    memory_dynamic_max: 512 << 20, memory_static_max: 512 << 20, VCPUs_max: 1, VCPUs_at_startup: 1, consoles: [],
    VIFs: [], VBDs: [], snapshots: [], snapshot_of: NULL_REF, snapshot_time: never, suspend_VDI: NULL_REF, HVM_boot_policy: "BIOS order", HVM_boot_params: { order: "cd", firmware: "bios" },
    PV_kernel: "", PV_args: "", platform: { acpi: "true", apic: "true" }, other_config: {}, domid: -1,
    metrics: NULL_REF, guest_metrics: NULL_REF, tags: [], blocked_operations: {},
  }),
  VM_metrics: () => ({ memory_actual: 0, VCPUs_number: 0, start_time: never, install_time: never, last_updated: never }),
  VM_guest_metrics: () => ({ os_version: {}, networks: {}, memory: {}, other: {}, PV_drivers_version: {}, last_updated: wireTime(), live: true }),
  host: () => ({
    name_label: "", name_description: "", enabled: true, hostname: "", address: "", software_version: {}, other_config: {},
    cpu_info: {}, capabilities: [], resident_VMs: [], PIFs: [], PBDs: [], metrics: NULL_REF, memory_overhead: 0,
    allowed_operations: [], current_operations: {}, tags: [],
  }),
  host_metrics: () => ({ memory_total: 0, memory_free: 0, live: true, last_updated: wireTime() }),
  SR: () => ({
    name_label: "", name_description: "", allowed_operations: ["scan", "vdi_create", "vdi_destroy"], current_operations: {}, VDIs: [],
    PBDs: [], virtual_allocation: 0, physical_utilisation: 0, physical_size: 0, type: "file", content_type: "user",
    shared: false, other_config: {},
  }),
  SM: () => ({ name_label: "", name_description: "", type: "", configuration: {}, capabilities: ["SR_CREATE", "SR_DELETE"] }),
  VDI: () => ({
    name_label: "", name_description: "", allowed_operations: ["destroy", "resize"], current_operations: {}, SR: NULL_REF, VBDs: [], virtual_size: 0,
    physical_utilisation: 0, type: "system", sharable: false, read_only: false, location: "", managed: true,
    missing: false, is_a_snapshot: false, other_config: {},
  }),
  VBD: () => ({
    allowed_operations: [], current_operations: {}, VM: NULL_REF, VDI: NULL_REF, device: "", userdevice: "0", bootable: false, mode: "RW",
    type: "Disk", empty: false, currently_attached: false, other_config: {},
  }),
  VIF: () => ({
    allowed_operations: [], device: "0", network: NULL_REF, VM: NULL_REF, MAC: "", MTU: 1500, currently_attached: false,
    ipv4_addresses: [], ipv6_addresses: [],
  }),
  PIF: () => ({
    device: "eth0", network: NULL_REF, host: NULL_REF, MAC: "", MTU: 1500, VLAN: -1, VLAN_master_of: NULL_REF, IP: "", netmask: "", gateway: "",
    management: false, physical: true, currently_attached: true, ip_configuration_mode: "DHCP",
  }),
  PBD: () => ({ host: NULL_REF, SR: NULL_REF, device_config: {}, currently_attached: true }),
  VLAN: () => ({ tag: 0, untagged_PIF: NULL_REF }),
  network: () => ({ name_label: "", name_description: "", VIFs: [], PIFs: [], MTU: 1500, bridge: "", managed: true, other_config: {} }),
  task: () => ({
    name_label: "", name_description: "", allowed_operations: [], current_operations: {}, created: wireTime(), finished: never,
    status: "pending", resident_on: NULL_REF, progress: 0, type: "<none/>", result: "", error_info: [], subtask_of: NULL_REF,
  }),
  console: () => ({ protocol: "rfb", location: "", VM: NULL_REF, other_config: {} }),
  pool: () => ({ name_label: "", name_description: "", master: NULL_REF, default_SR: NULL_REF, other_config: {} }),
  message: () => ({ name: "", priority: 5, cls: "VM", obj_uuid: "", timestamp: wireTime(), body: "" }),
};

/** Fields that list the other side of a relation: [class with the single ref, field, class with the list, list]. */
const relations = [
  ["VBD", "VM", "VM", "VBDs"], ["VBD", "VDI", "VDI", "VBDs"], ["VIF", "VM", "VM", "VIFs"], ["VIF", "network", "network", "VIFs"],
  ["VDI", "SR", "SR", "VDIs"], ["PBD", "SR", "SR", "PBDs"], ["PBD", "host", "host", "PBDs"], ["PIF", "host", "host", "PIFs"],
  ["PIF", "network", "network", "PIFs"], ["console", "VM", "VM", "consoles"], ["VM", "resident_on", "host", "resident_VMs"],
  ["VM", "snapshot_of", "VM", "snapshots"],
];

export class Model {
  rows = new Map();
  gone = [];
  generation = 1;
  changed = new EventEmitter().setMaxListeners(0);

  create(cls, fields = {}) {
    const ref = `OpaqueRef:${randomUUID()}`;
    const record = { uuid: randomUUID(), ...defaults[cls](), ...fields };
    this.rows.set(ref, { cls, ref, record, created: ++this.generation, modified: this.generation });
    this.#relate(cls, ref, record, true);
    this.#tell();
    return ref;
  }

  /** The live record: change it through update() only. */
  get(cls, ref) {
    const row = this.rows.get(ref);
    if (!row || row.cls !== cls) {
      throw new ApiFailure("HANDLE_INVALID", cls, ref);
    }
    return row.record;
  }

  find(cls, matches) {
    return [...this.rows.values()].filter((row) => row.cls === cls && matches(row.record)).map((row) => row.ref);
  }

  update(ref, fields) {
    const row = this.rows.get(ref);
    this.#relate(row.cls, ref, row.record, false);
    row.record = { ...row.record, ...fields };
    row.modified = ++this.generation;
    this.#relate(row.cls, ref, row.record, true);
    this.#tell();
  }

  remove(ref) {
    const row = this.rows.get(ref);
    if (!row) {
      return;
    }
    this.#relate(row.cls, ref, row.record, false);
    this.rows.delete(ref);
    this.gone.push({ cls: row.cls, ref, created: row.created, removed: ++this.generation });
    this.#tell();
  }

  #relate(cls, ref, record, on) {
    for (const [from, field, to, list] of relations) {
      const other = from === cls ? this.rows.get(record[field]) : undefined;
      if (other?.cls === to) {
        const without = other.record[list].filter((r) => r !== ref);
        other.record = { ...other.record, [list]: on ? [...without, ref] : without };
        other.modified = ++this.generation;
      }
    }
  }

  #tell() {
    setImmediate(() => this.changed.emit("change"));
  }

  token(generation = this.generation) {
    return `${String(generation).padStart(20, "0")},${"0".repeat(20)}`;
  }

  /** The events since the token, for these classes. */
  eventsSince(classes, token) {
    if (token !== "" && !/^\d{20},\d{20}$/.test(token)) {
      throw new ApiFailure("EVENT_FROM_TOKEN_PARSE_FAILURE", token);
    }
    const since = token === "" ? 0 : Number(token.slice(0, 20));
    const wanted = new Set(classes.map((c) => c.toLowerCase()));
    const follows = (cls) => wanted.has("*") || wanted.has(cls.toLowerCase());
    const event = (row, operation, snapshot) =>
      ({ id: String(row.modified ?? row.removed), timestamp: "0.0", class: row.cls.toLowerCase(), operation, ref: row.ref, ...(snapshot ? { snapshot } : {}) });
    const touched = [...this.rows.values()].filter((row) => follows(row.cls) && row.modified > since);
    return [
      ...touched.filter((row) => row.created > since).map((row) => event(row, "add", row.record)),
      ...touched.filter((row) => row.created <= since).map((row) => event(row, "mod", row.record)),
      ...this.gone.filter((row) => follows(row.cls) && row.created <= since && row.removed > since).map((row) => event(row, "del")),
    ];
  }

  /** event.from: waits for something to tell, or the timeout. `stop` ends the wait early. */
  async eventFrom(classes, token, timeoutSeconds, stop) {
    const deadline = Date.now() + timeoutSeconds * 1000;
    for (;;) {
      const events = this.eventsSince(classes, token);
      const left = deadline - Date.now();
      if (events.length > 0 || left <= 0 || stop.aborted) {
        return { events, valid_ref_counts: {}, token: this.token() };
      }
      await new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer);
          this.changed.off("change", done);
          stop.removeEventListener("abort", done);
          resolve();
        };
        const timer = setTimeout(done, left);
        this.changed.once("change", done);
        stop.addEventListener("abort", done);
      });
    }
  }
}
