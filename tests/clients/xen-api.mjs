// The npm client xen-api, unmodified, against a pool: what its users do with it, step by step.
//
//   URL, PASSWORD, TRANSPORT (json-rpc, xml-rpc or auto) in the environment. Lines on standard output that
//   begin with ">" ask the test around it for something (">restart"); it answers with a line when done.
// Ends with 0 after the last step; whatever the client warned of is an error.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { createClient } from "xen-api";
import { CancelToken } from "promise-toolbox";

const { URL: url, PASSWORD: password, TRANSPORT: transport } = process.env;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const limitMs = 120_000;
const warnings = [];
console.warn = (...words) => warnings.push(words);

async function ask(what) {
  process.stdout.write(`>${what}\n`);
  return (await lines.next()).value;
}

async function until(what, check) {
  const end = Date.now() + limitMs;
  for (;;) {
    const result = await check();
    if (result) return result;
    if (Date.now() > end) throw new Error(`${what}: not in time`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

const xapi = createClient({
  url, transport,
  auth: { user: "root", password },
  debounce: 10,
  eventPollDelay: 100, // how soon it asks again after a failure
});

const vmRecord = JSON.parse(process.env.VM_RECORD);
const steps = {
  async connect() {
    await xapi.connect();
    assert.match(xapi.sessionId, /^OpaqueRef:/);
    assert.equal(xapi.pool.$type, "pool");
  },

  async "every class is fetched, and says what the server says"() {
    await xapi.objectsFetched;
    assert.deepEqual(warnings, []);
    const types = new Set(Object.values(xapi.objects.all).map(object => object.$type));
    for (const type of ["pool", "host", "host_metrics", "network", "SM", "SR", "PBD"])
      assert.ok(types.has(type), type);
    for (const type of types) {
      const records = await xapi.getAllRecords(type);
      const cached = Object.values(xapi.objects.all).filter(object => object.$type === type);
      // Tasks of this very call come and go.
      if (type !== "task") assert.deepEqual(cached.map(o => o.$ref).sort(), records.map(o => o.$ref).sort(), type);
    }
    assert.equal(xapi.pool.$master.$type, "host");
  },

  async "objects follow calls"() {
    const ref = await xapi.call("network.create",
      { name_label: "N & <n>", name_description: "ä\"", MTU: 1500, other_config: { a: "1" }, tags: ["x"] });
    const network = await xapi.barrier(ref);
    assert.equal(network.name_label, "N & <n>");
    assert.equal(network.name_description, "ä\"");
    assert.deepEqual({ ...network.other_config }, { a: "1" });
    assert.deepEqual(network.tags, ["x"]);
    assert.equal(Number(network.MTU), 1500);
    await network.set_name_label("second");
    await network.update_other_config({ a: null, b: "2" });
    await network.update_other_config("c", "3");
    await network.add_tags("y");
    await network.remove_tags("x");
    const changed = await xapi.barrier(ref);
    assert.equal(changed.name_label, "second");
    assert.deepEqual({ ...changed.other_config }, { b: "2", c: "3" });
    assert.deepEqual(changed.tags, ["y"]);
    assert.deepEqual(await xapi.call("network.get_by_name_label", "second"), [ref]);
    assert.equal((await xapi.getRecordByUuid("network", changed.uuid)).$ref, ref);
    await xapi.call("network.destroy", ref);
    await xapi.barrier();
    assert.equal(xapi.getObjectByRef(ref, null), null);
  },

  async "failures have a code and parameters"() {
    await assert.rejects(xapi.call("VM.get_record", "OpaqueRef:NULL"), error => {
      assert.equal(error.code, "HANDLE_INVALID");
      assert.deepEqual(error.params, ["VM", "OpaqueRef:NULL"]);
      return true;
    });
    await assert.rejects(xapi.call("nosuch.call"), { code: "MESSAGE_METHOD_UNKNOWN", params: ["nosuch.call"] });
    await assert.rejects(xapi.call("VM.start", "OpaqueRef:NULL"), { code: "MESSAGE_PARAMETER_COUNT_MISMATCH" });
  },

  async "callAsync gives the result or the failure of its task"() {
    const vm = await xapi.call("VM.create", vmRecord);
    const copy = await xapi.callAsync("VM.clone", vm, "a copy");
    assert.match(copy, /^OpaqueRef:/);
    assert.equal((await xapi.barrier(copy)).name_label, "a copy");
    assert.equal(await xapi.callAsync("VM.start", copy, false, false), "");
    assert.equal((await xapi.barrier(copy)).power_state, "Running");
    assert.equal(xapi.getObjectByRef(copy).$resident_on.$type, "host");
    await assert.rejects(xapi.callAsync("VM.start", copy, false, false), error => {
      assert.equal(error.code, "VM_BAD_POWER_STATE");
      assert.deepEqual(error.params, [copy, "halted", "running"]);
      assert.equal(error.task.status, "failure");
      return true;
    });
    await xapi.callAsync("VM.hard_shutdown", copy);
    await xapi.callAsync("VM.destroy", copy);
    await xapi.callAsync("VM.destroy", vm);
    await xapi.barrier();
    assert.equal(xapi.getObjectByRef(copy, null), null);
  },

  async "a token cancels the task"() {
    const vm = await xapi.call("VM.create", { ...vmRecord, PV_args: "sim.ignore_shutdown" });
    await xapi.callAsync("VM.start", vm, false, false);
    await until("guest", async () => xapi.getObjectByRef(vm, {}).$guest_metrics);
    const { cancel, token } = CancelToken.source();
    const shutdown = xapi.callAsync(token, "VM.clean_shutdown", vm);
    shutdown.catch(() => {});
    await until("operation", async () =>
      Object.values(xapi.getObjectByRef(vm).current_operations).includes("clean_shutdown"));
    cancel();
    await assert.rejects(shutdown, { message: "task canceled" });
    await xapi.barrier();
    assert.deepEqual({ ...xapi.getObjectByRef(vm).current_operations }, {});
    assert.equal(xapi.getObjectByRef(vm).power_state, "Running");
    await xapi.callAsync("VM.hard_shutdown", vm);
    await xapi.callAsync("VM.destroy", vm);
  },

  async "its tasks are gone afterwards"() {
    await until("no tasks", async () =>
      Object.values(xapi.objects.all).every(object => object.$type !== "task" || !/^Async/.test(object.name_label)));
  },

  async "disks go up and down"() {
    const size = 2 << 20;
    const data = Buffer.alloc(size, "Corral!");
    const [sr] = await xapi.call("SR.get_by_name_label", "disks");
    const vdi = await xapi.call("VDI.create", { SR: sr, virtual_size: size, type: "user", sharable: false,
      read_only: false, other_config: {}, name_label: "disk" });
    const stream = Readable.from([data]);
    stream.length = size;
    for (const body of [data, stream]) {
      await xapi.putResource(body, "/import_raw_vdi/", { query: { format: "raw", vdi } });
      const response = await xapi.getResource("/export_raw_vdi/", { query: { format: "raw", vdi } });
      const chunks = [];
      for await (const chunk of response.body) chunks.push(chunk);
      assert.ok(Buffer.concat(chunks).equals(data));
      await response.task;
    }
    await assert.rejects(xapi.getResource("/export_raw_vdi/", { query: { format: "raw", vdi: "nonsense" } }));
    // Without a length: it declares one that nobody means, and closes the connection at the end.
    warnings.length = 0;
    await xapi.putResource(Readable.from([data.subarray(0, size >> 1)]), "/import_raw_vdi/",
      { query: { format: "raw", vdi }, task: true });
    assert.ok(warnings.splice(0).some(words => words.includes("missing length")));
    await assert.rejects(xapi.putResource(Buffer.from("no image"), "/import_raw_vdi/",
      { query: { format: "vhd", vdi }, task: true }), { code: "IMPORT_ERROR" });
    await xapi.callAsync("VDI.destroy", vdi);
  },

  async "VMs go out and come in"() {
    const [sr] = await xapi.call("SR.get_by_name_label", "disks");
    const vm = await xapi.call("VM.create", { ...vmRecord, name_label: "travels" });
    const vdi = await xapi.call("VDI.create", { SR: sr, virtual_size: 1 << 20, type: "user", sharable: false,
      read_only: false, other_config: {}, name_label: "disk" });
    await xapi.call("VBD.create", { VM: vm, VDI: vdi, userdevice: "0", bootable: true, mode: "RW", type: "Disk",
      empty: false, other_config: {}, qos_algorithm_type: "", qos_algorithm_params: {} });
    for (const [use_compression, sized] of [["false", true], ["zstd", false], ["gzip", true]]) {
      const response = await xapi.getResource("/export/", { query: { ref: vm, use_compression }, task: true });
      const chunks = [];
      for await (const chunk of response.body) chunks.push(chunk);
      await response.task;
      const archive = Readable.from(chunks);
      if (sized) archive.length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
      const result = await xapi.putResource(archive, "/import/", { query: { sr_id: sr }, task: true });
      const [made] = [result].flat();
      assert.equal(await xapi.call("VM.get_name_label", made), "travels");
      assert.equal((await xapi.call("VM.get_VBDs", made)).length, 1);
      await xapi.callAsync("VM.destroy", made);
    }
    await xapi.callAsync("VM.destroy", vm);
    warnings.length = 0; // of the missing length
  },

  async "goes on after the server's restart"() {
    const before = await xapi.call("network.create",
      { name_label: "before", name_description: "", MTU: 1500, other_config: {}, tags: [] });
    const session = xapi.sessionId;
    await xapi.barrier();
    await ask("restart");
    // While the server stops and starts a call fails in many ways; whoever uses this client tries again, and
    // connects anew where it gave up.
    await until("a new session", async () => {
      try {
        if (xapi.status === "disconnected") await xapi.connect();
        await xapi.call("network.set_name_description", before, "still here");
        return xapi.sessionId !== session;
      } catch {
        return false;
      }
    });
    await until("the change as an event", async () =>
      xapi.getObjectByRef(before, {}).name_description === "still here");
    await ask("another client's change");
    await until("another client's change", async () => xapi.getObjectByRef(before).name_label === "renamed");
    await xapi.call("network.destroy", before);
    warnings.length = 0; // of the time when nothing answered
  },

  async disconnect() {
    const session = xapi.sessionId;
    await xapi.disconnect();
    assert.equal(await ask(`gone ${session}`), "yes");
    assert.deepEqual(warnings, []);
  },
};

for (const [name, step] of Object.entries(steps)) {
  const guard = setTimeout(() => {
    console.error(`not ok ${name}: not within ${limitMs} ms`, warnings);
    process.exit(1);
  }, limitMs);
  try {
    await step();
  } catch (error) {
    console.error(`not ok ${name}:`, error, warnings);
    process.exit(1);
  }
  clearTimeout(guard);
  process.stdout.write(`ok ${name}\n`);
}
process.exit(0);
