import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./bundle.mjs";

const { ApiError, ConnectionError, isSessionError, sentenceOf } = await load("src/api/errors.ts");

test("common codes have a sentence that names the objects", () => {
  const names = (ref) => ({ "OpaqueRef:vm": "web1", "OpaqueRef:sr": "Disks" })[ref] ?? ref;
  for (const [code, params, text] of [
    ["SESSION_AUTHENTICATION_FAILED", ["root", "x"], "The user name or the password is wrong."],
    ["VM_BAD_POWER_STATE", ["OpaqueRef:vm", "halted", "Running"], "web1 is running; this needs it to be halted."],
    ["OTHER_OPERATION_IN_PROGRESS", ["VM", "OpaqueRef:vm", "clean_shutdown", "OpaqueRef:t"], "VM web1 is busy with another operation (clean shutdown). Try again when it is done."],
    ["HANDLE_INVALID", ["VM", "OpaqueRef:x"], "This VM no longer exists."],
    ["HANDLE_INVALID", ["vm", "OpaqueRef:x"], "This VM no longer exists."],
    ["RBAC_PERMISSION_DENIED", ["vm.start", "..."], "Your role does not allow vm.start."],
    ["HOST_NOT_ENOUGH_FREE_MEMORY", ["1073741824", "268435456"], "The host has too little free memory: 1024 MiB needed, 256 MiB free."],
    ["SR_BACKEND_FAILURE_46", ["", "the folder is gone", ""], "The storage failed: the folder is gone"],
    ["SOMETHING_NEW", ["a"], "The server refused this."],
  ]) {
    assert.equal(sentenceOf(new ApiError(code, params), names), text);
  }
});

test("every sentence survives missing parameters", () => {
  for (const code of ["VM_BAD_POWER_STATE", "OTHER_OPERATION_IN_PROGRESS", "NO_HOSTS_AVAILABLE", "HANDLE_INVALID", "INVALID_VALUE", "HOST_IS_SLAVE",
    "OPERATION_BLOCKED", "XENAPI_PLUGIN_FAILURE", "VALUE_NOT_SUPPORTED", "HOST_NOT_ENOUGH_FREE_MEMORY", "SR_BACKEND_FAILURE_1"]) {
    const text = sentenceOf(new ApiError(code, []));
    assert.ok(text.length > 0 && !text.includes("undefined"), `${code}: ${text}`);
  }
});

test("only errors of the session end it", () => {
  assert.ok(isSessionError(new ApiError("SESSION_INVALID", ["x"])));
  assert.ok(isSessionError(new ApiError("HANDLE_INVALID", ["session", "x"])));
  assert.ok(!isSessionError(new ApiError("HANDLE_INVALID", ["VM", "x"])));
  assert.ok(!isSessionError(new ConnectionError("x")));
});
