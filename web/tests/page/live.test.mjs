import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, logIn, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test("what changes on the server shows at once, without asking again for what did not", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  const { model, refs } = t.server;
  await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
  model.update(refs.web1, { name_label: "renamed-elsewhere" });
  await t.page.getByRole("link", { name: "renamed-elsewhere", exact: true }).waitFor();
  const vm = model.create("VM", { name_label: "made-elsewhere" });
  await t.page.getByRole("link", { name: "made-elsewhere", exact: true }).waitFor();
  model.remove(vm);
  await t.page.getByRole("link", { name: "made-elsewhere", exact: true }).waitFor({ state: "detached" });
}));

test("a lost connection is told, tried again, and told to be back", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
  t.server.goDown();
  const banner = t.page.getByRole("alert").filter({ hasText: "Connection lost, retrying" });
  await banner.waitFor();
  assert.ok((await banner.innerText()).includes("The server cannot be reached."));
  t.server.model.update(t.server.refs.web1, { name_label: "changed-meanwhile" });
  t.server.down = false;
  await t.page.getByRole("button", { name: "Retry now" }).click();
  await banner.waitFor({ state: "detached" });
  await t.page.getByRole("link", { name: "changed-meanwhile", exact: true }).waitFor();
  // The browser itself reports each request that failed.
  t.complaints.splice(0, t.complaints.length, ...t.complaints.filter((c) => !c.includes("Failed to load resource")));
}));

test("a token that the server no longer understands starts afresh", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  const { model, refs } = t.server;
  await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
  const { token } = model;
  model.token = () => "another form";
  model.update(refs.web2, { name_label: "before" });
  await t.page.getByRole("link", { name: "before", exact: true }).waitFor();
  model.token = token;
  model.update(refs.web2, { name_label: "after" });
  await t.page.getByRole("link", { name: "after", exact: true }).waitFor();
}));

test("thousands of VMs: only the rows that can be seen are drawn", () => withPage(browser, {}, async (t) => {
  for (let i = 0; i < 5000; i++) {
    t.server.model.create("VM", { name_label: `bulk-${i}` });
  }
  await logIn(t);
  await t.page.getByRole("link", { name: "bulk-0", exact: true }).waitFor();
  const rows = t.page.locator("tr[data-row]");
  assert.ok(await rows.count() < 200);
  await t.page.locator("main").evaluate((main) => main.scrollTo(0, main.scrollHeight));
  await t.page.getByRole("link", { name: "web10", exact: true }).waitFor();
  assert.ok(await rows.count() < 200);
  const filter = t.page.getByRole("searchbox", { name: "Filter" });
  await filter.fill("bulk-4999");
  await t.page.getByRole("link", { name: "bulk-4999", exact: true }).waitFor();
  assert.equal(await rows.count(), 1);
}));

test("an empty pool says what to do next", () => withPage(browser, { server: { empty: true } }, async (t) => {
  await logIn(t);
  await t.page.getByRole("heading", { name: "No virtual machines yet" }).waitFor();
  await t.page.getByRole("button", { name: "New VM" }).first().click();
  await t.page.getByRole("heading", { name: "There is no template" }).waitFor();
  await t.page.keyboard.press("Escape");
  for (const [link, heading] of [["Hosts", "No host yet"], ["Storage", "No storage yet"], ["Networks", "No network yet"]]) {
    await t.page.getByRole("navigation").getByRole("link", { name: new RegExp(link) }).click();
    await t.page.getByRole("heading", { name: heading }).waitFor();
  }
}));

test("bad news of the pool interrupts, other messages are only listed", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  const { model, refs } = t.server;
  await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
  assert.equal(await t.page.locator(".notice").count(), 0, "what happened before is no news");
  const { uuid } = model.get("VM", refs.web1);
  model.create("message", { name: "VM_STARTED", priority: 5, cls: "VM", obj_uuid: uuid });
  model.create("message", { name: "VM_CRASHED", priority: 2, cls: "VM", obj_uuid: uuid, body: "The device model was killed by signal 9." });
  const notice = t.page.getByRole("alert");
  await notice.getByText("VM crashed web1").waitFor();
  await notice.getByText("killed by signal 9").waitFor();
  assert.equal(await t.page.locator(".notice").count(), 1);
  await notice.getByRole("button", { name: "Dismiss" }).click();
  await notice.waitFor({ state: "detached" });
  await t.page.getByRole("button", { name: /^Tasks/ }).click();
  await t.page.getByRole("tab", { name: "Messages 4" }).click();
  await t.page.getByRole("complementary").getByText("VM started").first().waitFor();
}));
