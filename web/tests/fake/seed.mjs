// The pool that tests and screenshots see.
import { NULL_REF, wireTime } from "./model.mjs";

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const ago = (seconds) => wireTime(new Date(Date.now() - seconds * 1000));
export const XSS = `<img src=x onerror="window.pwned=1">`;

export function seed(model, operations) {
  const hosts = ["alder", "birch"].map((name, i) => model.create("host", {
    name_label: name, name_description: i === 0 ? "Rack 2, unit 14" : "", hostname: name, address: `192.0.2.1${i + 1}`,
    software_version: { product_brand: "Corral", product_version: "0.1.0", hv: "qemu 7.2.11", linux: "6.1.0-25-amd64" },
    other_config: { boot_time: String(Date.now() / 1000 - 86400 * 12), accelerator: i === 0 ? "kvm" : "tcg", "accelerator-reason": i === 0 ? "the processor has svm" : "the processor has neither vmx nor svm; guests run by software emulation" },
    cpu_info: { cpu_count: i === 0 ? "32" : "16", socket_count: "1", vendor: "AuthenticAMD", modelname: "AMD EPYC 7313P 16-Core Processor", speed: "2994.374", features: "1789c3f5-f6f83203" },
    capabilities: ["hvm-3.0-x86_64", "qemu"],
    metrics: model.create("host_metrics", { memory_total: (i === 0 ? 128 : 64) * GIB, memory_free: (i === 0 ? 71 : 9) * GIB }),
  }));
  for (const [type, name_label, configuration, capabilities] of [
    ["file", "Directory", { location: "absolute path of the directory on the host" }, ["SR_CREATE", "SR_DELETE"]],
    ["nfs", "NFS", { server: "host name or address", serverpath: "exported path", options: "mount options (optional)" }, ["SR_CREATE"]],
  ]) {
    model.create("SM", { type, name_label, configuration, capabilities, name_description: `Disks on ${name_label}` });
  }
  const local = model.create("SR", { name_label: "Disks", name_description: "Directory on the pool's first host", physical_size: 931 * GIB, physical_utilisation: 402 * GIB, virtual_allocation: 620 * GIB, shared: true });
  const fast = model.create("SR", { name_label: "Fast", name_description: "NVMe of alder", type: "lvm", physical_size: 477 * GIB, physical_utilisation: 461 * GIB, virtual_allocation: 470 * GIB });
  const iso = model.create("SR", { name_label: "Discs", name_description: "ISO images", type: "iso", content_type: "iso", physical_size: 931 * GIB, physical_utilisation: 5 * GIB, shared: true });
  for (const host of hosts) {
    model.create("PBD", { host, SR: local, device_config: { location: "/srv/disks" } });
    model.create("PBD", { host, SR: iso, device_config: { location: "/srv/iso" } });
  }
  model.create("PBD", { host: hosts[0], SR: fast, device_config: { device: "/dev/nvme0n1" } });
  const lan = model.create("network", { name_label: "Pool network", name_description: "Bridged to the office network", bridge: "xapi0" });
  const internal = model.create("network", { name_label: "Internal", bridge: "xapi1", MTU: 9000 });
  hosts.forEach((host, i) => model.create("PIF", { host, network: lan, device: "eth0", MAC: `52:54:00:aa:00:0${i + 1}`, IP: `192.0.2.1${i + 1}`, management: true }));
  const [iso1] = [["debian-12.7.0-amd64-netinst.iso", 631], ["grml64-small.iso", 412], ["virtio-drivers.iso", 710]].map(([name, size]) =>
    model.create("VDI", { name_label: name, SR: iso, virtual_size: size * MIB, physical_utilisation: size * MIB, read_only: true, type: "user", location: name }));
  const pool = model.create("pool", { name_label: "Orchard", master: hosts[0], default_SR: local });

  const addVm = (name, { state = "Halted", gib = 2, vcpus = 2, disks = [[20, local]], cd = false, host = 0, os = "Debian GNU/Linux 12 (bookworm)", ip = "", since = 3600, extra = {} } = {}) => {
    const memory = Math.round(gib * GIB);
    const running = state === "Running" || state === "Paused";
    const ref = model.create("VM", {
      name_label: name, power_state: state, memory_static_max: memory, memory_dynamic_max: memory, memory_dynamic_min: memory, memory_static_min: 128 * MIB,
      VCPUs_max: vcpus, VCPUs_at_startup: vcpus, resident_on: running ? hosts[host] : NULL_REF,
      metrics: model.create("VM_metrics", { memory_actual: running ? memory : 0, VCPUs_number: running ? vcpus : 0, start_time: running ? ago(since) : "19700101T00:00:00Z", install_time: ago(since + 86400 * 9) }),
      guest_metrics: running && ip ? model.create("VM_guest_metrics", { os_version: { name: os, uname: "6.1.0-25-amd64" }, networks: { "0/ip": ip, "0/ipv6/0": "2001:db8::5054:ff:fe12:3456" } }) : NULL_REF,
      ...extra,
    });
    disks.forEach(([size, sr], i) => {
      const vdi = model.create("VDI", { name_label: `${name} ${i === 0 ? "system" : "data"}`, SR: sr, virtual_size: size * GIB, physical_utilisation: Math.round(size * GIB * 0.41) });
      model.create("VBD", { VM: ref, VDI: vdi, userdevice: String(i), device: running ? `xvd${"abc"[i]}` : "", bootable: i === 0, currently_attached: running, other_config: { owner: "" } });
    });
    if (cd) {
      model.create("VBD", { VM: ref, VDI: cd === "full" ? iso1 : NULL_REF, userdevice: "3", type: "CD", mode: "RO", empty: cd !== "full", allowed_operations: [cd === "full" ? "eject" : "insert"] });
    }
    model.create("VIF", { VM: ref, network: lan, MAC: `52:54:00:0${Math.floor(Math.random() * 9)}:be:e${Math.floor(Math.random() * 9)}`, currently_attached: running });
    if (running) {
      for (const protocol of ["rfb", "vt100"]) model.create("console", { protocol, VM: ref });
    }
    operations.refreshAllowed(ref);
    return ref;
  };

  const refs = {
    pool, local, iso, hosts, lan, internal,
    web1: addVm("web1", { state: "Running", gib: 4, ip: "192.0.2.51", since: 86400 * 3 + 7200, cd: true, disks: [[20, local], [100, fast]], extra: { name_description: "Front end, blue" } }),
    web2: addVm("web2", { state: "Running", gib: 4, ip: "192.0.2.52", host: 1, since: 5400, extra: { name_description: "Front end, green" } }),
    web10: addVm("web10", { gib: 4, extra: { name_description: "Front end, spare" } }),
    db1: addVm("db1", { state: "Running", gib: 16, vcpus: 8, ip: "192.0.2.60", since: 86400 * 41, disks: [[40, fast], [200, fast]], os: "Debian GNU/Linux 11 (bullseye)" }),
    build: addVm("build-runner", { state: "Paused", gib: 8, vcpus: 8, ip: "192.0.2.71", host: 1, os: "Ubuntu 24.04 LTS" }),
    ci: addVm("ci-archive", { state: "Suspended", gib: 2 }),
    win: addVm("accounts-win", { state: "Running", gib: 6, vcpus: 4, ip: "192.0.2.80", os: "Microsoft Windows Server 2022", cd: "full" }),
    blank: addVm("installer-test", { gib: 1, vcpus: 1, cd: true }),
    evil: addVm(XSS, { gib: 0.5, vcpus: 1, extra: { name_description: XSS, tags: [XSS], other_config: { [XSS]: XSS } } }),
  };
  const template = addVm("Corral tiny Linux", { gib: 0.125, vcpus: 1, disks: [], extra: {
    is_a_template: true, is_default_template: true, name_description: "Debian's kernel and busybox; starts in seconds",
    other_config: { disks: `<provision><disk device="0" size="${2 * GIB}" sr="" bootable="true" type="system"/></provision>`, default_template: "true" },
    PV_kernel: "tiny/vmlinuz", PV_args: "console=ttyS0",
  } });
  addVm("Other install media", { gib: 1, vcpus: 1, disks: [], cd: true, extra: { is_a_template: true, is_default_template: true, name_description: "A blank machine with a CD drive" } });
  for (const [name, status, extra] of [
    ["Async.VM.start", "success", { progress: 1, created: ago(5402), finished: ago(5400), result: "" }],
    ["Async.VM.clean_shutdown", "failure", { progress: 1, created: ago(960), finished: ago(900), error_info: ["VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", refs.win] }],
    ["VDI.import", "pending", { name_description: "debian-12-generic.qcow2 into Disks", progress: 0.62, created: ago(48), allowed_operations: ["cancel"] }],
  ]) {
    model.create("task", { name_label: name, status, ...extra });
  }
  model.create("message", { name: "VM_STARTED", priority: 5, cls: "VM", obj_uuid: model.get("VM", refs.web2).uuid, timestamp: ago(5400), body: "" });
  model.create("message", { name: "VM_CRASHED", priority: 3, cls: "VM", obj_uuid: model.get("VM", refs.blank).uuid, timestamp: ago(300), body: "The device model ended unexpectedly: killed by signal 9." });
  return { ...refs, template };
}
