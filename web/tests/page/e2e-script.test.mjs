// The script for real pools, tried against the test double: what it drives is there, and it fails aloud.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ApiFailure } from "../fake/model.mjs";
import { FakeServer, PASSWORD } from "../fake/server.mjs";
import { PAGE } from "../harness.mjs";

const script = join(dirname(fileURLToPath(import.meta.url)), "../e2e/page.mjs");

async function against(change, check, { password = PASSWORD } = {}) {
  const dir = mkdtempSync(join(tmpdir(), "corral-page-"));
  const server = await new FakeServer({ page: PAGE, stepMs: 10 }).listen();
  try {
    change(server);
    writeFileSync(join(dir, "password"), `${password}\n`);
    const result = await new Promise((resolve) => {
      execFile(process.execPath, [script, "--url", server.url, "--password-file", join(dir, "password"), "--output", join(dir, "pictures"), "--timeout", "20"],
        (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr }));
    });
    check(result, server, readdirSync(join(dir, "pictures")));
  } finally {
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

const leftOver = (server) => server.model.find("VM", (vm) => vm.name_label.startsWith("page-test"));

/** A pool as it is at first: templates, no VM. */
function withoutVms(server) {
  for (const ref of server.model.find("VM", (vm) => !vm.is_a_template)) {
    server.model.remove(ref);
  }
}

test("the script goes through the life of a VM, and keeps pictures", () => against(withoutVms, (result, server, pictures) => {
  assert.equal(result.code, 0, result.stderr);
  assert.match(result.stdout, /done, 14 pictures/);
  assert.equal(pictures.length, 14);
  assert.deepEqual(leftOver(server), []);
}));

test("the script fails with what the page says, and leaves no VM", () =>
  against((server) => server.operations.failNext.set("VM.start", new ApiFailure("NO_HOSTS_AVAILABLE")), (result, server, pictures) => {
    assert.equal(result.code, 1);
    assert.match(result.stderr, /FAILED at “starting it”: the page says: .*NO_HOSTS_AVAILABLE/);
    assert.ok(pictures.some((name) => name.includes("failed")));
    assert.deepEqual(leftOver(server), []);
  }));

test("the script says that the password was refused", () => against(() => undefined, (result) => {
  assert.equal(result.code, 1);
  assert.match(result.stderr, /SESSION_AUTHENTICATION_FAILED/);
}, { password: "wrong" }));
