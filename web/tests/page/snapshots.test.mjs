// Snapshots of a VM: taken, returned to, deleted with their disks.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ApiFailure } from "../fake/model.mjs";
import { eventually, launch, logIn, shot, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const calls = (t, method) => t.server.operations.calls.filter(([name]) => name === method).map(([, ...params]) => params);
const row = (t, name) => t.page.getByRole("row").filter({ hasText: name });

/** The tab of a VM, with these snapshots of it. */
async function openTab(t, vm, ...names) {
  const { model, operations, url } = t.server;
  for (const name of names) {
    await operations.call("VM.snapshot", [vm, name]);
  }
  await logIn(t);
  await t.page.goto(`${url}/#/vm/${model.get("VM", vm).uuid}/snapshots`);
}

test("a snapshot is taken, with memory or without", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  const { refs } = t.server;
  await openTab(t, refs.web1);
  await t.page.getByText("No snapshots").waitFor();
  for (const [name, method, holds] of [["before the update", "VM.snapshot", "disks"], ["just now", "VM.checkpoint", "disks and memory"]]) {
    await t.page.getByRole("button", { name: "Take a snapshot" }).click();
    const dialog = t.page.getByRole("dialog", { name: "Snapshot of web1" });
    assert.match(await dialog.getByLabel("Name").inputValue(), /^web1, /);
    await dialog.getByLabel("Name").fill(name);
    if (method === "VM.checkpoint") {
      await dialog.getByRole("checkbox").check();
    }
    await t.page.keyboard.press("Enter");
    await row(t, name).getByText(holds, { exact: true }).waitFor();
    assert.deepEqual(calls(t, method), [[refs.web1, name]]);
  }
  await t.page.getByRole("tab", { name: "Snapshots 2" }).waitFor();
  await shot(t.page, "vm-snapshots");
}));

test("memory is offered while there is some", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  await openTab(t, t.server.refs.web10);
  await t.page.getByRole("button", { name: "Take a snapshot" }).click();
  assert.ok(await t.page.getByRole("checkbox").isDisabled());
  await t.page.getByText("Memory can be kept while the VM runs.").waitFor();
}));

test("going back asks first and says what is lost", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  const { model, refs } = t.server;
  await openTab(t, refs.web1, "monday", "tuesday");
  const dialog = t.page.getByRole("dialog", { name: "Return web1 to “monday”?" });
  await t.page.getByRole("button", { name: "Return to monday" }).click();
  await dialog.getByText("its power is cut first").waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.deepEqual(calls(t, "VM.revert"), []);
  await t.page.getByRole("button", { name: "Return to monday" }).click();
  await dialog.getByRole("button", { name: "Return to it" }).click();
  await t.page.getByText("Return to monday – done").waitFor();
  const [monday] = model.find("VM", (vm) => vm.name_label === "monday");
  assert.deepEqual(calls(t, "VM.revert"), [[monday]]);
}));

test("a snapshot goes with its disks and memory, and the VM's own disks stay", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  const { model, operations, refs } = t.server;
  const monday = await operations.call("VM.checkpoint", [refs.web1, "monday"]);
  await openTab(t, refs.web1);
  const disks = (vm) => model.get("VM", vm).VBDs.map((vbd) => model.get("VBD", vbd)).filter((vbd) => vbd.type === "Disk").map((vbd) => vbd.VDI);
  const own = disks(refs.web1), its = [...disks(monday), model.get("VM", monday).suspend_VDI];
  await t.page.getByRole("button", { name: "Delete snapshot monday" }).click();
  await t.page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await t.page.getByText("No snapshots").waitFor();
  await eventually(() => calls(t, "VDI.destroy").length === its.length);
  assert.deepEqual(calls(t, "VDI.destroy").flat().sort(), its.sort());
  assert.ok(own.every((vdi) => model.rows.has(vdi)));
}));

test("what the server says against it is shown", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  const { refs, operations } = t.server;
  await openTab(t, refs.web10);
  operations.failNext.set("VM.snapshot", new ApiFailure("SR_BACKEND_FAILURE_44", "", "There is insufficient space"));
  await t.page.getByRole("button", { name: "Take a snapshot" }).click();
  await t.page.getByRole("dialog").getByRole("button", { name: "Take it" }).click();
  await t.page.getByText("SR_BACKEND_FAILURE_44").waitFor();
}));
