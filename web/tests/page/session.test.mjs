import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PASSWORD } from "../fake/server.mjs";
import { eventually, launch, logIn, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

test("a wrong password is told in full, and the password is forgotten", () => withPage(browser, {}, async (t) => {
  await t.page.goto(t.server.url);
  await t.page.getByLabel("Password").fill("pear");
  await t.page.getByRole("button", { name: "Log in" }).click();
  const alert = t.page.getByRole("alert");
  await alert.waitFor();
  const text = await alert.innerText();
  for (const part of ["The user name or the password is wrong.", "SESSION_AUTHENTICATION_FAILED", "root", "Authentication failure"]) {
    assert.ok(text.includes(part), `${part} in ${text}`);
  }
  assert.equal(await t.page.getByLabel("Password").inputValue(), "");
}));

test("the session is in sessionStorage alone: not in an address, not in localStorage, not in a cookie", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("link", { name: "web1", exact: true }).click();
  const [ref] = t.server.sessions.keys();
  const kept = await t.page.evaluate(() => ({ session: { ...sessionStorage }, local: { ...localStorage }, url: location.href, cookie: document.cookie }));
  assert.ok(JSON.stringify(kept.session).includes(ref));
  assert.deepEqual(kept.local, {});
  assert.equal(kept.cookie, "");
  assert.ok(!kept.url.includes(ref));
  assert.ok(!JSON.stringify(kept).includes(PASSWORD));
  for (const request of t.server.requests) {
    assert.ok(!request.url.includes(ref), request.url);
  }
}));

test("a reload keeps the session; a new tab does not have it", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.reload();
  await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
  const other = await t.context.newPage();
  await other.goto(t.server.url);
  await other.getByLabel("Password").waitFor();
}));

test("logging out ends the session on the server and clears the page", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("button", { name: "User root" }).click();
  await t.page.getByRole("menuitem", { name: "Log out" }).click();
  await t.page.getByText("You have logged out.").waitFor();
  await t.page.waitForFunction(() => sessionStorage.length === 0);
  assert.equal(t.server.sessions.size, 0);
}));

/** Logs in over the page whose session has ended. */
async function logInAgain(t, password = PASSWORD) {
  const over = t.page.getByRole("dialog", { name: "Log in again" });
  await over.getByText("Your session has ended. Log in again.").waitFor();
  await over.getByLabel("Password").fill(password);
  await t.page.keyboard.press("Enter");
  return over;
}

test("a session that the server ended is told of with the reason, and the page goes on after a log-in", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("link", { name: "web1", exact: true }).click();
  await t.page.getByRole("tab", { name: "Disks" }).click();
  t.server.endSessions();
  const over = t.page.getByRole("dialog", { name: "Log in again" });
  await over.getByText("SESSION_INVALID").waitFor();
  assert.equal(await t.page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await over.getByLabel("User").inputValue(), "root");
  await logInAgain(t);
  await over.waitFor({ state: "detached" });
  await t.page.getByRole("tab", { name: "Disks", selected: true }).waitFor();
  t.server.model.update(t.server.refs.web1, { name_label: "web1-renamed" });
  await t.page.getByRole("heading", { name: "web1-renamed" }).waitFor();
  await t.page.reload();
  await t.page.getByRole("heading", { name: "web1-renamed" }).waitFor();
}));

test("what was typed into a dialog is still there after a log-in, and can be gone on with", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("button", { name: "New VM" }).click();
  const dialog = t.page.getByRole("dialog", { name: "New VM" });
  await dialog.getByLabel("Name").fill("half-typed");
  await dialog.getByLabel("Memory (MiB)").fill("320");
  t.server.endSessions();
  await t.page.getByRole("dialog", { name: "Log in again" }).waitFor();
  // Escape reaches neither what is below nor beyond it.
  await t.page.keyboard.press("Escape");
  await t.page.keyboard.press("Escape");
  const over = await logInAgain(t, "pear");
  await over.getByText("The user name or the password is wrong.").waitFor();
  await over.getByLabel("Password").fill(PASSWORD);
  await over.getByRole("button", { name: "Log in", exact: true }).click();
  await over.waitFor({ state: "detached" });
  assert.equal(await dialog.getByLabel("Name").inputValue(), "half-typed");
  assert.equal(await t.page.evaluate(() => document.activeElement.closest("dialog")?.querySelector("h2")?.textContent), "New VM");
  await dialog.getByRole("button", { name: "Install" }).click();
  await eventually(() => t.server.model.find("VM", (vm) => vm.name_label === "half-typed" && vm.power_state === "Running").length === 1);
}));

test("what was asked for in a session that had ended is done after the log-in", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("link", { name: "web10", exact: true }).waitFor();
  t.server.sessions.clear();
  await t.page.getByRole("button", { name: "Start web10" }).click();
  await logInAgain(t);
  await eventually(() => t.server.model.get("VM", t.server.refs.web10).power_state === "Running");
  assert.equal(t.server.operations.calls.filter(([method]) => method === "VM.start").length, 1);
}));

test("whoever leaves the page instead gets the log-in page, and the next user none of what was open", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("link", { name: "Storage" }).click();
  await t.page.getByRole("button", { name: "New storage" }).click();
  await t.page.getByRole("dialog", { name: "New storage" }).getByLabel("Name").fill("mine");
  t.server.endSessions();
  await t.page.getByRole("button", { name: "Leave it, log in as another user" }).click();
  await t.page.getByText("SESSION_INVALID").waitFor();
  assert.equal(await t.page.getByRole("dialog").count(), 0);
  await t.page.getByLabel("Password").fill(PASSWORD);
  await t.page.keyboard.press("Enter");
  await t.page.getByRole("heading", { name: "Storage" }).waitFor();
  assert.equal(await t.page.getByRole("dialog").count(), 0);
}));

test("a kept session that is over when the page is loaded leads to the log-in page", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  t.server.sessions.clear();
  await t.page.reload();
  await t.page.getByText("SESSION_INVALID").waitFor();
  assert.equal(await t.page.getByRole("dialog").count(), 0);
  assert.equal(await t.page.getByRole("navigation", { name: "Main" }).count(), 0);
}));
