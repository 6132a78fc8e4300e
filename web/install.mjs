// Installs the packages that package-lock.json names, when they are not there yet: of this folder, or of the
// one given. A build of another folder may do the same at this moment: one installs, the others wait for it.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as delay } from "node:timers/promises";

const here = process.argv[2] ? resolve(process.argv[2]) : dirname(fileURLToPath(import.meta.url));
const marker = join(here, "node_modules/.corral-lock");
const guard = join(here, ".install-guard");
const wanted = createHash("sha256").update(readFileSync(join(here, "package-lock.json"))).digest("hex");
const guardLimitMs = 10 * 60_000;

function installed() {
  try {
    return readFileSync(marker, "utf8") === wanted;
  } catch {
    return false;
  }
}

/** Takes the guard; a guard older than the limit belongs to a build that died. */
function takeGuard() {
  try {
    mkdirSync(guard);
    return true;
  } catch (e) {
    if (e.code !== "EEXIST") throw e;
    try {
      if (Date.now() - statSync(guard).mtimeMs > guardLimitMs) rmSync(guard, { recursive: true, force: true });
    } catch {
      // gone meanwhile: the next round takes it
    }
    return false;
  }
}

while (!installed()) {
  if (!takeGuard()) {
    await delay(200);
    continue;
  }
  try {
    if (installed()) break;
    console.log(`${here}: installing packages (npm ci)`);
    const run = spawnSync(process.env.NPM ?? "npm", ["ci", "--no-fund", "--no-audit", "--loglevel=error"],
      { cwd: here, stdio: "inherit" });
    if (run.error) throw run.error;
    if (run.status !== 0) {
      console.error(`${here}: npm ci failed (exit code ${run.status})`);
      process.exitCode = 1;
      break;
    }
    writeFileSync(marker, wanted);
  } finally {
    rmSync(guard, { recursive: true, force: true });
  }
}
