import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, launch, logIn, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const goTo = (t, ref, tab) => t.page.goto(`${t.server.url}/#/vm/${t.server.model.get("VM", ref).uuid}/${tab}`);
const screenText = (page) => page.evaluate(() => document.querySelector(".xterm-rows")?.textContent ?? "");
const waitForText = (t, text) => t.page.waitForFunction((wanted) => (document.querySelector(".xterm-rows")?.textContent ?? "").replaceAll("\u00a0", " ").includes(wanted), text);

test("the serial console shows what was kept, takes typing and pasting, and is styled within the policy", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await goTo(t, t.server.refs.web1, "console");
  await waitForText(t, "web1 login:");
  const colour = await t.page.evaluate(() => getComputedStyle([...document.querySelectorAll(".xterm-rows span")].find((s) => s.textContent.startsWith("true"))).color);
  assert.match(colour, /^rgb\((?!29, 37, 48)/, "true colours reach the page");
  const below = await t.page.evaluate(() => getComputedStyle(document.querySelector(".xterm-viewport")).backgroundColor);
  assert.equal(below, "rgba(0, 0, 0, 0)", "no black line below the last line");
  await t.page.keyboard.type("root");
  await t.page.keyboard.press("Enter");
  await waitForText(t, "Password for root");
  await t.page.evaluate(() => navigator.clipboard.writeText("echo pasted"));
  await t.page.getByRole("button", { name: "Paste" }).click();
  await waitForText(t, "echo pasted");
  assert.ok((await screenText(t.page)).length > 0);
}));

test("each socket has its own token, and no address has the session", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await goTo(t, t.server.refs.web1, "console");
  await waitForText(t, "login:");
  await t.page.getByRole("button", { name: "Connect again" }).click();
  const addresses = () => t.server.requests.filter((r) => r.method === "UPGRADE").map((r) => r.url);
  await eventually(() => addresses().length >= 2);
  await waitForText(t, "login:");
  const upgrades = addresses();
  assert.equal(new Set(upgrades).size, upgrades.length);
  const [session] = t.server.sessions.keys();
  for (const url of upgrades) {
    assert.match(url, /^\/console\?token=/);
    assert.ok(!url.includes(session) && !url.includes(encodeURIComponent(session)));
  }
}));

test("a console that breaks says so, and connects again on request", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await goTo(t, t.server.refs.web1, "console");
  await waitForText(t, "login:");
  for (const socket of t.server.sockets) socket.terminate();
  await t.page.getByRole("heading", { name: "Disconnected" }).waitFor();
  await t.page.locator(".console-card").getByRole("button", { name: "Connect again" }).click();
  await t.page.getByText("Connected", { exact: true }).waitFor();
  await waitForText(t, "login:");
}));

test("the console follows the VM: gone when it halts, back when it runs", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  await logIn(t);
  await goTo(t, t.server.refs.web1, "console");
  await waitForText(t, "login:");
  await t.page.getByRole("button", { name: "Shut down" }).click();
  await t.page.getByRole("heading", { name: "The VM is halted" }).waitFor();
  await t.page.getByRole("tabpanel").getByRole("button", { name: "Start" }).click();
  await waitForText(t, "login:");
}));

test("the screen is drawn and takes Ctrl+Alt+Del", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await goTo(t, t.server.refs.web1, "screen");
  await t.page.getByText("Connected", { exact: true }).waitFor();
  await t.page.waitForFunction(() => {
    const c = document.querySelector(".screen-host canvas");
    if (!c || c.width !== 640) return false;
    const [r, g, b] = c.getContext("2d").getImageData(320, 200, 1, 1).data;
    const scaledUp = c.getBoundingClientRect().width > 640;
    return scaledUp && r === 24 && g === 32 && b === 46;
  });
  await t.page.getByRole("button", { name: "Ctrl+Alt+Del" }).click();
  const CTRL_ALT_DEL = [0xffe3, 0xffe9, 0xffff];
  await eventually(() => t.server.keys.filter((k) => k.down).length >= 3);
  assert.deepEqual(t.server.keys.filter((k) => k.down).map((k) => k.key), CTRL_ALT_DEL);
  await t.page.getByRole("button", { name: "Show in its own size" }).click();
  await t.page.waitForFunction(() => Math.round(document.querySelector(".screen-host canvas").getBoundingClientRect().width) === 640);
}));

test("a VM that is off offers to start it", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  await logIn(t);
  await goTo(t, t.server.refs.web10, "screen");
  await t.page.getByRole("heading", { name: "The VM is halted" }).waitFor();
  await t.page.getByRole("tabpanel").getByRole("button", { name: "Start" }).click();
  await t.page.getByText("Connected", { exact: true }).waitFor();
}));

test("Ctrl+Shift+L leads out of a console that takes every key", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  for (const [tab, first] of [["console", "Copy"], ["screen", "Ctrl+Alt+Del"]]) {
    await goTo(t, t.server.refs.web1, tab);
    await t.page.getByText("Connected", { exact: true }).waitFor();
    await t.page.keyboard.press("Tab");
    await t.page.keyboard.press("Control+Shift+L");
    await t.page.waitForFunction((text) => document.activeElement?.textContent === text, first);
  }
}));
