// Finding anything of the pool, by keyboard alone.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, logIn, PHONE, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const field = (t) => t.page.getByRole("combobox", { name: "Find" });
const hits = (t) => t.page.getByRole("option");
/** [kind, name] of what is found. */
const found = (t) => hits(t).evaluateAll((all) => all.map((hit) => [hit.querySelector(".tag").textContent, hit.querySelector(".hit-name").textContent]));
async function search(t, text) {
  if (await field(t).count() === 0) {
    await t.page.keyboard.press("/");
  }
  await field(t).fill(text);
  return found(t);
}

test("every kind of thing is found, and each hit says its kind", () => withPage(browser, {}, async (t) => {
  const { model, refs } = t.server;
  await t.server.operations.call("VM.snapshot", [refs.web10, "before the upgrade"], null);
  await logIn(t);
  await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
  for (const [text, kind, name] of [
    ["web10", "VM", "web10"], ["192.0.2.60", "VM", "db1"], ["alder", "Host", "alder"], ["192.0.2.12", "Host", "birch"],
    ["nvme", "Storage", "Fast"], ["db1 data", "Disk", "db1 data"], ["netinst", "Disc image", "debian-12.7.0-amd64-netinst.iso"],
    ["internal", "Network", "Internal"], ["tiny linux", "Template", "Corral tiny Linux"], ["before the up", "Snapshot", "before the upgrade"],
    [model.get("VM", refs.db1).uuid, "VM", "db1"], ["disk web1 system", "Disk", "web1 system"],
  ]) {
    assert.deepEqual((await search(t, text))[0], [kind, name], text);
  }
  assert.deepEqual((await search(t, "web1")).slice(0, 2), [["VM", "web1"], ["Disk", "web1 data"]]);
  const inside = await search(t, model.get("VM", refs.db1).uuid.slice(9, 12));
  assert.ok(!inside.some(([, name]) => name === "db1"), "a few letters are somewhere in every large pool's uuids");
  assert.deepEqual(await search(t, "no-such-thing"), []);
  await t.page.getByText("Nothing of the pool contains “no-such-thing”.").waitFor();
}));

test("arrows choose, Enter goes there, a disk is marked in its storage, and Escape comes back", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
  await search(t, "web2");
  await t.page.keyboard.press("ArrowDown");
  assert.equal(await t.page.locator("[role=option][aria-selected=true] .hit-name").innerText(), "web2 system");
  await t.page.keyboard.press("Enter");
  await t.page.locator("tr.marked").getByText("web2 system").waitFor();
  await t.page.keyboard.press("Control+k");
  await field(t).fill("internal");
  await t.page.keyboard.press("Enter");
  await t.page.getByRole("heading", { name: "Networks" }).waitFor();
  await t.page.locator("tr.marked").getByText("Internal").waitFor();
  await t.page.keyboard.press("/");
  await field(t).waitFor();
  await t.page.keyboard.press("Escape");
  await field(t).waitFor({ state: "detached" });
}));

test("the key belongs to a field while one types there", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  const filter = t.page.getByLabel("Filter");
  await filter.focus();
  await t.page.keyboard.type("a/b");
  assert.equal(await filter.inputValue(), "a/b");
  assert.equal(await field(t).count(), 0);
}));

test("on a phone the button opens it", () => withPage(browser, { viewport: PHONE }, async (t) => {
  await logIn(t);
  await t.page.getByRole("button", { name: "Find" }).click();
  await field(t).fill("birch");
  await hits(t).first().click();
  await t.page.getByRole("heading", { name: "birch" }).waitFor();
}));
