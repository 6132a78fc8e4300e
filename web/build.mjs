// Builds the console and the reference of REST into one folder of static files: hashed scripts and style sheets, and
// the pages that name them. Everything the page loads comes from that folder (the policy that the
// server sends allows nothing else).
//
//   node build.mjs [--out DIR]      default: dist beside this file
import { copyFile, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));

/** Replaces `from` in `text`, and fails unless it occurs exactly `times` times. */
function replaceExactly(text, from, to, times, what) {
  const parts = text.split(from);
  if (parts.length - 1 !== times) {
    throw new Error(`${what}: expected ${times} of ${JSON.stringify(from)}, found ${parts.length - 1}; ` +
      `adapt build.mjs to this version of the package`);
  }
  return parts.join(to);
}

/**
 * xterm.js writes its theme into <style> elements and colours into style attributes, both of which
 * the page's policy (style-src 'self') refuses. The same text through CSSOM is allowed: <style>
 * becomes the <corral-style> element of src/console/adopted-style.ts, the attribute becomes cssText.
 */
const xtermUnderPolicy = {
  name: "xterm-under-policy",
  setup(build) {
    build.onLoad({ filter: /@xterm[\\/]xterm[\\/]lib[\\/]xterm\.mjs$/ }, async ({ path }) => {
      let text = await readFile(path, "utf8");
      text = replaceExactly(text, 'createElement("style")', 'createElement("corral-style")', 3, path);
      text = replaceExactly(text, '_addStyle(t,e){t.setAttribute("style",`${t.getAttribute("style")||""}${e};`)}',
        "_addStyle(t,e){t.style.cssText+=`;${e};`}", 1, path);
      return { contents: text, loader: "js" };
    });
  },
};

/** Writes a page with the hashed names of its entry script and style sheet. */
async function writePage(to, template, metafile, script, style) {
  const named = {};
  for (const [file, info] of Object.entries(metafile.outputs)) {
    if (info.entryPoint) {
      named[basename(info.entryPoint)] = basename(file);
    }
  }
  let html = await readFile(join(here, "public", template), "utf8");
  for (const [mark, name] of [["{{script}}", script], ["{{theme}}", "theme-early.ts"], ["{{style}}", style]]) {
    html = replaceExactly(html, mark, `/${named[name]}`, 1, template);
  }
  await mkdir(dirname(to), { recursive: true });
  await writeFile(to, html);
}

/** Licences of what the bundle contains, beside it. */
async function writeLicences(out) {
  const parts = [];
  for (const [name, file] of [
    ["preact", "LICENSE"], ["@novnc/novnc", "LICENSE.txt"], ["@xterm/xterm", "LICENSE"], ["@xterm/addon-fit", "LICENSE"],
  ]) {
    const text = await readFile(join(here, "node_modules", name, file), "utf8");
    parts.push(`===== ${name} =====\n\n${text.trim()}\n`);
  }
  await writeFile(join(out, "licences.txt"), parts.join("\n"));
}

const { values } = parseArgs({ options: { out: { type: "string", default: join(here, "dist") } } });
const out = resolve(values.out);
// A build that fails leaves the former output; only a complete one replaces it.
const staging = `${out}.new`;
await rm(staging, { recursive: true, force: true });
await mkdir(staging, { recursive: true });
const common = {
  absWorkingDir: here,
  bundle: true,
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  legalComments: "none",
  outdir: staging,
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  metafile: true,
  logLevel: "warning",
  plugins: [xtermUnderPolicy],
};
const page = await esbuild.build({
  ...common,
  entryPoints: ["src/main.tsx", "src/styles/main.css", "src/reference/reference.tsx", "src/reference/reference.css"],
  splitting: true,
  format: "esm",
});
// This one is no module: modules run after the first paint, and the theme must be there before it.
const early = await esbuild.build({ ...common, entryPoints: ["src/theme-early.ts"], format: "iife" });
const metafile = { outputs: { ...page.metafile.outputs, ...early.metafile.outputs } };
await writePage(join(staging, "index.html"), "index.html", metafile, "main.tsx", "main.css");
await writePage(join(staging, "reference/index.html"), "reference.html", metafile, "reference.tsx", "reference.css");
await copyFile(join(here, "public/icon.svg"), join(staging, "icon.svg"));
await writeLicences(staging);
await rm(out, { recursive: true, force: true });
await rename(staging, out);
const bytes = Object.values(metafile.outputs).reduce((sum, o) => sum + o.bytes, 0);
console.log(`web: ${Object.keys(metafile.outputs).length} files, ${Math.round(bytes / 1024)} KiB in ${out}`);
