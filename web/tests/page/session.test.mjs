import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PASSWORD } from "../fake/server.mjs";
import { launch, logIn, withPage } from "../harness.mjs";

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

test("a session that the server ended leads to the log-in page with the reason", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
  t.server.endSessions();
  await t.page.getByText("Your session has ended. Log in again.").waitFor();
  await t.page.getByText("SESSION_INVALID").waitFor();
  assert.equal(await t.page.evaluate(() => sessionStorage.length), 0);
  await logIn(t);
  await t.page.getByRole("link", { name: "web1", exact: true }).waitFor();
}));

test("an action in a session that ended leads to the log-in page too", () => withPage(browser, {}, async (t) => {
  await logIn(t);
  await t.page.getByRole("link", { name: "web10", exact: true }).waitFor();
  t.server.sessions.clear();
  await t.page.getByRole("button", { name: "Start web10" }).click();
  await t.page.getByText("Your session has ended. Log in again.").waitFor();
}));
