// What each test of the page starts from: a fake server, Chromium, and a page whose complaints count.
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { FakeServer, PASSWORD } from "./fake/server.mjs";

const here = dirname(fileURLToPath(import.meta.url));
export const PAGE = process.env.CORRAL_WEB_PAGE ?? join(here, "../dist");
export const OUTPUT = process.env.CORRAL_WEB_OUTPUT ?? join(here, "output");
const CHROMIUM = process.env.CORRAL_CHROMIUM ?? "/usr/bin/chromium";

export const BROWSER_ARGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

export function launch() {
  return chromium.launch({ executablePath: CHROMIUM, headless: true, args: BROWSER_ARGS });
}

export const WIDE = { width: 1320, height: 840 };
export const PHONE = { width: 390, height: 800 };

/**
 * A fake server and a page on it. `complaints` collects policy violations, console errors, page errors and
 * failed requests; close() throws when there are any that the test did not expect.
 */
export async function open(browser, { viewport = WIDE, dark = false, server: serverOptions = {} } = {}) {
  const server = await new FakeServer({ page: PAGE, ...serverOptions }).listen();
  const context = await browser.newContext({
    viewport, colorScheme: dark ? "dark" : "light", reducedMotion: "reduce", permissions: ["clipboard-read", "clipboard-write"],
  });
  context.setDefaultTimeout(30_000);
  await context.addInitScript(() => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (e) =>
      window.violations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber} ${e.sample}`));
  });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") complaints.push(`console: ${m.text()}`); });
  page.on("pageerror", (e) => complaints.push(`page: ${e.stack ?? e}`));
  return {
    server, context, page, complaints,
    async close() {
      const violations = await page.evaluate(() => window.violations ?? []);
      await context.close();
      await server.close();
      const all = [...violations.map((v) => `policy: ${v}`), ...complaints];
      if (all.length > 0) {
        throw new Error(`the page complained:\n${all.join("\n")}`);
      }
    },
  };
}

export async function logIn(t) {
  await t.page.goto(t.server.url);
  await t.page.getByLabel("User").fill("root");
  await t.page.getByLabel("Password").fill(PASSWORD);
  await t.page.getByRole("button", { name: "Log in" }).click();
  await t.page.getByRole("navigation", { name: "Main" }).waitFor();
}

/** Runs one test on a page of its own, and ends everything whether it passes or not. */
export async function withPage(browser, options, work) {
  const t = await open(browser, options);
  try {
    await work(t);
  } catch (e) {
    await shot(t.page, `failed-${Date.now()}`).catch(() => undefined);
    await t.close().catch((e2) => { e.message += `\n${e2.message}`; });
    throw e;
  }
  await t.close();
}

export async function shot(page, name) {
  mkdirSync(OUTPUT, { recursive: true });
  await page.screenshot({ path: join(OUTPUT, `${name}.png`) });
}

/** Waits until the server's side has come to this, with a deadline. */
export async function eventually(holds, seconds = 10) {
  const deadline = Date.now() + seconds * 1000;
  while (!holds()) {
    if (Date.now() > deadline) {
      throw new Error(`not within ${seconds} s: ${holds}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
