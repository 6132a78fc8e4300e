// Graphs of VMs and hosts: what is drawn, read by pointer, keyboard and table, hidden, live, and honest when there is nothing.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, launch, logIn, PHONE, shot, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

async function openGraphs(t, cls, ref) {
  await logIn(t);
  await t.page.goto(`${t.server.url}/#/${cls.toLowerCase()}/${t.server.model.get(cls, ref).uuid}/graphs`);
}
/** For tests that count rows: no new one comes meanwhile. */
const begun = Date.now();
const stopped = () => begun;
const slider = (t, title) => t.page.getByRole("slider", { name: `${title}: moment` });
const card = (t, title) => t.page.locator(".card").filter({ has: slider(t, title) });
const asked = (t, path) => t.server.requests.filter((r) => r.url.startsWith(path));

test("a running VM: processors, memory, network and disks, with gaps, read and hidden", () => withPage(browser, { server: { clock: stopped } }, async (t) => {
  await openGraphs(t, "VM", t.server.refs.web1);
  for (const [title, lines] of [["Processors", ["All vCPUs", "vCPU 0", "vCPU 1"]], ["Memory", ["Given to the VM", "Free in the guest"]], ["Network", ["NIC 0 received", "NIC 0 sent"]], ["Disks", ["xvda read", "xvda written", "xvdb read", "xvdb written"]]]) {
    await slider(t, title).waitFor();
    const names = await card(t, title).getByRole("list", { name: `Lines of ${title}` }).locator("button > span").allInnerTexts();
    assert.deepEqual(names, lines);
    assert.equal(await card(t, title).locator("path.line").count(), lines.length);
    assert.ok((await card(t, title).locator("path.line").first().getAttribute("d")).match(/M/g).length >= 2, "the line has a gap");
  }
  assert.match(await card(t, "Memory").innerText(), /4 GiB/);
  // By keyboard: from moment to moment, the same in all graphs.
  const moment = () => slider(t, "Processors").getAttribute("aria-valuetext");
  const newest = await moment();
  assert.match(newest, /All vCPUs [\d.]+ %, vCPU 0 [\d.]+ %/);
  await slider(t, "Processors").focus();
  await t.page.keyboard.press("ArrowLeft");
  assert.equal(await slider(t, "Network").getAttribute("aria-valuenow"), "118");
  assert.notEqual(await moment(), newest);
  await t.page.keyboard.press("Home");
  assert.equal(await slider(t, "Disks").getAttribute("aria-valuenow"), "0");
  // By pointer: the middle of the drawing is the middle of the time.
  const box = await slider(t, "Processors").boundingBox();
  await t.page.mouse.move(box.x + 74 + (box.width - 86) / 2, box.y + 60);
  await t.page.waitForFunction(() => Math.abs(Number(document.querySelector("[role=slider]").getAttribute("aria-valuenow")) - 60) <= 2);
  await shot(t.page, "graphs-pointer");
  // Hidden lines are not drawn and not told.
  await card(t, "Processors").getByRole("button", { name: /^vCPU 1/ }).click();
  assert.equal(await card(t, "Processors").locator("path.line").count(), 2);
  assert.ok(!(await moment()).includes("vCPU 1"));
  await card(t, "Network").getByText("As a table").click();
  const rows = card(t, "Network").getByRole("table").getByRole("row");
  await rows.nth(120).waitFor({ state: "attached" });
  assert.match(await rows.nth(0).innerText(), /Time\s+NIC 0 received\s+NIC 0 sent/);
}));

test("the graphs are live, each time asks for its own rows, and only new ones are asked for", () => withPage(browser, {}, async (t) => {
  await openGraphs(t, "VM", t.server.refs.web1);
  await slider(t, "Processors").waitFor();
  await eventually(() => asked(t, "/rrd_updates").length >= 2, 30);
  const [first, second] = asked(t, "/rrd_updates").map((r) => new URL(r.url, t.server.url).searchParams);
  assert.deepEqual([first.get("start"), first.get("interval"), first.get("vm_uuid")], ["-595", "5", t.server.model.get("VM", t.server.refs.web1).uuid]);
  assert.ok(Number(second.get("start")) > Date.now() / 1000 - 600);
  for (const [label, step, max] of [["2 hours", "60", "119"], ["Week", "3600", "167"], ["Year", "86400", "365"]]) {
    await t.page.getByRole("button", { name: label }).click();
    await t.page.waitForFunction((n) => document.querySelector("[role=slider]")?.getAttribute("aria-valuemax") === n, max);
    assert.equal(new URL(asked(t, "/rrd_updates").at(-1).url, t.server.url).searchParams.get("interval"), step);
  }
  for (const { url } of asked(t, "/rrd_updates")) {
    assert.ok(!url.includes("OpaqueRef"), "the session is not in an address");
  }
}));

test("a VM that does not run shows what was kept, or says that there is nothing", () => withPage(browser, {}, async (t) => {
  const { model, refs } = t.server;
  await openGraphs(t, "VM", refs.web10);
  await t.page.getByText("Nothing measured yet").waitFor();
  model.update(refs.blank, { other_config: { measured: "yes" } });
  await t.page.goto(`${t.server.url}/#/vm/${model.get("VM", refs.blank).uuid}/graphs`);
  await t.page.getByText("The VM does not run: this is what was measured before.").waitFor();
  await slider(t, "Processors").waitFor();
  await card(t, "Disks").getByText("No data in this time").waitFor();
  // Chromium reports the answer "nothing was measured".
  t.complaints.splice(0, t.complaints.length, ...t.complaints.filter((c) => !c.includes("404")));
}));

test("a host: many processors begin with their mean alone; on a phone nothing is cut off", () => withPage(browser, { viewport: PHONE }, async (t) => {
  await openGraphs(t, "host", t.server.refs.hosts[0]);
  await slider(t, "Processors").waitFor();
  assert.equal(await card(t, "Processors").locator("path.line").count(), 1);
  await card(t, "Processors").getByRole("button", { name: /^Processor 31/ }).click();
  assert.equal(await card(t, "Processors").locator("path.dashed").count(), 1);
  assert.match(await card(t, "Memory").innerText(), /In all\s+128 GiB/);
  await card(t, "Network").getByRole("button", { name: /^eth0 received/ }).waitFor();
  assert.ok(await t.page.evaluate(() => document.querySelector("main").scrollWidth <= window.innerWidth), "no sideways scrolling");
}));

test("measurements that cannot be had are told with their error", () => withPage(browser, {}, async (t) => {
  await openGraphs(t, "VM", t.server.refs.web1);
  await slider(t, "Processors").waitFor();
  await t.page.route("**/rrd_updates*", (route) => route.fulfill({ status: 503, body: "too many measurements are on their way" }));
  await t.page.getByText(/503.*too many measurements/).waitFor();
  await t.page.getByText("The graphs are not current; they are asked for again.").waitFor();
  await slider(t, "Processors").waitFor();
  t.complaints.splice(0, t.complaints.length, ...t.complaints.filter((c) => !c.includes("503")));
}));
