// npm run check: everything that can be said about the source without a GPU or a browser. Takes some seconds.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureInstalled, root } from "./install.mjs";

const STEPS = [
  ["types: worker side", "typescript/bin/tsc", "-p", "."],
  ["types: page", "typescript/bin/tsc", "-p", "tsconfig.app.json"],
  ["types: tests and scripts", "typescript/bin/tsc", "-p", "tsconfig.node.json"],
  ["format and lint", "@biomejs/biome/bin/biome", "check", "--error-on-warnings"],
  ["ladder", "dependency-cruiser/bin/dependency-cruise.mjs", "src", "--output-type", "err"],
  ["dead code", "knip/bin/knip.js"],
  ["dead code, tests apart", "knip/bin/knip.js", "--production"],
];
/** Part of the unit tests as well, so `npm test` does not run it twice. */
const TESTS = [
  "structure and shaders",
  "vitest/vitest.mjs",
  "run",
  "--project",
  "unit",
  "src/structure",
  "src/kernels/compile",
];

/** @returns {{ passed: number, failed: number }} */
export function runChecks({ withTests = true } = {}) {
  let passed = 0;
  let failed = 0;
  for (const [name, bin, ...args] of withTests ? [...STEPS, TESTS] : STEPS) {
    const start = performance.now();
    const done = spawnSync(process.execPath, [join(root, "node_modules", bin), ...args], {
      cwd: root,
      encoding: "utf8",
    });
    const ok = done.status === 0;
    console.log(`${ok ? "ok    " : "FAILED"} ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
    if (!ok) console.log(`${done.stdout}${done.stderr}`);
    if (ok) passed++;
    else failed++;
  }
  return { passed, failed };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  ensureInstalled();
  const { passed, failed } = runChecks();
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}
