// The reference of REST: made from the description, searched, and linked to from errors. No log-in.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, PHONE, shot, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test("every list is there, and a search narrows it down", () => withPage(browser, {}, async (t) => {
  await t.page.goto(`${t.server.url}/reference/`);
  await t.page.getByRole("heading", { name: "vms", exact: true }).waitFor();
  await t.page.getByRole("searchbox", { name: "Search" }).fill("vms {uuid} start_on");
  const found = t.page.locator("details.operation summary", { hasText: "start_on" });
  await found.waitFor();
  await t.page.waitForFunction(() => document.querySelectorAll("details.operation").length < 5);
  await found.click();
  await t.page.getByRole("row", { name: /^host\*/ }).waitFor();
  await shot(t.page, "reference");
}));

test("a body that is no object is named by its kind", () => withPage(browser, {}, async (t) => {
  await t.page.goto(`${t.server.url}/reference/`);
  await t.page.getByRole("searchbox", { name: "Search" }).fill("vdis {uuid} uploads {upload}");
  await t.page.locator("details.operation summary", { hasText: "PATCH" }).click();
  await t.page.getByText("The body is bytes: application/offset+octet-stream.").waitFor();
}));

test("an address leads to an error and to an object", () => withPage(browser, { viewport: PHONE, dark: true }, async (t) => {
  await t.page.goto(`${t.server.url}/reference/#error-VM_BAD_POWER_STATE`);
  await t.page.locator("tr.target", { hasText: "VM_BAD_POWER_STATE" }).waitFor();
  assert.match(await t.page.locator("tr.target").textContent(), /409/);
  await t.page.goto(`${t.server.url}/reference/#schema-VM`);
  await t.page.locator("#schema-VM[open]").getByRole("row", { name: /^power_state/ }).waitFor();
  await shot(t.page, "reference-phone");
}));

test("without the description it says so", () => withPage(browser, {}, async (t) => {
  await t.page.route("**/openapi.json", (route) => route.fulfill({ status: 503, body: "" }));
  await t.page.goto(`${t.server.url}/reference/`);
  await t.page.getByRole("alert").getByText("503").waitFor();
  t.complaints.length = 0; // the browser tells of the 503 too
}));
