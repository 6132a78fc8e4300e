// A picture of each view in light, dark and at a phone's width, kept with the build's output.
import { after, before, test } from "node:test";
import { launch, logIn, PHONE, shot, withPage, WIDE } from "../harness.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

for (const [name, options] of [["light", { viewport: WIDE }], ["dark", { viewport: WIDE, dark: true }], ["phone", { viewport: PHONE }]]) {
  test(`pictures: ${name}`, () => withPage(browser, options, async (t) => {
    const { page, server: { url, model, refs } } = t;
    await page.goto(url);
    await page.getByLabel("Password").waitFor();
    await shot(page, `${name}-login`);
    await logIn(t);
    const vm = model.get("VM", refs.web1).uuid;
    for (const [view, at, ready] of [
      ["vms", "vms", () => page.getByRole("link", { name: "web1", exact: true })],
      ["vm", `vm/${vm}`, () => page.getByText("Debian GNU/Linux 12").first()],
      ["vm-graphs", `vm/${vm}/graphs`, () => page.getByRole("slider", { name: "Disks: moment" })],
      ["vm-disks", `vm/${vm}/disks`, () => page.getByText("web1 system")],
      ["vm-network", `vm/${vm}/network`, () => page.getByText("NIC 0")],
      ["vm-snapshots", `vm/${vm}/snapshots`, () => page.getByText("No snapshots")],
      ["vm-console", `vm/${vm}/console`, () => page.locator(".xterm-rows").getByText("login:")],
      ["vm-screen", `vm/${vm}/screen`, () => page.locator(".screen-host canvas").first()],
      ["templates", "templates", () => page.getByText("Corral tiny Linux")],
      ["hosts", "hosts", () => page.getByText("birch").first()],
      ["host", `host/${model.get("host", refs.hosts[1]).uuid}`, () => page.getByText("Runs guests by")],
      ["host-graphs", `host/${model.get("host", refs.hosts[1]).uuid}/graphs`, () => page.getByRole("slider", { name: "Network: moment" })],
      ["storage", "storage", () => page.getByText("Fast").first()],
      ["sr", `storage/${model.get("SR", refs.local).uuid}`, () => page.getByText("Promised to disks")],
      ["networks", "networks", () => page.getByText("Internal").first()],
    ]) {
      await page.goto(`${url}/#/${at}`);
      await ready().waitFor();
      if (view === "vm-console" || view === "vm-screen") {
        await page.getByText("Connected", { exact: true }).waitFor();
      }
      await shot(page, `${name}-${view}`);
    }
    await page.goto(`${url}/#/vms`);
    await page.getByRole("button", { name: /^Tasks/ }).click();
    await page.getByText("VDI.import").waitFor();
    await shot(page, `${name}-tasks`);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "New VM" }).click();
    await page.getByRole("dialog").waitFor();
    await shot(page, `${name}-new-vm`);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Find" }).click();
    await page.getByRole("combobox", { name: "Find" }).fill("web");
    await shot(page, `${name}-find`);
    t.server.endSessions();
    await page.getByRole("dialog", { name: "Log in again" }).waitFor();
    await shot(page, `${name}-log-in-again`);
  }));
}
