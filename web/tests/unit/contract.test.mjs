// The records, calls and error codes that the page names are those of the API's description (openapi/).
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const web = join(dirname(fileURLToPath(import.meta.url)), "../..");
const description = JSON.parse(execFileSync("python3", ["-c", `
import json, pathlib, sys, tomllib
root = pathlib.Path(sys.argv[1])
read = lambda path: tomllib.loads(path.read_text())
print(json.dumps({
    "classes": {c["name"]: c for c in map(read, sorted((root / "classes").glob("*.toml")))},
    "errors": read(root / "errors.toml"),
}, default=str))
`, join(web, "../openapi")], { encoding: "utf8", maxBuffer: 64 * 2 ** 20 }));
const types = readFileSync(join(web, "src/api/types.ts"), "utf8");

const CLASS_OF = {
  VM: "VM", VMMetrics: "VM_metrics", VMGuestMetrics: "VM_guest_metrics", Host: "host", HostMetrics: "host_metrics", SR: "SR", SM: "SM", VDI: "VDI",
  VBD: "VBD", VIF: "VIF", PIF: "PIF", PBD: "PBD", Network: "network", Task: "task", Console: "console", Pool: "pool", Message: "message",
};

/** The type of the API that a type of the page stands for. */
function fits(mine, theirs) {
  const ref = /^Ref<"(\w+)">(\[\])?$/.exec(mine);
  if (ref) return theirs === `${ref[1]} ref${ref[2] ? " set" : ""}`;
  if (mine === "string") return /^(string|datetime|enum \w+)$/.test(theirs);
  if (mine === "string[]") return /^(string|enum \w+) set$/.test(theirs);
  if (mine === "StringMap") return /^\(string -> (string|enum \w+)\) map$/.test(theirs) || /-> enum \w+\) map$/.test(theirs);
  if (mine === "number") return theirs === "int" || theirs === "float";
  if (mine === "boolean") return theirs === "bool";
  return theirs.startsWith("enum ");
}

test("each field that the page reads is described, with its type", () => {
  for (const [name, cls] of Object.entries(CLASS_OF)) {
    const [, named, body] = new RegExp(`interface ${name} (extends Named )?\\{([^}]*)\\}`).exec(types);
    const fields = [...body.matchAll(/^ {2}(\w+): ([^;]+);$/gm)].map(([, field, type]) => [field, type]);
    if (named) fields.push(["uuid", "string"], ["name_label", "string"], ["name_description", "string"]);
    assert.ok(fields.length > 2, name);
    for (const [field, type] of fields) {
      const told = description.classes[cls].fields[field];
      assert.ok(told, `${cls}.${field} is not described`);
      assert.ok(fits(type, told.type), `${cls}.${field} is ${told.type}, not ${type}`);
    }
  }
});

test("each call that the page makes is described", () => {
  const [, body] = /interface Methods \{([^]*?)\n\}/.exec(types);
  const methods = [...body.matchAll(/^ {2}"(\w+)\.(\w+)": \(([^)]*)\)/gm)];
  assert.ok(methods.length > 30);
  for (const [, cls, method, params] of methods) {
    const described = description.classes[cls];
    const generic = /^(get|set|add_to|remove_from)_(\w+)$/.exec(method);
    const known = described.messages?.[method] ?? (generic && described.fields[generic[2]]) ??
      (["get_record", "destroy", "create"].includes(method) ? {} : undefined);
    assert.ok(known, `${cls}.${method} is not described`);
    if (known.params) {
      const mine = params.split(/,(?![^<]*>)/).filter((p) => p.trim() !== "").length;
      const needed = known.params.filter((p) => !JSON.stringify(p).includes("=")).length;
      assert.ok(mine >= needed && mine <= known.params.length, `${cls}.${method} takes ${known.params.length}, not ${mine}`);
    }
  }
});

test("each error that has a sentence is one of the API's", () => {
  const [, body] = /const sentences: [^{]*\{([^]*?)\n\};/.exec(readFileSync(join(web, "src/api/errors.ts"), "utf8"));
  const codes = [...body.matchAll(/^ {2}([A-Z][A-Z0-9_]+):/gm)].map(([, code]) => code);
  assert.ok(codes.length > 30);
  const known = new Set(JSON.stringify(description.errors).match(/[A-Z][A-Z0-9_]+/g));
  // The server's own, beside the published ones.
  for (const own of ["INTERNAL_ERROR"]) known.add(own);
  assert.deepEqual(codes.filter((code) => !known.has(code)), []);
});
