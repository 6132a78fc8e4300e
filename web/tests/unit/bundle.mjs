// Loads a source file of the page into node, for tests of what needs no browser.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

export async function load(path) {
  const { outputFiles } = await esbuild.build({
    absWorkingDir: root, entryPoints: [path], bundle: true, write: false, format: "esm", target: ["es2022"],
    jsx: "automatic", jsxImportSource: "preact", platform: "neutral", mainFields: ["module", "main"],
  });
  return await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`);
}
