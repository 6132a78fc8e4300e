// Drives the page of a REAL pool as a person would: log in, install a VM from a template, start it, see the
// log-in prompt on its serial console, its screen and its graphs, shut it down, take it home as a file, go on after
// the session has ended, find it, delete it. Pictures of each step are
// kept. Ends with 0, or with 1 and one line that says what did not happen.
//
//   node page.mjs --url https://127.0.0.1:8443 --password-file FILE [--user root] [--ca ca.pem]
//                 [--output DIR] [--template "Corral tiny Linux"] [--name NAME] [--timeout SECONDS] [--no-address]
//
// Each option may be given by the environment too: CORRAL_URL, CORRAL_PASSWORD_FILE, ...
// With --ca the server's certificate is checked against that CA before the browser (which knows no such CA,
// and is told to accept any) is pointed at it. --no-address: do not wait for the guest to tell its address.
import { mkdirSync, readFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { launch, WIDE } from "../harness.mjs";

const names = ["url", "user", "password-file", "ca", "output", "template", "name", "timeout"];
const { values: given } = parseArgs({
  options: { ...Object.fromEntries(names.map((name) => [name, { type: "string" }])), "no-address": { type: "boolean", default: false } },
});
const option = (name, otherwise) => given[name] ?? process.env[`CORRAL_${name.toUpperCase().replaceAll("-", "_")}`] ?? otherwise;

const url = option("url");
const passwordFile = option("password-file");
if (!url || !passwordFile) {
  console.error("page: --url and --password-file are needed");
  process.exit(2);
}
const user = option("user", "root");
const ca = option("ca");
const output = option("output", "page-pictures");
const template = option("template", "Corral tiny Linux");
const vmName = option("name", `page-test-${process.pid}`);
const limit = Number(option("timeout", "180")) * 1000;
mkdirSync(output, { recursive: true });

let step = "before the first step";
let pictures = 0;

function begin(what) {
  step = what;
  console.log(`page: ${what}`);
}

/** The server's certificate must be good by this CA and for this name. */
function checkCertificate() {
  return new Promise((resolve, reject) => {
    request(url, { ca: readFileSync(ca), method: "GET", timeout: 20_000 }, (response) => {
      response.resume();
      response.on("end", resolve);
    }).on("error", reject).on("timeout", function timeout() { this.destroy(new Error("no answer in 20 s")); }).end();
  });
}

const browser = await launch();
const complaints = [];
const context = await browser.newContext({ viewport: WIDE, ignoreHTTPSErrors: true });
context.setDefaultTimeout(limit);
await context.addInitScript(() => {
  window.violations = [];
  delete window.showSaveFilePicker; // nobody answers it here: the browser downloads
  document.addEventListener("securitypolicyviolation", (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
});
const page = await context.newPage();
page.on("console", (m) => { if (m.type() === "error") complaints.push(`console: ${m.text()}`); });
page.on("pageerror", (e) => complaints.push(`page: ${e}`));

async function picture(name) {
  await page.screenshot({ path: join(output, `${String(++pictures).padStart(2, "0")}-${name}.png`) });
}

/** A failure that the page shows ends the wait at once, with what it says. */
async function until(wanted) {
  const failed = page.locator(".notice.failed, .callout.bad").first();
  const [outcome] = await Promise.race([
    wanted.then(() => ["done"]),
    failed.waitFor({ timeout: limit + 1000 }).then(async () => ["failed"], () => ["done"]),
  ]);
  if (outcome === "failed") {
    throw new Error(`the page says: ${(await failed.innerText()).replace(/\s+/g, " ").trim()}`);
  }
}

/** Removes what a failed run leaves, with the page's own session. */
async function cleanUp() {
  await page.evaluate(async (name) => {
    const session = JSON.parse(sessionStorage.getItem("corral.session") ?? "null")?.ref;
    if (!session) return;
    const call = async (method, ...params) => (await (await fetch("/jsonrpc", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ jsonrpc: "2.0", method, params: [session, ...params], id: 1 }),
    })).json()).result;
    for (const vm of (await call("VM.get_by_name_label", name)) ?? []) {
      const disks = [];
      for (const vbd of (await call("VM.get_VBDs", vm)) ?? []) {
        const record = await call("VBD.get_record", vbd);
        if (record.type === "Disk" && "owner" in record.other_config) disks.push(record.VDI);
      }
      await call("VM.hard_shutdown", vm);
      await call("VM.destroy", vm);
      for (const vdi of disks) await call("VDI.destroy", vdi);
    }
  }, vmName);
}

async function run() {
  if (ca && url.startsWith("https:")) {
    begin("the server's certificate is good by the pool's CA");
    await checkCertificate();
  }
  begin("the log-in page opens");
  await page.goto(url);
  await page.getByLabel("User").fill(user);
  await picture("log-in");
  begin("logging in");
  await page.getByLabel("Password").fill(readFileSync(passwordFile, "utf8").trim());
  await page.getByRole("button", { name: "Log in" }).click();
  await until(page.getByRole("heading", { name: "Virtual machines", exact: true }).waitFor());
  const newVm = page.getByRole("button", { name: "New VM" }).first();
  await newVm.waitFor();
  await picture("virtual-machines");

  begin(`installing ${vmName} from “${template}”`);
  await page.waitForFunction(() => document.querySelector("tr[data-row], .empty") !== null);
  await newVm.click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Template", { exact: true }).selectOption({ label: template });
  await dialog.getByLabel("Name", { exact: true }).fill(vmName);
  await dialog.getByLabel("Start it when it is installed").setChecked(false);
  await picture("new-vm");
  await dialog.getByRole("button", { name: "Install" }).click();
  const link = page.getByRole("link", { name: vmName, exact: true });
  await until(link.waitFor());
  await until(page.getByText(`Install ${vmName} – done`).waitFor());
  await picture("installed");

  begin("starting it");
  await link.click();
  await page.getByRole("heading", { name: vmName }).waitFor();
  const state = page.locator(".page-head .state");
  await page.locator(".page-actions").getByRole("button", { name: "Start", exact: true }).click();
  await until(state.filter({ hasText: "Running" }).waitFor());
  await picture("running");

  begin("the serial console shows the log-in prompt");
  await page.getByRole("tab", { name: "Console" }).click();
  await until(page.waitForFunction(() => /login: ?/.test((document.querySelector(".xterm-rows")?.textContent ?? "").replaceAll("\u00a0", " "))));
  await picture("serial-console");

  begin("the screen is drawn");
  await page.getByRole("tab", { name: "Screen" }).click();
  await until(page.getByText("Connected", { exact: true }).waitFor());
  await until(page.waitForFunction(() => {
    const canvas = document.querySelector(".screen-host canvas");
    if (!canvas || canvas.width < 2) return false;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value, i) => i % 4 !== 3 && value !== data[i % 4]);
  }));
  await picture("screen");

  begin("the graphs draw what it does");
  await page.getByRole("tab", { name: "Graphs" }).click();
  await until(page.getByRole("slider", { name: "Processors: moment" }).waitFor());
  await picture("graphs");

  if (!given["no-address"]) {
    begin("the guest tells its address");
    await page.getByRole("tab", { name: "Overview" }).click();
    await until(page.getByRole("button", { name: "Copy address" }).first().waitFor());
    await picture("overview");
  }

  begin("shutting it down");
  await page.getByRole("button", { name: "Shut down" }).click();
  await until(state.filter({ hasText: "Halted" }).waitFor());
  await picture("halted");

  begin("taking it home as a file");
  const actions = page.getByRole("button", { name: `Actions for ${vmName}` });
  await actions.click();
  const [archive] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("menuitem", { name: "Export…" }).click(),
  ]);
  await until(page.getByText(`Export ${vmName} – done`).waitFor());
  if (archive.suggestedFilename() !== `${vmName}.xva` || readFileSync(await archive.path()).indexOf("ova.xml") !== 0) {
    throw new Error(`${archive.suggestedFilename()} is no XVA of ${vmName}`);
  }

  begin("the session ends, and the page goes on after a log-in");
  await page.getByRole("button", { name: "Change name" }).click();
  await page.getByRole("textbox", { name: "name" }).fill("half typed");
  await page.evaluate(async () => {
    const { ref } = JSON.parse(sessionStorage.getItem("corral.session"));
    await fetch("/jsonrpc", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ jsonrpc: "2.0", method: "session.logout", params: [ref], id: 1 }) });
  });
  const again = page.getByRole("dialog", { name: "Log in again" });
  await again.getByLabel("Password").fill(readFileSync(passwordFile, "utf8").trim());
  await picture("log-in-again");
  await page.keyboard.press("Enter");
  await again.waitFor({ state: "detached" });
  if (await page.getByRole("textbox", { name: "name" }).inputValue() !== "half typed") {
    throw new Error("what was typed is lost");
  }
  await page.keyboard.press("Escape");

  begin("making a template of it, and a VM again");
  await actions.click();
  await page.getByRole("menuitem", { name: "Make a template…" }).click();
  await dialog.getByRole("button", { name: "Make a template" }).click();
  await until(page.getByText(`Make a template of ${vmName} – done`).waitFor());
  await page.getByRole("link", { name: "Templates" }).click();
  await actions.click();
  await picture("templates");
  await page.getByRole("menuitem", { name: "Make a VM of it…" }).click();
  await dialog.getByRole("button", { name: "Make a VM" }).click();
  await until(page.getByText(`Make a VM of ${vmName} – done`).waitFor());

  begin("finding it");
  await page.keyboard.press("/");
  await page.getByRole("combobox", { name: "Find" }).fill(vmName);
  await page.getByRole("option").filter({ hasText: "VM" }).first().waitFor();
  await picture("find");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: vmName }).waitFor();

  begin("deleting it");
  await actions.click();
  await page.getByRole("menuitem", { name: "Delete…" }).click();
  await picture("delete");
  await dialog.getByRole("button", { name: "Delete" }).click();
  await until(page.getByText(`Delete ${vmName} – done`).waitFor());
  await page.getByRole("heading", { name: "Virtual machines", exact: true }).waitFor();
  await link.waitFor({ state: "detached" });

  begin("logging out");
  await page.getByRole("button", { name: `User ${user}` }).click();
  await page.getByRole("menuitem", { name: "Log out" }).click();
  await page.getByText("You have logged out.").waitFor();

  begin("the page had nothing to complain about");
  complaints.push(...(await page.evaluate(() => window.violations)).map((v) => `policy: ${v}`));
  if (complaints.length > 0) {
    throw new Error(complaints.join("; "));
  }
}

try {
  await run();
  console.log(`page: done, ${pictures} pictures in ${output}`);
} catch (e) {
  await picture("failed").catch(() => undefined);
  await cleanUp().catch((e2) => console.error(`page: ${vmName} could not be removed: ${e2.message}`));
  console.error(`page: FAILED at “${step}”: ${e.message}`);
  if (complaints.length > 0 && !e.message.includes(complaints[0])) {
    console.error(`page: also: ${complaints.join("; ")}`);
  }
  process.exitCode = 1;
} finally {
  await browser.close();
}
