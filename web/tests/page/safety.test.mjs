// Names that are markup are text everywhere; the page runs under its policy without a violation (the
// harness fails each test that sees one); it can be used by keyboard.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { XSS } from "../fake/seed.mjs";
import { launch, logIn, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test("an object named like markup is text in every view", () => withPage(browser, { server: { stepMs: 5 } }, async (t) => {
  const { model, refs } = t.server;
  for (const ref of [refs.local, refs.iso, refs.lan, ...refs.hosts, refs.pool, refs.template]) {
    model.update(ref, { name_label: XSS, name_description: XSS });
  }
  model.update(refs.hosts[0], { other_config: { [XSS]: XSS, accelerator: XSS }, cpu_info: { modelname: XSS, [XSS]: XSS } });
  model.create("message", { name: XSS, cls: "VM", obj_uuid: model.get("VM", refs.evil).uuid, body: XSS });
  model.create("task", { name_label: XSS, name_description: XSS, status: "failure", error_info: [XSS, XSS] });
  const uuid = (cls, ref) => model.get(cls, ref).uuid;
  await logIn(t);
  const views = [
    "vms", `vm/${uuid("VM", refs.evil)}`, ...["disks", "network", "console", "screen"].map((tab) => `vm/${uuid("VM", refs.evil)}/${tab}`),
    "hosts", `host/${uuid("host", refs.hosts[0])}`, "storage", `storage/${uuid("SR", refs.local)}`, "networks", XSS, `vm/${encodeURIComponent(XSS)}`,
  ];
  await t.page.getByRole("button", { name: /^Tasks/ }).click();
  await t.page.getByRole("tab", { name: /Messages/ }).click();
  await t.page.locator(".drawer").getByText(XSS).first().waitFor();
  await t.page.getByRole("tab", { name: /Tasks/ }).click();
  await t.page.locator(".drawer").getByText(XSS).first().waitFor();
  await t.page.locator(".drawer").getByRole("button", { name: "Close" }).click();
  for (const view of views) {
    await t.page.goto(`${t.server.url}/#/${view}`);
    await t.page.locator("main h1, main h2").first().waitFor();
    for (const details of await t.page.locator("details").all()) {
      await details.evaluate((d) => { d.open = true; });
    }
    assert.equal(await t.page.evaluate(() => document.querySelectorAll("img").length), 0, view);
  }
  await t.page.goto(`${t.server.url}/#/vms`);
  await t.page.getByRole("button", { name: `Start ${XSS}` }).click();
  await t.page.getByText(`Start ${XSS} – done`).waitFor();
  await t.page.getByRole("button", { name: `Actions for ${XSS}` }).click();
  await t.page.getByRole("menuitem", { name: "Force off" }).click();
  await t.page.getByRole("dialog").getByText(XSS).first().waitFor();
  await t.page.keyboard.press("Escape");
  await t.page.getByRole("button", { name: "New VM" }).click();
  await t.page.getByRole("dialog", { name: "New VM" }).waitFor();
  assert.equal(await t.page.evaluate(() => window.pwned), undefined);
}));

test("every control has a name, and no view is wider than the window", async () => {
  for (const viewport of [{ width: 1320, height: 840 }, { width: 360, height: 740 }]) {
    await withPage(browser, { viewport }, async (t) => {
      const { model, refs } = t.server;
      await logIn(t);
      for (const view of ["vms", `vm/${model.get("VM", refs.web1).uuid}`, `vm/${model.get("VM", refs.web1).uuid}/disks`, `vm/${model.get("VM", refs.web1).uuid}/network`,
        `vm/${model.get("VM", refs.web1).uuid}/console`, "hosts", `host/${model.get("host", refs.hosts[0]).uuid}`, "storage", `storage/${model.get("SR", refs.local).uuid}`, "networks"]) {
        await t.page.goto(`${t.server.url}/#/${view}`);
        await t.page.locator("main h1").first().waitFor();
        const nameless = await t.page.evaluate(() => [...document.querySelectorAll("button, a, input, select, textarea")]
          .filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length || e.title)).map((e) => e.outerHTML));
        assert.deepEqual(nameless, [], view);
        const over = await t.page.evaluate(() => { const m = document.querySelector("main"); return [m.scrollWidth - m.clientWidth, document.documentElement.scrollWidth - innerWidth]; });
        assert.ok(over.every((n) => n <= 0), `${view} at ${viewport.width}: wider by ${over}`);
      }
    });
  }
});

test("the page works by keyboard: skip link, menus, tabs, dialogs give the focus back", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  const focused = () => t.page.evaluate(() => document.activeElement?.getAttribute("aria-label") || document.activeElement?.textContent);
  await t.page.getByRole("link", { name: "web1", exact: true }).focus();
  await t.page.keyboard.press("Enter");
  await t.page.getByRole("heading", { name: "web1" }).waitFor();
  assert.equal(await t.page.evaluate(() => document.activeElement?.tagName), "H1");
  await t.page.getByRole("tab", { name: "Overview" }).focus();
  await t.page.keyboard.press("End");
  await t.page.waitForFunction(() => document.querySelector("[role=tab][aria-selected=true]")?.textContent.startsWith("Snapshots"));
  await t.page.keyboard.press("ArrowRight");
  await t.page.waitForFunction(() => document.querySelector("[role=tab][aria-selected=true]")?.textContent === "Overview");
  await t.page.getByRole("button", { name: "Actions for web1" }).focus();
  await t.page.keyboard.press("ArrowDown");
  await t.page.getByRole("menu").waitFor();
  await t.page.keyboard.press("End");
  assert.equal(await focused(), "Force reboot", "the last that can be chosen");
  await t.page.keyboard.press("Enter");
  await t.page.getByRole("dialog", { name: "Force reboot web1?" }).waitFor();
  assert.equal(await focused(), "Cancel");
  await t.page.keyboard.press("Escape");
  await t.page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await focused(), "Actions for web1");
}));

test("light and dark: by the system, or as chosen, and the choice is kept", () => withPage(browser, { dark: true }, async (t) => {
  await logIn(t);
  const ground = () => t.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await t.page.emulateMedia({ colorScheme: "light" });
  await t.page.waitForFunction((was) => getComputedStyle(document.body).backgroundColor !== was, dark);
  await t.page.getByRole("button", { name: "Light or dark" }).click();
  await t.page.getByRole("menuitemradio", { name: "Dark" }).click();
  assert.equal(await ground(), dark);
  await t.page.reload();
  assert.equal(await ground(), dark);
}));

/** WCAG contrast of the text of elements against the first opaque ground behind them. */
function poorContrast() {
  const channels = (c) => c.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const groundOf = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const c = getComputedStyle(at).backgroundColor;
      if (c.startsWith("rgb(")) return channels(c);
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll("main *, nav *, header *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim() !== "");
    if (!own || !e.checkVisibility({ checkOpacity: true, opacityProperty: true }) || e.closest(":disabled, [aria-disabled], .console")) continue;
    const colour = getComputedStyle(e).color;
    if (!colour.startsWith("rgb(")) continue;
    const [a, b] = [luminance(channels(colour)), luminance(groundOf(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${e.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}

for (const dark of [false, true]) {
  test(`text can be read in ${dark ? "dark" : "light"}`, () => withPage(browser, { dark }, async (t) => {
    await logIn(t);
    await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
    for (const view of ["vms", `vm/${t.server.model.get("VM", t.server.refs.web1).uuid}`, "storage", "templates", `host/${t.server.model.get("host", t.server.refs.hosts[0]).uuid}`]) {
      await t.page.goto(`${t.server.url}/#/${view}`);
      await t.page.locator("main h1").first().waitFor();
      assert.deepEqual(await t.page.evaluate(poorContrast), [], view);
    }
  }));
}
