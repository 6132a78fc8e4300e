import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ApiFailure } from "../fake/model.mjs";
import { launch, logIn, shot, withPage } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const calls = (t, method) => t.server.operations.calls.filter(([name]) => name === method).map(([, ...params]) => params);

async function order(t, { name, vcpus, memory, start = true }) {
  await logIn(t);
  await t.page.getByRole("button", { name: "New VM" }).click();
  const dialog = t.page.getByRole("dialog", { name: "New VM" });
  assert.equal(await dialog.getByLabel("Template").evaluate((s) => s.selectedOptions[0].textContent), "Corral tiny Linux");
  await dialog.getByText("New: disk 0, 2 GiB.").waitFor();
  await dialog.getByLabel("Name").fill(name);
  await dialog.getByLabel("Description").fill("made by a test");
  await dialog.getByLabel("vCPUs").fill(String(vcpus));
  await dialog.getByLabel("Memory (MiB)").fill(String(memory));
  await dialog.getByLabel("Start it when it is installed").setChecked(start);
  await dialog.getByRole("button", { name: "Install" }).click();
}

test("a VM is installed from the template: cloned, sized, disks in the pool's default storage, provisioned, started", () =>
  withPage(browser, { server: { stepMs: 5 } }, async (t) => {
    await order(t, { name: "fresh", vcpus: 2, memory: 256 });
    await t.page.getByText("Install fresh – done").waitFor();
    const { model, refs } = t.server;
    const [ref] = model.find("VM", (vm) => vm.name_label === "fresh");
    const vm = model.get("VM", ref);
    assert.deepEqual(calls(t, "VM.clone"), [[refs.template, "fresh"]]);
    assert.deepEqual([vm.is_a_template, vm.power_state, vm.name_description], [false, "Running", "made by a test"]);
    assert.deepEqual([vm.VCPUs_max, vm.VCPUs_at_startup, vm.memory_static_max, vm.memory_dynamic_min], [2, 2, 256 << 20, 256 << 20]);
    const [disk] = vm.VBDs.map((vbd) => model.get("VDI", model.get("VBD", vbd).VDI));
    assert.deepEqual([disk.SR, disk.virtual_size], [refs.local, 2 * 2 ** 30]);
    await t.page.getByRole("row").filter({ hasText: "fresh" }).getByText("Running").waitFor();
  }));

test("a VM that cannot be finished is removed again, and the reason is told", () =>
  withPage(browser, { server: { stepMs: 5 } }, async (t) => {
    t.server.operations.failNext.set("VM.provision", new ApiFailure("SR_FULL", "2147483648", "1024"));
    await order(t, { name: "too-big", vcpus: 1, memory: 128 });
    const notice = t.page.getByRole("alert").filter({ hasText: "Install too-big" });
    await notice.waitFor();
    const text = await notice.innerText();
    for (const part of ["The storage is full.", "SR_FULL", "2147483648", "Nothing is left of the new VM."]) {
      assert.ok(text.includes(part), `${part} in ${text}`);
    }
    assert.deepEqual(t.server.model.find("VM", (vm) => vm.name_label === "too-big"), []);
  }));

test("a VM that is installed but cannot be started stays, and that is told", () =>
  withPage(browser, { server: { stepMs: 5 } }, async (t) => {
    t.server.operations.failNext.set("VM.start", new ApiFailure("NO_HOSTS_AVAILABLE"));
    await order(t, { name: "stays", vcpus: 1, memory: 128 });
    const notice = t.page.getByRole("alert").filter({ hasText: "Install stays" });
    await notice.getByText("The VM is installed, but it was not started.").waitFor();
    await t.page.getByRole("row").filter({ hasText: "stays" }).getByText("Halted").waitFor();
  }));

test("a system that installs itself gets a disk and the disc to start from", () =>
  withPage(browser, { server: { stepMs: 5 } }, async (t) => {
    const { model, refs } = t.server;
    const [media] = model.find("VM", (vm) => vm.name_label === "Other install media");
    for (const vbd of model.get("VM", media).VBDs) model.remove(vbd);
    await logIn(t);
    await t.page.getByRole("button", { name: "New VM" }).click();
    const dialog = t.page.getByRole("dialog", { name: "New VM" });
    await dialog.getByLabel("Template", { exact: true }).selectOption({ label: "Other install media" });
    await dialog.getByLabel("Name", { exact: true }).fill("installs-itself");
    await dialog.getByLabel("Disk (GiB)").fill("4");
    await dialog.getByLabel("Disc to start from").selectOption({ label: "debian-12.7.0-amd64-netinst.iso" });
    await shot(t.page, "new-vm-from-disc");
    await dialog.getByRole("button", { name: "Install" }).click();
    await t.page.getByText("Install installs-itself – done").waitFor();
    const [ref] = model.find("VM", (vm) => vm.name_label === "installs-itself");
    const drives = model.get("VM", ref).VBDs.map((vbd) => model.get("VBD", vbd));
    const disk = model.get("VDI", drives.find((d) => d.type === "Disk").VDI);
    assert.deepEqual([disk.SR, disk.virtual_size], [refs.local, 4 * 2 ** 30]);
    const cd = drives.find((d) => d.type === "CD");
    assert.equal(model.get("VDI", cd.VDI).name_label, "debian-12.7.0-amd64-netinst.iso");
    assert.deepEqual([cd.mode, cd.empty], ["RO", false]);
  }));
