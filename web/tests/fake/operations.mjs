// What the fake pool does when asked: the calls that the page makes, with times short enough for tests.
import { setTimeout as delay } from "node:timers/promises";
import { ApiFailure, NULL_REF, wireTime } from "./model.mjs";

const BY_STATE = {
  Halted: ["start", "start_on", "clone", "copy", "destroy", "export", "snapshot", "changing_static_range", "make_into_template"],
  Running: ["pause", "clean_shutdown", "clean_reboot", "hard_shutdown", "hard_reboot", "suspend", "snapshot", "checkpoint", "pool_migrate"],
  Paused: ["unpause", "hard_shutdown", "hard_reboot"],
  Suspended: ["resume", "resume_on", "hard_shutdown", "destroy"],
};
/** Operation of a VM call: the states it needs, and what it is called in current_operations. */
const VM_CALLS = {
  start: { from: ["Halted"] }, clean_shutdown: { from: ["Running"] }, hard_shutdown: { from: ["Running", "Paused", "Suspended"] },
  clean_reboot: { from: ["Running"] }, hard_reboot: { from: ["Running", "Paused"] }, pause: { from: ["Running"] },
  unpause: { from: ["Paused"] }, suspend: { from: ["Running"] }, resume: { from: ["Suspended"] }, clone: { from: ["Halted"] },
  start_on: { from: ["Halted"] }, resume_on: { from: ["Suspended"] }, pool_migrate: { from: ["Running"] }, copy: { from: ["Halted"] },
  provision: { from: ["Halted"] }, destroy: { from: ["Halted", "Suspended"] },
  snapshot: { from: ["Halted", "Running"] }, checkpoint: { from: ["Running"] }, revert: { from: ["Halted", "Suspended"] },
};

export class Operations {
  /** @param stepMs how long one of the five steps of an operation takes */
  constructor(model, stepMs) {
    this.model = model;
    this.stepMs = stepMs;
    /** Set by a test: the next call of this name fails so. */
    this.failNext = new Map();
    /** Set by a test: called with (task ref) before each step, may wait. */
    this.hold = null;
    this.calls = [];
    /** Set by a test: the VMs that cannot leave a host, with the error of each. */
    this.stuck = {};
  }

  refreshAllowed(ref) {
    const vm = this.model.get("VM", ref);
    const busy = Object.keys(vm.current_operations).length > 0;
    let allowed = busy ? (vm.power_state === "Halted" ? [] : ["hard_shutdown"]) : [...BY_STATE[vm.power_state]];
    if (vm.is_a_template) {
      allowed = busy ? [] : ["clone", "copy", "provision", "export", ...(vm.is_default_template ? [] : ["destroy"])];
    }
    if (vm.is_a_snapshot) {
      allowed = busy ? [] : ["revert", "clone", "copy", "export", "destroy"];
    }
    this.model.update(ref, { allowed_operations: allowed });
    for (const device of [...vm.VBDs, ...vm.VIFs]) {
      this.#refreshDevice(device, vm.power_state);
    }
  }

  /** Disks and NICs of a running VM are plugged and unplugged; drives are told by what they hold. */
  #refreshDevice(ref, state) {
    const { record } = this.model.rows.get(ref);
    if (record.type !== "CD") {
      this.model.update(ref, { allowed_operations: ["attach", ...(state !== "Running" ? [] : [record.currently_attached ? "unplug" : "plug"])] });
    }
  }

  #plug(cls, ref, on) {
    const { VM, currently_attached: attached } = this.model.get(cls, ref);
    const { power_state: state } = this.model.get("VM", VM);
    if (state !== "Running") {
      throw new ApiFailure("VM_BAD_POWER_STATE", VM, "running", state.toLowerCase());
    }
    if (attached === on) {
      throw new ApiFailure(on ? "DEVICE_ALREADY_ATTACHED" : "DEVICE_ALREADY_DETACHED", ref);
    }
    this.model.update(ref, { currently_attached: on });
    this.#refreshDevice(ref, state);
  }

  #createDevice(cls, record) {
    const ref = this.model.create(cls, record);
    this.#refreshDevice(ref, this.model.get("VM", record.VM).power_state);
    return ref;
  }

  #destroyDevice(cls, ref) {
    if (this.model.get(cls, ref).currently_attached) {
      throw new ApiFailure("OPERATION_NOT_ALLOWED", `${cls} is still attached`);
    }
    this.model.remove(ref);
  }

  /** Runs `work` marked as an operation of the VM, with a task that gets on in five steps. */
  async #operation(task, ref, name, work) {
    const vm = this.model.get("VM", ref);
    const call = VM_CALLS[name];
    if (!call.from.includes(vm.power_state)) {
      throw new ApiFailure("VM_BAD_POWER_STATE", ref, call.from.join(", ").toLowerCase(), vm.power_state.toLowerCase());
    }
    const [other] = Object.entries(vm.current_operations);
    if (other && name !== "hard_shutdown") {
      throw new ApiFailure("OTHER_OPERATION_IN_PROGRESS", "VM", ref, other[1], other[0]);
    }
    if (vm.is_a_template && !["clone", "copy", "provision", "destroy", "revert"].includes(name)) {
      throw new ApiFailure("VM_IS_TEMPLATE", ref, name);
    }
    this.model.update(ref, { current_operations: { ...vm.current_operations, [task]: name } });
    this.refreshAllowed(ref);
    try {
      for (let step = 1; step <= 5; step++) {
        await this.hold?.(task, name, step);
        await delay(this.stepMs);
        if (this.model.rows.get(task)?.record.status === "cancelling") {
          throw new ApiFailure("TASK_CANCELLED", task);
        }
        if (this.model.rows.has(task)) {
          this.model.update(task, { progress: step / 5 });
        }
      }
      return await work();
    } finally {
      if (this.model.rows.has(ref)) {
        const left = { ...this.model.get("VM", ref).current_operations };
        delete left[task];
        this.model.update(ref, { current_operations: left });
        this.refreshAllowed(ref);
      }
    }
  }

  /** What keeps the VM off the host. */
  #assertFits(ref, host) {
    const m = this.model;
    const vm = m.get("VM", ref);
    const { enabled, metrics } = m.get("host", host);
    if (!enabled) {
      throw new ApiFailure("HOST_DISABLED", host);
    }
    for (const vbd of vm.VBDs) {
      const { VDI } = m.get("VBD", vbd);
      const sr = VDI === NULL_REF ? NULL_REF : m.get("VDI", VDI).SR;
      if (sr !== NULL_REF && m.find("PBD", (pbd) => pbd.SR === sr && pbd.host === host && pbd.currently_attached).length === 0) {
        throw new ApiFailure("VM_REQUIRES_SR", ref, sr);
      }
    }
    const free = m.get("host_metrics", metrics).memory_free;
    if (free < vm.memory_dynamic_max) {
      throw new ApiFailure("HOST_NOT_ENOUGH_FREE_MEMORY", vm.memory_dynamic_max, free);
    }
  }

  #boot(ref, state, chosen = null) {
    const m = this.model;
    const vm = m.get("VM", ref);
    const hosts = m.find("host", (h) => h.enabled);
    if (hosts.length === 0) {
      throw new ApiFailure("NO_HOSTS_AVAILABLE");
    }
    if (chosen) {
      this.#assertFits(ref, chosen);
    }
    const host = chosen ?? hosts[m.generation % hosts.length];
    m.update(vm.metrics, { memory_actual: vm.memory_dynamic_max, VCPUs_number: vm.VCPUs_at_startup, start_time: wireTime() });
    for (const protocol of ["rfb", "vt100"]) {
      m.create("console", { protocol, VM: ref, location: "https://127.0.0.1/console" });
    }
    const guest = m.create("VM_guest_metrics", {
      os_version: { name: "Debian GNU/Linux 12 (bookworm)", distro: "debian", uname: "6.1.0-25-amd64" },
      networks: { "0/ip": "10.0.2.15", "0/ipv4/0": "10.0.2.15", "0/ipv6/0": "fe80::5054:ff:fe12:3456" },
    });
    m.update(ref, { power_state: state, resident_on: host, domid: 7, guest_metrics: guest });
    for (const device of [...vm.VBDs, ...vm.VIFs]) {
      m.update(device, { currently_attached: true });
    }
  }

  #halt(ref, state = "Halted") {
    const m = this.model;
    const vm = m.get("VM", ref);
    m.update(ref, { power_state: state, resident_on: NULL_REF, domid: -1, guest_metrics: NULL_REF });
    for (const console of vm.consoles) m.remove(console);
    if (m.rows.has(vm.guest_metrics)) m.remove(vm.guest_metrics);
    for (const device of [...vm.VBDs, ...vm.VIFs]) m.update(device, { currently_attached: false });
  }

  #cloneVm(ref, name) {
    const m = this.model;
    const { uuid: _u, VBDs, VIFs, consoles: _c, metrics: _m, snapshots: _s, ...fields } = m.get("VM", ref);
    const { default_template: _d, ...own } = fields.other_config;
    const copy = m.create("VM", {
      ...structuredClone(fields), name_label: name, VBDs: [], VIFs: [], consoles: [], current_operations: {}, is_default_template: false,
      other_config: { ...own, base_template_name: fields.name_label },
      metrics: m.create("VM_metrics", { install_time: wireTime() }),
    });
    for (const vbd of VBDs) {
      const { uuid: _x, VM: _v, ...old } = m.get("VBD", vbd);
      let vdi = old.VDI;
      if (old.type === "Disk" && vdi !== NULL_REF) {
        const { uuid: _y, VBDs: _b, ...disk } = m.get("VDI", vdi);
        vdi = m.create("VDI", { ...disk, VBDs: [] });
      }
      m.create("VBD", { ...old, VM: copy, VDI: vdi });
    }
    for (const vif of VIFs) {
      const { uuid: _x, VM: _v, ...old } = m.get("VIF", vif);
      m.create("VIF", { ...old, VM: copy, MAC: `52:54:00:${[1, 2, 3].map(() => Math.floor(Math.random() * 256).toString(16).padStart(2, "0")).join(":")}` });
    }
    this.refreshAllowed(copy);
    return copy;
  }

  #snapshot(ref, name, state) {
    const copy = this.#cloneVm(ref, name);
    this.#halt(copy, state);
    if (state === "Suspended") {
      this.model.update(copy, { suspend_VDI: this.model.create("VDI", { name_label: "Suspend image", type: "suspend", virtual_size: 1 << 30 }) });
    }
    this.model.update(copy, { is_a_template: true, is_a_snapshot: true, snapshot_of: ref, snapshot_time: wireTime() });
    this.refreshAllowed(copy);
    return copy;
  }

  #revert(ref) {
    const { snapshot_of: vm, power_state: state } = this.model.get("VM", ref);
    this.#halt(vm, state);
    this.refreshAllowed(vm);
  }

  #provision(ref) {
    const m = this.model;
    const vm = m.get("VM", ref);
    const { disks, ...otherConfig } = vm.other_config;
    for (const [, attributes] of (disks ?? "").matchAll(/<disk ([^>]*)>/g)) {
      const get = (name) => new RegExp(`${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
      const [sr] = m.find("SR", (s) => s.uuid === get("sr"));
      if (!sr) {
        throw new ApiFailure("UUID_INVALID", "sr", get("sr"));
      }
      const vdi = m.create("VDI", {
        name_label: get("device"), name_description: "Created by template provisioner", SR: sr, virtual_size: Number(get("size")), physical_utilisation: 200704,
      });
      m.create("VBD", { VM: ref, VDI: vdi, userdevice: get("device"), bootable: get("bootable") === "true", other_config: { owner: "" } });
    }
    m.update(ref, { is_a_template: false, other_config: otherConfig });
  }

  /** One call by name. Answers the result; throws ApiFailure. `task` carries progress when there is one. */
  async call(method, params, task) {
    this.calls.push([method, ...params]);
    const failure = this.failNext.get(method);
    if (failure) {
      this.failNext.delete(method);
      await delay(this.stepMs);
      throw failure;
    }
    const m = this.model;
    const [cls, name] = method.split(".");
    const [self, ...rest] = params;
    if (cls === "VM" && VM_CALLS[name]) {
      return await this.#operation(task, self, name, () => {
        switch (name) {
          case "start": return this.#boot(self, rest[0] ? "Paused" : "Running");
          case "resume": return this.#boot(self, "Running");
          case "start_on": case "resume_on": return this.#boot(self, "Running", rest[0]);
          case "pool_migrate":
            this.#assertFits(self, rest[0]);
            return m.update(self, { resident_on: rest[0] });
          case "unpause": return m.update(self, { power_state: "Running" });
          case "pause": return m.update(self, { power_state: "Paused" });
          case "suspend": return this.#halt(self, "Suspended");
          case "clean_shutdown": case "hard_shutdown": return this.#halt(self);
          case "clean_reboot": case "hard_reboot": return m.update(m.get("VM", self).metrics, { start_time: wireTime() });
          case "clone": case "copy": return this.#cloneVm(self, rest[0]);
          case "provision": return this.#provision(self);
          case "snapshot": return this.#snapshot(self, rest[0], "Halted");
          case "checkpoint": return this.#snapshot(self, rest[0], "Suspended");
          case "revert": return this.#revert(self);
          case "destroy": {
            const vm = m.get("VM", self);
            for (const device of [...vm.VBDs, ...vm.VIFs]) m.remove(device);
            m.remove(self);
            return "";
          }
          default: throw new ApiFailure("MESSAGE_METHOD_UNKNOWN", method);
        }
      });
    }
    switch (method) {
      case "task.create": return m.create("task", { name_label: self, name_description: rest[0], allowed_operations: ["cancel"] });
      case "host.compute_free_memory": return m.get("host_metrics", m.get("host", self).metrics).memory_free;
      case "VM.assert_can_boot_here": return this.#assertFits(self, rest[0]);
      case "VM.set_is_a_template":
        m.update(self, { is_a_template: rest[0] });
        return this.refreshAllowed(self);
      case "VM.set_memory_limits": {
        const [staticMin, staticMax, dynamicMin, dynamicMax] = rest;
        if (!(staticMin <= dynamicMin && dynamicMin <= dynamicMax && dynamicMax <= staticMax)) {
          throw new ApiFailure("MEMORY_CONSTRAINT_VIOLATION");
        }
        return m.update(self, { memory_static_min: staticMin, memory_static_max: staticMax, memory_dynamic_min: dynamicMin, memory_dynamic_max: dynamicMax });
      }
      case "VBD.insert": return m.update(self, { VDI: rest[0], empty: false, allowed_operations: ["eject"] });
      case "VBD.eject": return m.update(self, { VDI: NULL_REF, empty: true, allowed_operations: ["insert"] });
      case "VBD.create": {
        const taken = m.get("VM", self.VM).VBDs.map((r) => m.get("VBD", r).userdevice);
        const free = [..."0123456789"].find((d) => !taken.includes(d));
        return this.#createDevice("VBD", { ...self, userdevice: self.userdevice === "autodetect" ? free : self.userdevice });
      }
      case "VBD.plug": case "VIF.plug": return this.#plug(cls, self, true);
      case "VBD.unplug": case "VIF.unplug": return this.#plug(cls, self, false);
      case "VBD.destroy": case "VIF.destroy": return this.#destroyDevice(cls, self);
      case "VIF.create": return this.#createDevice("VIF", { ...self, MAC: self.MAC || "02:00:00:12:34:56" });
      case "VIF.move": return m.update(self, { network: rest[0] });
      case "VM.get_allowed_VIF_devices": {
        const taken = m.get("VM", self).VIFs.map((r) => m.get("VIF", r).device);
        return [..."0123456"].filter((d) => !taken.includes(d));
      }
      case "VDI.resize": case "VDI.resize_online": return m.update(self, { virtual_size: rest[0] });
      case "VDI.create": return m.create("VDI", { ...self, physical_utilisation: 200704 });
      case "VDI.destroy": case "message.destroy": case "task.destroy":
        m.get(cls, self);
        return m.remove(self);
      case "SR.create": {
        const [config, , name_label, name_description, type, content_type, shared] = rest;
        const sr = m.create("SR", { name_label, name_description, type, content_type, shared, physical_size: 1 << 30 });
        for (const host of shared ? m.find("host", () => true) : [self]) {
          m.create("PBD", { SR: sr, host, device_config: config });
        }
        return sr;
      }
      case "SR.destroy": case "SR.forget": {
        const { PBDs, VDIs } = m.get("SR", self);
        if (PBDs.some((pbd) => m.get("PBD", pbd).currently_attached)) {
          throw new ApiFailure("SR_HAS_PBD", self);
        }
        for (const ref of [...PBDs, ...VDIs, self]) m.remove(ref);
        return "";
      }
      case "PBD.plug": return m.update(self, { currently_attached: true });
      case "PBD.unplug": return m.update(self, { currently_attached: false });
      case "network.create": return m.create("network", self);
      case "network.destroy":
        if (m.get("network", self).PIFs.length > 0) {
          throw new ApiFailure("NETWORK_CONTAINS_PIF", ...m.get("network", self).PIFs);
        }
        return m.remove(self);
      case "pool.create_VLAN_from_PIF": {
        const { device } = m.get("PIF", self);
        for (const ref of m.find("PIF", (pif) => pif.device === device && pif.VLAN < 0)) {
          const pif = m.create("PIF", { device, host: m.get("PIF", ref).host, network: rest[0], VLAN: rest[1], physical: false });
          m.update(pif, { VLAN_master_of: m.create("VLAN", { tag: rest[1], untagged_PIF: pif }) });
        }
        return "";
      }
      case "VLAN.destroy":
        m.remove(m.get("VLAN", self).untagged_PIF);
        return m.remove(self);
      case "host.get_vms_which_prevent_evacuation": return this.stuck;
      case "host.evacuate": {
        m.update(self, { current_operations: { [task]: "evacuate" } });
        const [target] = m.find("host", (host) => host.enabled);
        for (const vm of m.get("host", self).resident_VMs) {
          await this.hold?.(task, "evacuate", vm);
          await delay(this.stepMs);
          m.update(vm, { resident_on: target });
        }
        return m.update(self, { current_operations: {} });
      }
      case "SR.scan": await delay(this.stepMs); return "";
      case "host.enable": return m.update(self, { enabled: true });
      case "host.disable": return m.update(self, { enabled: false });
      case "task.cancel": return m.update(self, { status: "cancelling", allowed_operations: [] });
      default:
    }
    if (/^add_to_/.test(name)) {
      const field = name.slice("add_to_".length);
      const map = m.get(cls, self)[field];
      if (rest[0] in map) throw new ApiFailure("MAP_DUPLICATE_KEY", cls, field, self, rest[0]);
      return m.update(self, { [field]: { ...map, [rest[0]]: rest[1] } });
    }
    if (/^remove_from_/.test(name)) {
      const field = name.slice("remove_from_".length);
      const { [rest[0]]: _gone, ...map } = m.get(cls, self)[field];
      return m.update(self, { [field]: map });
    }
    if (name === "get_by_name_label") return m.find(cls, (record) => record.name_label === self);
    if (name === "get_record") return m.get(cls, self);
    if (/^(get|set)_/.test(name)) {
      const record = m.get(cls, self);
      const field = name.slice(4);
      if (field in record) {
        return name.startsWith("get_") ? record[field] : m.update(self, { [field]: rest[0] });
      }
    }
    throw new ApiFailure("MESSAGE_METHOD_UNKNOWN", method);
  }

  /** Async.X: a task at once, its end later. */
  start(method, params) {
    const task = this.model.create("task", { name_label: `Async.${method}`, allowed_operations: ["cancel"] });
    const end = (fields) => {
      if (this.model.rows.has(task)) {
        this.model.update(task, { allowed_operations: [], finished: wireTime(), progress: 1, ...fields });
      }
    };
    void this.call(method, params, task).then(
      (value) => end({ status: "success", result: typeof value === "string" && value !== "" ? `<value>${value}</value>` : "" }),
      (e) => end(e.code === "TASK_CANCELLED"
        ? { status: "cancelled", error_info: ["TASK_CANCELLED", task] }
        : { status: "failure", error_info: [e.code ?? "INTERNAL_ERROR", ...(e.params ?? [String(e)])] }));
    return task;
  }
}
