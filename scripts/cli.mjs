// Runs one of e2e's command-line tools: builds the app and the tool when something changed, then starts it with the rest of
// the arguments. usage: node scripts/cli.mjs parity|kernels|bench|full_size|learn|demo_accuracy|screenshot|fuzz|export_adapters|
// write_checkpoint [...]
import { spawnSync } from "node:child_process";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureInstalled, root } from "./install.mjs";

export const TOOLS = [
  "parity",
  "kernels",
  "bench",
  "full_size",
  "learn",
  "demo_accuracy",
  "screenshot",
  "fuzz",
  "export_adapters",
  "write_checkpoint",
];

/**
 * Writes OUT/<tool>.mjs and OUT/dist/: all that a tool needs, playwright-core apart.
 * @param {string[]} tools @param {string} out
 */
export async function bundleTools(tools, out) {
  const { buildApp, isBuilt } = await import("./build.mjs");
  const { build } = await import("vite");
  const dist = join(out, "dist");
  if (!isBuilt(dist)) await buildApp({ out: dist, quiet: true });
  const commit = spawnSync("git", ["describe", "--always", "--dirty"], { cwd: root, encoding: "utf8" });
  // Measurements name the commit that they were made with, also where there is no repository.
  const define = { __TABTUNE_COMMIT__: JSON.stringify(commit.stdout?.trim() || "unknown") };
  for (const tool of tools)
    await build({
      root,
      configFile: false,
      publicDir: false,
      define,
      logLevel: "warn",
      // A machine without node_modules runs them too.
      ssr: { noExternal: true },
      build: {
        ssr: `e2e/${tool}.ts`,
        outDir: out,
        emptyOutDir: false,
        target: "node20",
        rolldownOptions: { external: ["playwright-core", "webgpu"], output: { entryFileNames: `${tool}.mjs` } },
      },
    });
}

/** Copies playwright-core beside the tools, for machines where nothing can be installed. @param {string} out */
export function copyPlaywright(out) {
  const from = join(root, "node_modules/playwright-core");
  // The trace viewer, the recorder and the types are half of its size and not needed to drive a browser.
  cpSync(from, join(out, "node_modules/playwright-core"), {
    recursive: true,
    filter: (path) => !/[\\/](vite|types)$/.test(path),
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [tool, ...args] = process.argv.slice(2);
  if (!TOOLS.includes(tool)) {
    console.error(`usage: node scripts/cli.mjs ${TOOLS.join("|")} [...]`);
    process.exit(2);
  }
  ensureInstalled();
  const out = join(root, ".cache/tools");
  await bundleTools([tool], out);
  process.exitCode =
    spawnSync(process.execPath, [join(out, `${tool}.mjs`), ...args], { cwd: root, stdio: "inherit" }).status ?? 1;
}
