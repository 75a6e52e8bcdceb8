// npm run build [OUT]: the app as static files in dist/ (or OUT), for any host and any sub-path.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureInstalled, root } from "./install.mjs";
import { siteHeaders } from "./serve.mjs";

const INPUTS = ["src", "shaders", "public", "index.html", "package-lock.json", "vite.config.ts", "scripts/build.mjs"];

/** @param {string} path @returns {string[]} */
function filesUnder(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name) => filesUnder(join(path, name)));
}

/** True when `out` was built after the last change of anything it is made of. */
export function isBuilt(out = join(root, "dist")) {
  const page = join(out, "index.html");
  if (!existsSync(page)) return false;
  const built = statSync(page).mtimeMs;
  return INPUTS.map((input) => join(root, input))
    .filter((path) => existsSync(path))
    .flatMap(filesUnder)
    .every((file) => statSync(file).mtimeMs <= built);
}

/** Gives the service worker its list of files and a version that changes with any of them. @param {string} out */
function finishServiceWorker(out) {
  const worker = join(out, "sw.js");
  if (!existsSync(worker)) return;
  /** @type {Record<string, string>} */
  const list = {};
  for (const file of filesUnder(out)) {
    const path = relative(out, file).split(sep).join("/");
    if (path === "sw.js" || path === "_headers") continue;
    list[path] = createHash("sha256").update(readFileSync(file)).digest("hex").slice(0, 16);
  }
  const json = JSON.stringify(list);
  const version = createHash("sha256").update(json).digest("hex").slice(0, 16);
  const code = readFileSync(worker, "utf8")
    .replace("const FILES = {};", `const FILES = ${json};`)
    .replace('const VERSION = "unbuilt";', `const VERSION = "${version}";`);
  writeFileSync(worker, code);
}

/** For hosts that read such a file: the same headers that our own server sends. @param {string} out */
function writeHeaders(out) {
  const lines = Object.entries(siteHeaders(out)).map(([name, value]) => `  ${name}: ${value}`);
  writeFileSync(join(out, "_headers"), `/*\n${lines.join("\n")}\n`);
}

/** @param {{ out?: string, quiet?: boolean }} [options] */
export async function buildApp({ out = join(root, "dist"), quiet = false } = {}) {
  const { build } = await import("vite");
  await build({
    root,
    configFile: join(root, "vite.config.ts"),
    logLevel: quiet ? "warn" : "info",
    build: { outDir: resolve(out), emptyOutDir: true },
  });
  finishServiceWorker(out);
  writeHeaders(out);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  ensureInstalled();
  await buildApp(process.argv[2] ? { out: process.argv[2] } : {});
}
