// Storage and networks made and given up, and a host whose VMs leave.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ApiFailure } from "../fake/model.mjs";
import { launch, logIn, PHONE, shot, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const calls = (t, ...methods) => t.server.operations.calls.filter(([name]) => methods.includes(name));
const quick = { server: { stepMs: 5 } };

async function openPage(t, ...place) {
  await logIn(t);
  await t.page.goto(`${t.server.url}/#/${place.join("/")}`);
}
async function choose(t, menu, item) {
  await t.page.getByRole("button", { name: menu, exact: true }).click();
  await t.page.getByRole("menuitem", { name: item, exact: true }).click();
}
const confirm = (t, dialog, button) => t.page.getByRole("dialog", { name: dialog }).getByRole("button", { name: button, exact: true }).click();

test("new storage: a form for each kind that the server offers", () => withPage(browser, quick, async (t) => {
  const { model, refs } = t.server;
  await openPage(t, "storage");
  await t.page.getByRole("button", { name: "New storage" }).click();
  const dialog = t.page.getByRole("dialog", { name: "New storage" });
  await dialog.getByLabel("Name", { exact: true }).fill("Scratch");
  await dialog.getByLabel("Directory").fill("/srv/scratch");
  await dialog.getByLabel("Host", { exact: true }).selectOption({ label: "birch" });
  await shot(t.page, "new-storage");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await t.page.getByRole("link", { name: "Scratch", exact: true }).waitFor();
  await t.page.getByRole("button", { name: "New storage" }).click();
  await dialog.getByLabel("Kind").selectOption({ label: "NFS" });
  await dialog.getByLabel("Name", { exact: true }).fill("Filer");
  await dialog.getByLabel("Server", { exact: true }).fill("filer.example");
  await dialog.getByLabel("Path on the server").fill(" /export/vms ");
  assert.equal(await dialog.getByLabel("Host", { exact: true }).count(), 0, "it is for all hosts");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await t.page.getByRole("link", { name: "Filer", exact: true }).waitFor();
  assert.deepEqual(calls(t, "SR.create").map(([, ...params]) => params), [
    [refs.hosts[1], { location: "/srv/scratch" }, 0, "Scratch", "", "file", "user", false, {}],
    [refs.hosts[0], { server: "filer.example", serverpath: "/export/vms" }, 0, "Filer", "", "nfs", "user", true, {}],
  ]);
  assert.equal(model.get("SR", model.find("SR", (sr) => sr.name_label === "Filer")[0]).PBDs.length, 2);
}));

test("storage is disconnected, connected, destroyed when it is empty, and forgotten with its disks", () => withPage(browser, quick, async (t) => {
  const { model, operations, refs } = t.server;
  const scratch = await operations.call("SR.create", [refs.hosts[0], { location: "/srv/x" }, 0, "Scratch", "", "file", "user", true, {}]);
  const attached = (sr) => model.get("SR", sr).PBDs.map((pbd) => model.get("PBD", pbd).currently_attached);
  await openPage(t, "storage", model.get("SR", scratch).uuid);
  await choose(t, "Actions for Scratch", "Disconnect…");
  await confirm(t, "Disconnect Scratch?", "Disconnect");
  await t.page.getByText("on 0 of 2 hosts").waitFor();
  await choose(t, "Actions for Scratch", "Connect");
  await t.page.getByText("on all 2 hosts").waitFor();
  assert.deepEqual(attached(scratch), [true, true]);
  operations.failNext.set("SR.destroy", new ApiFailure("SR_BACKEND_FAILURE_1", "", "the directory is not empty", ""));
  await choose(t, "Actions for Scratch", "Destroy…");
  await confirm(t, "Destroy Scratch?", "Destroy");
  await t.page.getByText("The storage failed: the directory is not empty").waitFor();
  await t.page.getByText("The storage is disconnected from its hosts; “Connect” brings it back.").waitFor();
  await t.page.getByRole("link", { name: "Scratch", exact: true }).click();
  await choose(t, "Actions for Scratch", "Destroy…");
  await confirm(t, "Destroy Scratch?", "Destroy");
  await t.page.getByText("Destroy storage Scratch – done").waitFor();
  assert.ok(!model.rows.has(scratch));
  await t.page.goto(`${t.server.url}/#/storage/${model.get("SR", refs.local).uuid}`);
  await t.page.getByRole("button", { name: "Actions for Disks" }).click();
  assert.equal(await t.page.getByRole("menuitem", { name: "Destroy…" }).getAttribute("title"), "Not while it holds disks.");
  await t.page.getByRole("menuitem", { name: "Forget…" }).click();
  await confirm(t, "Forget Disks?", "Forget");
  await t.page.getByText("Forget storage Disks – done").waitFor();
  assert.ok(!model.rows.has(refs.local));
}));

test("networks: private, VLAN on every host, renamed, removed; one that is used stays", () => withPage(browser, { ...quick, viewport: PHONE }, async (t) => {
  const { model, refs } = t.server;
  const named = (name) => model.find("network", (network) => network.name_label === name)[0];
  await openPage(t, "networks");
  await t.page.getByRole("button", { name: "New network" }).click();
  const dialog = t.page.getByRole("dialog", { name: "New network" });
  await dialog.getByLabel("Name", { exact: true }).fill("Backstage");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await t.page.getByText("New network Backstage – done").waitFor();
  await t.page.getByRole("button", { name: "New network" }).click();
  await dialog.getByLabel("Name", { exact: true }).fill("Office");
  await dialog.getByRole("radio", { name: /VLAN of a NIC/ }).check();
  await dialog.getByLabel("VLAN tag").fill("42");
  await shot(t.page, "phone-new-network");
  await dialog.getByRole("button", { name: "Make it" }).click();
  await t.page.getByText("New network Office – done").waitFor();
  assert.deepEqual(model.get("network", named("Office")).PIFs.map((pif) => model.get("PIF", pif).VLAN), [42, 42]);
  await choose(t, "Actions for Office", "Rename…");
  await t.page.getByRole("dialog", { name: "Rename Office" }).getByLabel("Name", { exact: true }).fill("Desks");
  await t.page.keyboard.press("Enter");
  await t.page.getByText("Rename Office – done").waitFor();
  await choose(t, "Actions for Desks", "Remove…");
  await confirm(t, "Remove Desks?", "Remove");
  await t.page.getByText("Remove network Desks – done").waitFor();
  assert.equal(calls(t, "VLAN.destroy").length, 2);
  await t.page.getByRole("button", { name: "Actions for Pool network" }).click();
  assert.equal(await t.page.getByRole("menuitem", { name: "Remove…" }).getAttribute("title"), "VMs are on it.");
  assert.ok(model.rows.has(refs.lan));
}));

test("a network whose VLAN cannot be made is not left behind", () => withPage(browser, quick, async (t) => {
  const { model, operations, refs } = t.server;
  operations.failNext.set("pool.create_VLAN_from_PIF", new ApiFailure("PIF_VLAN_EXISTS", refs.lan));
  await openPage(t, "networks");
  await t.page.getByRole("button", { name: "New network" }).click();
  const dialog = t.page.getByRole("dialog", { name: "New network" });
  await dialog.getByLabel("Name", { exact: true }).fill("Office");
  await dialog.getByRole("radio", { name: /VLAN of a NIC/ }).check();
  await dialog.getByRole("button", { name: "Make it" }).click();
  await t.page.getByText("This NIC has a VLAN with this tag already.").waitFor();
  assert.deepEqual(model.find("network", (network) => network.name_label === "Office"), []);
}));

test("maintenance: the VMs leave the host, and it is told which cannot", () => withPage(browser, quick, async (t) => {
  const { model, operations, refs } = t.server;
  operations.stuck = { [refs.web2]: ["VM_REQUIRES_SR", refs.web2, refs.local] };
  await openPage(t, "host", model.get("host", refs.hosts[1]).uuid);
  const dialog = t.page.getByRole("dialog", { name: "Maintenance of birch" });
  await t.page.getByRole("button", { name: "Maintenance…" }).click();
  await dialog.getByRole("list", { name: "VMs that cannot leave" }).getByText("The host does not see storage Disks, which this VM needs.").waitFor();
  assert.ok(await dialog.getByRole("button", { name: "Begin" }).isDisabled());
  await shot(t.page, "maintenance-stuck");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  operations.stuck = {};
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  operations.hold = () => held;
  await t.page.getByRole("button", { name: "Maintenance…" }).click();
  await dialog.getByRole("button", { name: "Begin" }).click();
  await t.page.locator(".page-head").getByText("VMs leave…").waitFor();
  release();
  await t.page.getByText("Maintenance of birch – done").waitFor();
  assert.deepEqual([model.get("host", refs.hosts[1]).enabled, model.get("host", refs.hosts[1]).resident_VMs], [false, []]);
  await t.page.getByText("No VM runs here").waitFor();
  await t.page.getByRole("button", { name: "Enable" }).click();
  await t.page.getByRole("button", { name: "Maintenance…" }).waitFor();
}));
