import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ApiFailure } from "../fake/model.mjs";
import { launch, logIn, shot, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const row = (t, name) => t.page.getByRole("row").filter({ has: t.page.getByRole("link", { name, exact: true }) });
const calls = (t, method) => t.server.operations.calls.filter(([name]) => name === method).map(([, ...params]) => params);
const vmLink = (t, name) => t.page.getByRole("link", { name, exact: true });

test("the list shows state, host, address, system, processors and memory, in the order of names", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await vmLink(t, "web1").waitFor();
  const text = await row(t, "web1").innerText();
  for (const part of ["Front end, blue", "Running", "192.0.2.51", "Debian GNU/Linux 12", "alder", "2", "4 GiB"]) {
    assert.ok(text.includes(part), `${part} in ${text}`);
  }
  const names = await t.page.locator("td.main a").allInnerTexts();
  assert.ok(names.indexOf("web2") < names.indexOf("web10"));
  assert.ok(!names.some((n) => n.includes("tiny Linux")), "templates are no VMs");
  await t.page.getByRole("button", { name: "Memory" }).click();
  await t.page.getByRole("button", { name: "Memory" }).click();
  assert.equal((await t.page.locator("td.main a").allInnerTexts())[0], "db1");
}));

test("a long name of a host makes no row higher, and what the menu says stays on one line", () => withPage(browser, { viewport: { width: 1280, height: 800 } }, async (t) => {
  t.server.model.update(t.server.model.get("VM", t.server.refs.web1).resident_on, { name_label: "the sixteenth machine of the second room" });
  await logIn(t);
  await t.page.getByRole("link", { name: "the sixteenth machine of the second room" }).first().waitFor();
  const heights = (all) => [...new Set(all.map((e) => Math.round(e.getBoundingClientRect().height)))];
  assert.equal((await t.page.locator("tr[data-row]").evaluateAll(heights)).length, 1);
  assert.equal((await t.page.locator("a.nav").evaluateAll(heights)).length, 1);
}));

test("the filter looks at name, address, system, host, state, disks and NICs", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  const { model, refs } = t.server;
  const disk = model.get("VDI", model.get("VBD", model.get("VM", refs.db1).VBDs[0]).VDI);
  model.update(model.get("VM", refs.web10).VIFs[0], { MAC: "02:00:00:00:00:0c" });
  const filter = t.page.getByRole("searchbox", { name: "Filter" });
  for (const [text, found] of [["web", ["web1", "web2", "web10"]], ["192.0.2.60", ["db1"]], ["ubuntu", ["build-runner"]], ["birch running", ["web2"]], ["spare", ["web10"]],
    ["web1 data", ["web1"]], [disk.uuid.slice(0, 13), ["db1"]], ["02:00:00:00:00:0c", ["web10"]]]) {
    await filter.fill(text);
    await t.page.waitForFunction((n) => document.querySelectorAll("tr[data-row]").length === n, found.length);
    assert.deepEqual(await t.page.locator("td.main a").allInnerTexts(), found, text);
  }
  for (const none of ["00:0c", disk.uuid.slice(7, 13), "nothing like it"]) {
    await filter.fill(none);
    await t.page.getByText("No VM matches").waitFor();
  }
  await t.page.getByRole("button", { name: "Show all VMs" }).click();
  await t.page.getByRole("button", { name: /^Suspended/ }).click();
  assert.deepEqual(await t.page.locator("td.main a").allInnerTexts(), ["ci-archive"]);
}));

test("start runs as a task: the row shows the operation with its progress, then the new state", () => withPage(browser, { server: { stepMs: 10 } }, async (t) => {
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  t.server.operations.hold = async (_task, name, step) => { if (name === "start" && step === 4) await held; };
  await logIn(t);
  await t.page.getByRole("button", { name: "Start web10" }).click();
  const busy = row(t, "web10").getByRole("progressbar", { name: "Starting" });
  await busy.waitFor();
  await t.page.waitForFunction(() => document.querySelector("tr .state.busy [role=progressbar]")?.getAttribute("aria-valuenow") === "60");
  await t.page.getByRole("button", { name: "Tasks, 2 running" }).waitFor();
  await shot(t.page, "vms-busy");
  release();
  await row(t, "web10").getByText("Running").waitFor();
  await row(t, "web10").getByText("10.0.2.15").waitFor();
  await t.page.getByText("Start web10 – done").waitFor();
  assert.deepEqual(calls(t, "VM.start"), [[t.server.refs.web10, false, false]]);
}));

test("actions follow allowed_operations, and say why they cannot be chosen", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await row(t, "web1").getByRole("button", { name: "Actions for web1" }).click();
  const item = (name) => t.page.getByRole("menuitem", { name, exact: true });
  assert.ok(await item("Start").isDisabled());
  assert.equal(await item("Start").getAttribute("title"), "Not possible while the VM is running.");
  for (const name of ["Shut down", "Reboot", "Pause", "Suspend", "Force off", "Force reboot"]) {
    assert.ok(await item(name).isEnabled(), name);
  }
  assert.ok(await item("Delete…").isDisabled());
}));

for (const [vm, state, item, method, params, end] of [
  ["web10", "Halted", "Start paused", "VM.start", [true, false], "Paused"],
  ["web1", "Running", "Shut down", "VM.clean_shutdown", [], "Halted"],
  ["web1", "Running", "Reboot", "VM.clean_reboot", [], "Running"],
  ["web1", "Running", "Pause", "VM.pause", [], "Paused"],
  ["build-runner", "Paused", "Unpause", "VM.unpause", [], "Running"],
  ["ci-archive", "Suspended", "Resume", "VM.resume", [false, false], "Running"],
]) {
  test(`${item} of a ${state.toLowerCase()} VM`, () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
    await logIn(t);
    await row(t, vm).getByRole("button", { name: `Actions for ${vm}` }).click();
    await t.page.getByRole("menuitem", { name: item, exact: true }).click();
    await t.page.getByText(`${item} ${vm} – done`).waitFor();
    await row(t, vm).getByText(end, { exact: true }).waitFor();
    const [[ref, ...rest]] = calls(t, method);
    assert.equal(t.server.model.get("VM", ref).name_label, vm);
    assert.deepEqual(rest, params);
  }));
}

test("force off asks first, and does nothing when one thinks better of it", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  await logIn(t);
  const choose = async () => {
    await row(t, "web1").getByRole("button", { name: "Actions for web1" }).click();
    await t.page.getByRole("menuitem", { name: "Force off" }).click();
  };
  await choose();
  const dialog = t.page.getByRole("dialog", { name: "Force off web1?" });
  await dialog.getByText("The power of web1 is cut at once.").waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await dialog.waitFor({ state: "detached" });
  await choose();
  await dialog.waitFor();
  await t.page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.deepEqual(calls(t, "VM.hard_shutdown"), []);
  await choose();
  await dialog.getByRole("button", { name: "Force off" }).click();
  await row(t, "web1").getByText("Halted").waitFor();
}));

test("several VMs at once: chosen, shut down together", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  await logIn(t);
  await t.page.getByRole("checkbox", { name: "Choose web1", exact: true }).click();
  await t.page.getByRole("checkbox", { name: "Choose web2", exact: true }).click();
  await t.page.getByRole("checkbox", { name: "Choose web10", exact: true }).click();
  const bar = t.page.getByRole("region", { name: "Chosen VMs" });
  await bar.getByText("3 VMs chosen").waitFor();
  await shot(t.page, "vms-bulk");
  await bar.getByRole("button", { name: "Shut down (2)" }).click();
  await row(t, "web1").getByText("Halted").waitFor();
  await row(t, "web2").getByText("Halted").waitFor();
  assert.equal(calls(t, "VM.clean_shutdown").length, 2);
  await t.page.getByRole("checkbox", { name: "Choose all" }).click();
  await bar.getByText("9 VMs chosen").waitFor();
}));

test("a suspended VM goes with its memory", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  const { model, refs } = t.server;
  const memory = model.create("VDI", { name_label: "Suspend image", type: "suspend", virtual_size: 2 * 1024 ** 3 });
  model.update(refs.ci, { suspend_VDI: memory });
  await logIn(t);
  await row(t, "ci-archive").getByRole("button", { name: "Actions for ci-archive" }).click();
  await t.page.getByRole("menuitem", { name: "Delete…" }).click();
  const dialog = t.page.getByRole("dialog", { name: "Delete ci-archive?" });
  await dialog.getByText("Its saved memory, 2 GiB").waitFor();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await t.page.getByText("Delete ci-archive – done").waitFor();
  assert.ok(calls(t, "VDI.destroy").some(([vdi]) => vdi === memory));
}));

test("delete names the VM and the disks that go with it, and deletes just those", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  const { model, refs } = t.server;
  const shared = model.create("VDI", { name_label: "kept data", SR: refs.local, virtual_size: 1 });
  model.create("VBD", { VM: refs.web10, VDI: shared, userdevice: "1" });
  await logIn(t);
  const [system] = model.get("VM", refs.web10).VBDs.map((vbd) => model.get("VBD", vbd).VDI);
  await row(t, "web10").getByRole("button", { name: "Actions for web10" }).click();
  await t.page.getByRole("menuitem", { name: "Delete…" }).click();
  const dialog = t.page.getByRole("dialog", { name: "Delete web10?" });
  await dialog.getByText("Disk “web10 system”, 20 GiB on Disks").waitFor();
  assert.deepEqual(await dialog.getByText(/^Kept:/).allInnerTexts(), ["Kept: disk “kept data”"]);
  await shot(t.page, "vm-delete");
  await dialog.getByRole("button", { name: "Delete" }).click();
  await vmLink(t, "web10").waitFor({ state: "detached" });
  await t.page.getByText("Delete web10 – done").waitFor();
  assert.deepEqual(calls(t, "VM.destroy"), [[refs.web10]]);
  assert.deepEqual(calls(t, "VDI.destroy"), [[system]]);
  assert.ok(model.rows.has(shared));
}));

test("a failed task is shown in full and stays until it is read", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  t.server.operations.failNext.set("VM.start", new ApiFailure("NO_HOSTS_AVAILABLE", "alder: not enough memory", "birch: disabled"));
  await logIn(t);
  await t.page.getByRole("button", { name: "Start web10" }).click();
  const notice = t.page.getByRole("alert").filter({ hasText: "Start web10" });
  await notice.waitFor();
  const text = await notice.innerText();
  for (const part of ["failed", "No host can run this VM now.", "NO_HOSTS_AVAILABLE", "alder: not enough memory", "birch: disabled"]) {
    assert.ok(text.includes(part), `${part} in ${text}`);
  }
  await shot(t.page, "notice-failed");
  await notice.getByRole("button", { name: "Dismiss" }).click();
  await notice.waitFor({ state: "detached" });
  await t.page.getByRole("button", { name: /^Tasks/ }).click();
  const drawer = t.page.getByRole("complementary", { name: "Tasks and messages" });
  await drawer.getByRole("listitem").filter({ hasText: "NO_HOSTS_AVAILABLE" }).waitFor();
  await drawer.getByRole("button", { name: "Close" }).click();
  await t.page.getByRole("button", { name: "Start web10" }).click();
  await t.page.getByRole("button", { name: /^Tasks/ }).click();
  await drawer.getByRole("listitem").filter({ hasText: "VM.start web10" }).filter({ hasText: "Done" }).waitFor();
}));

test("a task can be cancelled where the server allows it, and cleared when it is done", () => withPage(browser, { server: { stepMs: 20 } }, async (t) => {
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  t.server.operations.hold = async (_task, name, step) => { if (name === "start" && step === 2) await held; };
  await logIn(t);
  await t.page.getByRole("button", { name: "Start web10" }).click();
  await t.page.getByRole("button", { name: /^Tasks/ }).click();
  const drawer = t.page.getByRole("complementary", { name: "Tasks and messages" });
  const task = drawer.getByRole("listitem").filter({ hasText: "VM.start web10" });
  await task.getByRole("button", { name: "Cancel" }).click();
  await task.getByText("cancelling").waitFor();
  release();
  await drawer.getByRole("listitem").filter({ hasText: "Cancelled" }).waitFor();
  await row(t, "web10").getByText("Halted").waitFor();
  await drawer.getByRole("button", { name: "Clear finished tasks" }).click();
  await t.page.waitForFunction(() => document.querySelectorAll("li.task").length === 1);
}));

test("name, description and size can be changed", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  await logIn(t);
  await vmLink(t, "web10").click();
  await t.page.getByRole("button", { name: "Change name" }).click();
  await t.page.getByRole("textbox", { name: "name" }).fill("web11");
  await t.page.keyboard.press("Enter");
  await t.page.getByRole("heading", { name: "web11" }).waitFor();
  await t.page.getByRole("button", { name: "Change", exact: true }).click();
  const dialog = t.page.getByRole("dialog", { name: "Size of web11" });
  await dialog.getByLabel("vCPUs").fill("4");
  await dialog.getByLabel("Memory (MiB)").fill("1024");
  await dialog.getByRole("button", { name: "Change" }).click();
  await t.page.getByText("Change size of web11 – done").waitFor();
  const vm = t.server.model.get("VM", t.server.refs.web10);
  assert.deepEqual([vm.VCPUs_max, vm.VCPUs_at_startup, vm.memory_static_max, vm.memory_dynamic_min], [4, 4, 2 ** 30, 2 ** 30]);
}));

test("discs go into the drive and out of it", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  await logIn(t);
  await vmLink(t, "installer-test").click();
  await t.page.getByRole("tab", { name: /Disks/ }).click();
  await t.page.getByText("Empty").waitFor();
  await t.page.getByRole("button", { name: "Insert…" }).click();
  const dialog = t.page.getByRole("dialog", { name: "Insert a disc" });
  await dialog.getByRole("radio", { name: /grml64/ }).check();
  await dialog.getByRole("button", { name: "Insert", exact: true }).click();
  await t.page.getByText("grml64-small.iso", { exact: true }).waitFor();
  await t.page.getByRole("button", { name: "Eject" }).click();
  await t.page.getByText("Empty").waitFor();
}));
