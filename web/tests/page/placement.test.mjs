// VMs go to a host that one chooses, and become other VMs and templates.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ApiFailure } from "../fake/model.mjs";
import { launch, logIn, PHONE, shot, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const calls = (t, method) => t.server.operations.calls.filter(([name]) => name === method).map(([, ...params]) => params);
const choose = async (t, vm, item) => {
  await t.page.getByRole("button", { name: `Actions for ${vm}`, exact: true }).click();
  await t.page.getByRole("menuitem", { name: item, exact: true }).click();
};
const quick = { server: { stepMs: 5 } };

for (const [vm, item, title, method, rest] of [
  ["web2", "Migrate…", /^Migrate\s+web2/, "VM.pool_migrate", [{ live: "true" }]],
  ["web10", "Start on…", "Start on a host: web10", "VM.start_on", [false, false]],
  ["ci-archive", "Resume on…", "Resume on a host: ci-archive", "VM.resume_on", [false, false]],
]) {
  test(`${item} lists the hosts with their free memory, and runs on the one that is chosen`, () => withPage(browser, quick, async (t) => {
    const { model, refs } = t.server;
    await logIn(t);
    await choose(t, vm, item);
    const dialog = t.page.getByRole("dialog", { name: title });
    await dialog.getByRole("radio", { name: /alder.*71 GiB free/s }).check();
    await dialog.getByRole("button", { name: item.split(/[ …]/)[0], exact: true }).click();
    await t.page.getByText(`${vm} – done`).waitFor();
    const [ref] = model.find("VM", (record) => record.name_label === vm);
    assert.deepEqual(calls(t, method), [[ref, refs.hosts[0], ...rest]]);
    assert.equal(model.get("VM", ref).resident_on, refs.hosts[0]);
  }));
}

for (const [what, why, change] of [
  ["storage that it does not see", "The host does not see storage Fast, which this VM needs.", () => undefined],
  ["too little memory", "The host has too little free memory: 4096 MiB needed, 1024 MiB free.", ({ model, refs }) => {
    model.update(model.get("host", refs.hosts[1]).metrics, { memory_free: 2 ** 30 });
    model.create("PBD", { host: refs.hosts[1], SR: model.find("SR", (sr) => sr.name_label === "Fast")[0] });
  }],
]) {
  test(`a host cannot be chosen, with the reason: ${what}`, () => withPage(browser, { viewport: PHONE }, async (t) => {
    change(t.server);
    await logIn(t);
    await choose(t, "web1", "Migrate…");
    const dialog = t.page.getByRole("dialog", { name: /^Migrate\s+web1/ });
    await dialog.getByText(why).waitFor();
    assert.ok(await dialog.getByRole("radio", { name: /birch/ }).isDisabled());
    await dialog.getByText("The VM is here.").waitFor();
    await dialog.getByText("No other host can take this VM now.").waitFor();
    assert.ok(await dialog.getByRole("button", { name: "Migrate", exact: true }).isDisabled());
    await shot(t.page, `phone-migrate-${what.split(" ")[0]}`);
  }));
}

test("several VMs migrate at once; those that a host cannot take stay, and are named before", () => withPage(browser, quick, async (t) => {
  const { model, refs } = t.server;
  await logIn(t);
  for (const name of ["web1", "web2", "accounts-win"]) {
    await t.page.getByRole("checkbox", { name: `Choose ${name}`, exact: true }).click();
  }
  await t.page.getByRole("button", { name: "More actions for the chosen VMs" }).click();
  await t.page.getByRole("menuitem", { name: "Migrate…" }).click();
  const dialog = t.page.getByRole("dialog", { name: /^Migrate\s+3 VMs/ });
  await dialog.getByRole("radio", { name: /birch/ }).check();
  await dialog.getByText("takes 1 of 3").first().waitFor();
  await dialog.getByText("The host does not see storage Fast, which this VM needs.").waitFor();
  await shot(t.page, "migrate-bulk");
  await dialog.getByRole("button", { name: "Migrate 1 VM" }).click();
  await t.page.getByText("Migrate accounts-win – done").waitFor();
  assert.deepEqual(calls(t, "VM.pool_migrate").map(([vm]) => model.get("VM", vm).name_label), ["accounts-win"]);
  assert.equal(model.get("VM", refs.web1).resident_on, refs.hosts[0]);
}));

test("a migration that fails is told with its error", () => withPage(browser, quick, async (t) => {
  const { operations, refs } = t.server;
  operations.failNext.set("VM.pool_migrate", new ApiFailure("VM_MIGRATE_FAILED", refs.web2, refs.hosts[1], refs.hosts[0], "the guest wrote faster than the network"));
  await logIn(t);
  await choose(t, "web2", "Migrate…");
  await t.page.getByRole("dialog").getByRole("button", { name: "Migrate", exact: true }).click();
  await t.page.getByText("The migration failed: the guest wrote faster than the network").waitFor();
}));

test("clone, copy into a storage, and make a template", () => withPage(browser, quick, async (t) => {
  const { model, refs } = t.server;
  await logIn(t);
  await choose(t, "web10", "Clone…");
  await t.page.getByRole("dialog", { name: "Clone web10" }).getByLabel("Name of the new VM").fill("web11");
  await t.page.keyboard.press("Enter");
  await t.page.getByRole("link", { name: "web11", exact: true }).waitFor();
  assert.deepEqual(calls(t, "VM.clone"), [[refs.web10, "web11"]]);
  await choose(t, "web10", "Copy in full…");
  const dialog = t.page.getByRole("dialog", { name: "Copy web10" });
  await dialog.getByLabel("Name of the new VM").fill("web12");
  await dialog.getByLabel("Storage").selectOption({ label: "Fast – 16 GiB free" });
  await shot(t.page, "copy");
  await dialog.getByRole("button", { name: "Copy", exact: true }).click();
  await t.page.getByRole("link", { name: "web12", exact: true }).waitFor();
  assert.deepEqual(calls(t, "VM.copy"), [[refs.web10, "web12", model.find("SR", (sr) => sr.name_label === "Fast")[0]]]);
  await choose(t, "web11", "Make a template…");
  await t.page.getByRole("dialog", { name: "Make a template of web11?" }).getByRole("button", { name: "Make a template" }).click();
  await t.page.getByRole("link", { name: "web11", exact: true }).waitFor({ state: "detached" });
  await t.page.getByRole("button", { name: "New VM" }).click();
  await t.page.getByRole("dialog").getByLabel("Template", { exact: true }).selectOption({ label: "web11" });
}));
