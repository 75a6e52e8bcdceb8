// npm test: installs what is missing, then runs the checks, the unit tests, and kernels and journeys in real Chromium.
// The last line sums all runners. Names after `--` go to Vitest and skip the checks: npm test -- e2e/parity
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ensureInstalled, root } from "./install.mjs";

ensureInstalled();
const { ensureBrowser } = await import("./find_browser.mjs");
const { runChecks } = await import("./check.mjs");
const browser = await ensureBrowser();
const filter = process.argv.slice(2);

const sum = { passed: 0, failed: 0, skipped: 0 };
if (filter.length === 0) {
  const checks = await runChecks({ withTests: false });
  sum.passed += checks.passed;
  sum.failed += checks.failed;
}

const report = join(root, ".cache", `vitest-${process.pid}.json`);
mkdirSync(join(root, ".cache"), { recursive: true });
const vitest = spawnSync(
  process.execPath,
  [
    join(root, "node_modules/vitest/vitest.mjs"),
    "run",
    "--reporter=default",
    "--reporter=json",
    `--outputFile=${report}`,
    ...filter,
  ],
  { cwd: root, stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, CHROME_PATH: browser } },
);
const results = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : undefined;
rmSync(report, { force: true });
let seen = 0;
let failed = 0;
for (const file of results?.testResults ?? []) {
  let failedHere = 0;
  for (const test of file.assertionResults) {
    seen++;
    if (test.status === "passed") sum.passed++;
    else if (test.status === "failed") failedHere++;
    else sum.skipped++;
  }
  // A file that breaks before its first test has no failed test of its own.
  if (file.status === "failed" && failedHere === 0) failedHere = 1;
  failed += failedHere;
}
// Errors outside of any test, or a runner that did not get as far as its report.
if (failed === 0 && (vitest.status !== 0 || seen === 0)) failed = 1;
sum.failed += failed;

console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exitCode = sum.failed > 0 || sum.passed === 0 ? 1 : 0;
