// Disks and NICs of a VM: given, taken, plugged in and out of a running one, made larger, moved.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ApiFailure } from "../fake/model.mjs";
import { launch, logIn, PHONE, shot, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const calls = (t, ...methods) => t.server.operations.calls.filter(([name]) => methods.includes(name));
const quick = { server: { stepMs: 5 } };
const GIB = 2 ** 30;

async function openTab(t, vm, tab) {
  await logIn(t);
  await t.page.goto(`${t.server.url}/#/vm/${t.server.model.get("VM", vm).uuid}/${tab}`);
}
async function choose(t, menu, item) {
  await t.page.getByRole("button", { name: menu, exact: true }).click();
  await t.page.getByRole("menuitem", { name: item, exact: true }).click();
}
const confirm = (t, dialog, button) => t.page.getByRole("dialog", { name: dialog }).getByRole("button", { name: button, exact: true }).click();
const drives = (t, vm) => t.server.model.get("VM", vm).VBDs.map((ref) => t.server.model.get("VBD", ref));

for (const [state, vm, plugged] of [["running", "web2", true], ["halted", "web10", false]]) {
  test(`a new disk of a ${state} VM is ${plugged ? "plugged in at once" : "there at its next start"}`, () => withPage(browser, quick, async (t) => {
    const { model, refs } = t.server;
    await openTab(t, refs[vm], "disks");
    await t.page.getByRole("button", { name: "New disk" }).click();
    const dialog = t.page.getByRole("dialog", { name: "New disk" });
    assert.equal(await dialog.getByText("The running VM gets the disk at once.").count(), plugged ? 1 : 0);
    await dialog.getByLabel("Name").fill("logs");
    await dialog.getByLabel("Size (GiB)").fill("2.5");
    await dialog.getByRole("button", { name: "Make the disk" }).click();
    await t.page.getByText("New disk logs – done").waitFor();
    const [vdi] = model.find("VDI", (record) => record.name_label === "logs");
    assert.equal(model.get("VDI", vdi).virtual_size, 2.5 * GIB);
    const vbd = drives(t, refs[vm]).find((d) => d.VDI === vdi);
    assert.deepEqual([vbd.currently_attached, "owner" in vbd.other_config], [plugged, true]);
  }));
}

test("a disk that cannot be plugged in is told, with what is left to do", () => withPage(browser, quick, async (t) => {
  const { operations, refs } = t.server;
  operations.failNext.set("VBD.plug", new ApiFailure("VM_MISSING_PV_DRIVERS", refs.web2));
  await openTab(t, refs.web2, "disks");
  await t.page.getByRole("button", { name: "New disk" }).click();
  await t.page.getByRole("button", { name: "Make the disk" }).click();
  await t.page.getByText("The VM has the disk; it sees it when it is next started, or when it can be plugged in.").waitFor();
  await choose(t, "Actions for disk web2 data", "Plug in");
  await t.page.getByText("Plug in web2 data – done").waitFor();
}));

test("a disk is detached from a running VM, and attached to another", () => withPage(browser, quick, async (t) => {
  const { model, refs } = t.server;
  await openTab(t, refs.web1, "disks");
  await choose(t, "Actions for disk web1 data", "Detach…");
  await t.page.getByText("It is unplugged from the running VM first.").waitFor();
  await confirm(t, "Detach disk “web1 data”?", "Detach");
  await t.page.getByText("Detach disk web1 data – done").waitFor();
  assert.deepEqual(calls(t, "VBD.unplug", "VBD.destroy", "VDI.destroy").map(([name]) => name), ["VBD.unplug", "VBD.destroy"]);
  await t.page.goto(`${t.server.url}/#/vm/${model.get("VM", refs.web2).uuid}/disks`);
  await t.page.getByRole("heading", { name: "web2" }).waitFor();
  await t.page.getByRole("button", { name: "Attach…" }).click();
  const dialog = t.page.getByRole("dialog", { name: "Attach a disk to web2" });
  assert.equal(await dialog.getByRole("radio").count(), 1, "only the disk that is nobody's");
  await dialog.getByRole("checkbox", { name: "Read-only" }).check();
  await shot(t.page, "attach-disk");
  await dialog.getByRole("button", { name: "Attach", exact: true }).click();
  await t.page.getByText("Attach disk web1 data – done").waitFor();
  const vbd = drives(t, refs.web2).find((d) => model.get("VDI", d.VDI).name_label === "web1 data");
  assert.deepEqual([vbd.mode, vbd.currently_attached], ["RO", true]);
}));

test("a disk is deleted with its data, and grows as its storage allows", () => withPage(browser, quick, async (t) => {
  const { model, refs } = t.server;
  const [system, data] = ["web1 system", "web1 data"].map((name) => model.find("VDI", (vdi) => vdi.name_label === name)[0]);
  model.update(system, { allowed_operations: ["resize_online"] });
  model.update(data, { allowed_operations: [] });
  await openTab(t, refs.web1, "disks");
  await t.page.getByRole("button", { name: "Actions for disk web1 data" }).click();
  const resize = t.page.getByRole("menuitem", { name: "Resize…" });
  assert.ok(await resize.isDisabled());
  assert.equal(await resize.getAttribute("title"), "Its storage cannot resize it while it is attached.");
  await t.page.keyboard.press("Escape");
  await choose(t, "Actions for disk web1 system", "Resize…");
  const dialog = t.page.getByRole("dialog", { name: "Size of disk “web1 system”" });
  assert.ok(await dialog.getByRole("button", { name: "Resize" }).isDisabled(), "it only grows");
  await dialog.getByLabel("Size (GiB)").fill("32");
  await dialog.getByRole("button", { name: "Resize" }).click();
  await t.page.getByRole("row").filter({ hasText: "web1 system" }).getByText("32 GiB", { exact: true }).waitFor();
  assert.deepEqual(calls(t, "VDI.resize", "VDI.resize_online"), [["VDI.resize_online", system, 32 * GIB]]);
  await choose(t, "Actions for disk web1 data", "Delete…");
  await confirm(t, "Delete disk “web1 data”?", "Delete");
  await t.page.getByText("Delete disk web1 data – done").waitFor();
  assert.ok(!model.rows.has(data));
}));

test("NICs: new ones plugged in at once, moved to another network, unplugged, removed", () => withPage(browser, { ...quick, viewport: PHONE }, async (t) => {
  const { model, refs } = t.server;
  await openTab(t, refs.web1, "network");
  await t.page.getByRole("button", { name: "New NIC" }).click();
  const dialog = t.page.getByRole("dialog", { name: "New NIC for web1" });
  await dialog.getByLabel("Network").selectOption({ label: "Internal" });
  await dialog.getByLabel("MAC address").fill("02:00:00:00:00:0a");
  await shot(t.page, "phone-new-nic");
  await dialog.getByRole("button", { name: "Add" }).click();
  await t.page.getByText("New NIC for web1 – done").waitFor();
  const nic = () => model.get("VM", refs.web1).VIFs.map((ref) => model.get("VIF", ref)).find((vif) => vif.device === "1");
  assert.deepEqual([nic().network, nic().MAC, nic().MTU, nic().currently_attached], [refs.internal, "02:00:00:00:00:0a", 9000, true]);
  await choose(t, "Actions for NIC 1", "Change network…");
  await confirm(t, "Network of NIC 1", "Change");
  await t.page.getByText("Change the network of NIC 1 of web1 – done").waitFor();
  assert.equal(nic().network, refs.lan);
  await choose(t, "Actions for NIC 1", "Unplug");
  await t.page.getByText("Unplug NIC 1 of web1 – done").waitFor();
  assert.equal(nic().currently_attached, false);
  await choose(t, "Actions for NIC 0", "Remove…");
  await t.page.getByText("It is unplugged first: what the guest does over it breaks off.").waitFor();
  await confirm(t, "Remove NIC 0 of web1?", "Remove");
  await t.page.getByText("Remove NIC 0 of web1 – done").waitFor();
  assert.deepEqual(calls(t, "VIF.unplug", "VIF.destroy").map(([name]) => name), ["VIF.unplug", "VIF.unplug", "VIF.destroy"]);
}));
