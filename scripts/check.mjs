// npm run check: everything that can be said about the source without a GPU or a browser. Takes some seconds.
import { execFile } from "node:child_process";
import { availableParallelism } from "node:os";
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

/**
 * Runs the steps side by side, one for each processor: each of them uses one.
 * @returns {Promise<{ passed: number, failed: number }>}
 */
export async function runChecks({ withTests = true } = {}) {
  let passed = 0;
  let failed = 0;
  const waiting = withTests ? [...STEPS, TESTS] : [...STEPS];
  const lane = async () => {
    for (let step = waiting.shift(); step; step = waiting.shift()) {
      const [name, bin, ...args] = step;
      const start = performance.now();
      const said = await outputOfFailure(join(root, "node_modules", bin), args);
      const ok = said === undefined;
      console.log(`${ok ? "ok    " : "FAILED"} ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
      if (!ok) console.log(said);
      if (ok) passed++;
      else failed++;
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, lane));
  return { passed, failed };
}

/**
 * What a program printed before it failed; undefined when it did not fail.
 * @param {string} program @param {string[]} args @returns {Promise<string | undefined>}
 */
function outputOfFailure(program, args) {
  const options = { cwd: root, maxBuffer: 2 ** 26 };
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], options, (error, stdout, stderr) =>
      resolve(error ? `${stdout}${stderr}` || error.message : undefined),
    );
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  ensureInstalled();
  const { passed, failed } = await runChecks();
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}
