// npm run bench -- [--preset qwen3-vl-4b] [--only part,…] [--json FILE] [--compare FILE] [--cap SECONDS] [--without feature,…] [--chrome-args "..."]:
// speed of a preset with random weights in headless Chromium, beside the ceilings of the same run. Prints a table.
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { BenchApi, BenchOptions, BenchRow } from "../src/api/bench_protocol.ts";
import { type BenchReport, compare, describe } from "./bench_report.ts";
import { capabilities, openApp } from "./browser.ts";

/** Put in by scripts/cli.mjs. */
declare const __TABTUNE_COMMIT__: string;

const PRESETS = ["qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b", "tiny"];

const { values } = parseArgs({
  options: {
    preset: { type: "string", default: "qwen3-vl-4b" },
    only: { type: "string" },
    json: { type: "string" },
    compare: { type: "string" },
    /** Seconds: a single measurement that would take longer is left out. */
    cap: { type: "string", default: "15" },
    without: { type: "string" },
    "chrome-args": { type: "string" },
  },
});
if (!PRESETS.includes(values.preset) || !(Number(values.cap) > 0)) {
  console.error(
    `usage: npm run bench -- [--preset ${PRESETS.join("|")}] [--only decode,prefill,…] [--json FILE] [--compare FILE] [--cap SECONDS] [--without feature,…] [--chrome-args "..."]`,
  );
  process.exit(2);
}
const started = performance.now();
const say = (line: string) => console.error(`[${((performance.now() - started) / 1000).toFixed(1)} s] ${line}`);
const app = await openApp({
  engineOnly: true,
  chromeArgs: values["chrome-args"],
  ...(values.without ? { without: values.without.split(",") } : {}),
});
try {
  const gpu = await capabilities(app.page);
  if (!gpu.ok) throw new Error(`no GPU: ${gpu.found}`);
  const name = `${gpu.vendor} ${gpu.architecture} ${gpu.description}`.trim();
  say(name);
  const rows: BenchRow[] = [];
  await app.page.exposeFunction("benchRow", (row: BenchRow) => {
    rows.push(row);
    say(`${row.part}, ${row.name}: ${row.value.toPrecision(4)} ${row.unit} ${row.note ?? ""}`);
  });
  const options: BenchOptions = {
    preset: values.preset as BenchOptions["preset"],
    capMilliseconds: 1000 * Number(values.cap),
    ...(values.only ? { only: values.only.split(",") } : {}),
  };
  await app.page.evaluate(async (options) => {
    const { benchRow } = globalThis as unknown as { benchRow: (row: BenchRow) => Promise<void> };
    const shown: Promise<void>[] = [];
    const onRow = tabtune.callback((row: BenchRow) => shown.push(benchRow(row)));
    await (tabtune.engine as unknown as BenchApi).debugBench(options, onRow);
    // Rows travel by a channel of their own and may come after the end.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await Promise.all(shown);
  }, options);
  const report: BenchReport = {
    version: 1,
    date: new Date().toISOString(),
    commit: __TABTUNE_COMMIT__,
    gpu: name,
    browser: `Chromium ${app.context.browser()?.version() ?? (await app.page.evaluate(() => navigator.userAgent))}`,
    flags: values["chrome-args"] ?? process.env.CHROME_GPU_ARGS ?? "SwiftShader",
    preset: values.preset,
    seconds: (performance.now() - started) / 1000,
    rows,
  };
  console.log(describe(report));
  if (values.json) writeFileSync(values.json, `${JSON.stringify(report, undefined, 1)}\n`);
  if (values.compare) {
    console.log(`\n${compare(JSON.parse(readFileSync(values.compare, "utf8")) as BenchReport, report)}`);
  }
} finally {
  await app.close();
}
