// Templates: what each is for, installed from, described, exported, one's own deleted; and VMs as files.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { eventually, launch, logIn, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());
const quick = { server: { stepMs: 5 } };

async function choose(t, of, item) {
  await t.page.getByRole("button", { name: `Actions for ${of}`, exact: true }).click();
  await t.page.getByRole("menuitem", { name: item, exact: true }).click();
}
const vmNamed = (t, name) => t.server.model.find("VM", (vm) => vm.name_label === name)[0];
const row = (t, name) => t.page.getByRole("table", { name: "Templates" }).getByRole("row").filter({ hasText: name });
/** Makes the seed's web10 a template of the user's own. */
async function ownTemplate(t) {
  const ref = t.server.refs.web10;
  await t.server.operations.call("VM.set_is_a_template", [ref, true]);
  return ref;
}
/** A browser without a file picker: it downloads. */
const withoutPicker = (t) => t.context.addInitScript(() => { delete window.showSaveFilePicker; });

test("the list says what a VM made from each template begins as, and which came with the pool", () => withPage(browser, quick, async (t) => {
  await ownTemplate(t);
  await logIn(t);
  await t.page.getByRole("link", { name: "Templates" }).click();
  await t.page.getByRole("heading", { name: "Templates" }).waitFor();
  for (const [name, ...parts] of [
    ["Corral tiny Linux", "supplied", "Debian's kernel and busybox", "Starts a kernel of its own", "2 GiB"],
    ["Other install media", "supplied", "install from a disc", "none"],
    ["web10", "A copy of its disks", "20 GiB", "4 GiB"],
  ]) {
    const text = await row(t, name).innerText();
    for (const part of parts) {
      assert.ok(text.includes(part), `${part} in ${text}`);
    }
  }
  assert.ok(!(await row(t, "web10").innerText()).includes("supplied"));
}));

test("a VM is installed from the template whose button was pressed", () => withPage(browser, quick, async (t) => {
  await ownTemplate(t);
  await logIn(t);
  await t.page.goto(`${t.server.url}/#/templates`);
  await t.page.getByRole("button", { name: "New VM from web10" }).click();
  const dialog = t.page.getByRole("dialog", { name: "New VM" });
  assert.equal(await dialog.getByLabel("Template").evaluate((e) => e.selectedOptions[0].text), "web10");
  await dialog.getByLabel("Name").fill("made");
  await dialog.getByRole("button", { name: "Install" }).click();
  await eventually(() => vmNamed(t, "made") && t.server.model.get("VM", vmNamed(t, "made")).power_state === "Running");
}));

test("one's own template is described, made a VM again, and deleted with its disks; a supplied one is not", () => withPage(browser, quick, async (t) => {
  const { model } = t.server;
  const ref = await ownTemplate(t);
  await logIn(t);
  await t.page.goto(`${t.server.url}/#/templates`);
  await choose(t, "web10", "Rename and describe…");
  const dialog = t.page.getByRole("dialog", { name: "Describe web10" });
  await dialog.getByLabel("Name").fill("Web base");
  await dialog.getByLabel("What it is for").fill("Front ends");
  await dialog.getByRole("button", { name: "Save" }).click();
  await row(t, "Front ends").waitFor();
  await choose(t, "Web base", "Make a VM of it…");
  await t.page.getByRole("dialog").getByRole("button", { name: "Make a VM" }).click();
  await row(t, "Web base").waitFor({ state: "detached" });
  assert.equal(model.get("VM", ref).is_a_template, false);

  await t.server.operations.call("VM.set_is_a_template", [ref, true]);
  const disks = model.get("VM", ref).VBDs.map((vbd) => model.get("VBD", vbd).VDI);
  await choose(t, "Web base", "Delete…");
  await t.page.getByRole("dialog").getByText("Disk “web10 system”").waitFor();
  await t.page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await eventually(() => !model.rows.has(ref) && disks.every((vdi) => !model.rows.has(vdi)));

  await t.page.getByRole("button", { name: "Actions for Other install media" }).click();
  assert.ok(await t.page.getByRole("menuitem", { name: "Delete…" }).isDisabled());
  assert.equal(await t.page.getByRole("menuitem", { name: "Delete…" }).getAttribute("title"), "It came with the pool.");
}));

test("a template is exported to a file, the session in no address", () => withPage(browser, quick, async (t) => {
  await withoutPicker(t);
  await ownTemplate(t);
  await logIn(t);
  await t.page.goto(`${t.server.url}/#/templates`);
  const [download] = await Promise.all([t.page.waitForEvent("download"), choose(t, "web10", "Export…")]);
  assert.equal(download.suggestedFilename(), "web10.xva");
  assert.equal(await readFile(await download.path(), "utf8"), "ova.xml of web10, complete");
  await eventually(() => t.server.model.find("task", (task) => task.name_label === "Export").length === 0);
  const [session] = t.server.sessions.keys();
  assert.ok(t.server.requests.every((r) => !r.url.includes(session)));
}));

test("a VM is exported into the file that the user chose, as the bytes come", () => withPage(browser, quick, async (t) => {
  await t.context.addInitScript(() => {
    window.written = "";
    window.showSaveFilePicker = async ({ suggestedName }) => ({
      createWritable: async () => {
        window.written = `${suggestedName}: `;
        return new WritableStream({ write: (bytes) => { window.written += new TextDecoder().decode(bytes); } });
      },
    });
  });
  await logIn(t);
  await choose(t, "web10", "Export…");
  await t.page.waitForFunction(() => window.written === "web10.xva: ova.xml of web10, complete");
}));

test("an export that breaks off is told with the server's reason, and one that was not begun leaves no task", () => withPage(browser, quick, async (t) => {
  await withoutPicker(t);
  t.server.failExport = ["SR_BACKEND_FAILURE", "", "the disk cannot be read", ""];
  await logIn(t);
  await choose(t, "web10", "Export…");
  const notice = t.page.getByRole("alert");
  await notice.getByText("the disk cannot be read").first().waitFor();
  await eventually(() => t.server.model.find("task", (task) => task.name_label === "Export").length === 0);
  await t.page.evaluate(() => { window.showSaveFilePicker = async () => { throw new DOMException("no", "AbortError"); }; });
  const before = t.server.operations.calls.length;
  await choose(t, "web10", "Export…");
  await t.page.getByRole("menu").waitFor({ state: "detached" });
  assert.deepEqual(t.server.operations.calls.slice(before).filter(([name]) => name === "task.create"), []);
  // The browser tells of the broken transfer by itself.
  t.complaints.splice(0, t.complaints.length, ...t.complaints.filter((c) => !c.includes("net::ERR_")));
}));
