// npm run kernels -- test|perf [name] [--without feature,…] [--default-limits] [--chrome-args "..."]: the self-test page's cases as a table; exit 1
// when one fails. --without and --default-limits run them on a device that has less than this one.
import { parseArgs } from "node:util";
import { deviceOptions, openApp } from "./browser.ts";
import { runSelfTest } from "./self_test.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    "chrome-args": { type: "string" },
    json: { type: "boolean" },
    without: { type: "string" },
    "default-limits": { type: "boolean" },
  },
});
const [mode, filter] = positionals;
if (mode !== "test" && mode !== "perf") {
  console.error(
    mode === "grad"
      ? "grad is not built yet"
      : 'usage: npm run kernels -- test|perf [name] [--json] [--without feature,…] [--default-limits] [--chrome-args "..."]',
  );
  process.exit(2);
}
const app = await openApp({
  engineOnly: true,
  chromeArgs: values["chrome-args"],
  ...deviceOptions(values),
});
try {
  const { rows, summary, capabilities } = await runSelfTest(app.page, {
    timing: mode === "perf",
    ...(filter ? { filter } : {}),
  });
  if (values.json) console.log(JSON.stringify({ capabilities, rows, summary }));
  else {
    const gpu = capabilities.ok
      ? `${capabilities.vendor} ${capabilities.architecture} ${capabilities.description}`
      : capabilities.found;
    console.log(gpu.trim());
    const table = rows.map((row) => [
      row.pass ? "ok" : "FAILED",
      row.kernel,
      row.shape,
      row.error.toExponential(1),
      row.tolerance.toExponential(0),
      row.milliseconds === undefined ? "" : `${row.milliseconds.toFixed(3)} ms`,
      row.share === undefined ? "" : `${(100 * row.share).toFixed(0)} % of ${row.bound}`,
      row.message ?? "",
    ]);
    const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((line) => line[column]!.length)));
    for (const line of table)
      console.log(
        line
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join("  ")
          .trimEnd(),
      );
    if (summary.copyBandwidth) console.log(`copy ${(summary.copyBandwidth / 1e9).toFixed(0)} GB/s`);
    if (summary.arithmetic) console.log(`multiply-add ${(summary.arithmetic / 1e9).toFixed(0)} GFLOP/s`);
    console.log(`${summary.passed} passed, ${summary.failed} failed in ${(summary.milliseconds / 1000).toFixed(1)} s`);
  }
  process.exitCode = summary.failed > 0 || rows.length === 0 ? 1 : 0;
} finally {
  await app.close();
}
