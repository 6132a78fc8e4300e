// Runs all tests of the console with node's test runner: node tests/run.mjs [--page DIR] [--output DIR] [NAME...]
// NAME: part of a test file's name. The page must have been built into DIR (default: dist).
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const { values, positionals } = parseArgs({
  options: { page: { type: "string", default: join(here, "../dist") }, output: { type: "string", default: join(here, "output") } },
  allowPositionals: true,
});
const page = resolve(values.page);
if (!existsSync(join(page, "index.html"))) {
  console.error(`tests: the page is not built in ${page}; run: node build.mjs --out ${page}`);
  process.exit(1);
}
const files = ["unit", "page"].flatMap((folder) => readdirSync(join(here, folder)).map((name) => join(here, folder, name)))
  .filter((file) => file.endsWith(".test.mjs") && (positionals.length === 0 || positionals.some((name) => file.includes(name))));
const run = spawn(process.execPath, ["--test", ...files], {
  stdio: "inherit", env: { ...process.env, CORRAL_WEB_PAGE: page, CORRAL_WEB_OUTPUT: resolve(values.output) },
});
run.on("exit", (code, signal) => process.exit(signal ? 1 : code ?? 1));
