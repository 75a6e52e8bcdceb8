// npm run bench -- [--preset qwen3-vl-4b] [--only part,…] [--json FILE] [--compare FILE] [--cap SECONDS] [--without feature,…] [--chrome-args "..."]
// [--peers] [--torch FILE] [--dawn [--dawn-features a,b]]: speed of a preset with random weights in headless Chromium, or in Node by Dawn, beside the
// ceilings of the same run and, if asked for, beside other runtimes. Prints a table.
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { BenchOptions, BenchRow } from "../src/api/bench_protocol.ts";
import { PRESETS } from "../src/api/worker_bench_model.ts";
import { benchInBrowser, gpuName } from "./bench_browser.ts";
import { openDawn } from "./bench_dawn.ts";
import { type BenchReport, besidePeer, compare, describe, type PeerRow } from "./bench_report.ts";
import { openApp } from "./browser.ts";
import { measurePeers } from "./peers.ts";
import { readTorchRun, runTorch, torchRows } from "./torch_peer.ts";

/** Put in by scripts/cli.mjs. */
declare const __TABTUNE_COMMIT__: string;

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
    /** onnxruntime-web and transformers.js in the same browser, and PyTorch where it is installed. */
    peers: { type: "boolean" },
    /** What scripts/measure_transformers.py has written, instead of running it. */
    torch: { type: "string" },
    dawn: { type: "boolean" },
    "dawn-features": { type: "string" },
  },
});
if (!(values.preset in PRESETS) || !(Number(values.cap) > 0) || (values.dawn && values.peers)) {
  console.error(
    `usage: npm run bench -- [--preset ${Object.keys(PRESETS).join("|")}] [--only decode,prefill,…] [--json FILE] [--compare FILE] [--cap SECONDS] [--without feature,…] [--torch FILE]
         in Chromium: [--chrome-args "..."] [--peers]
         in Node: --dawn [--dawn-features allow_unsafe_apis,…]`,
  );
  process.exit(2);
}
const started = performance.now();
const say = (line: string) => console.error(`[${((performance.now() - started) / 1000).toFixed(1)} s] ${line}`);
const rows: BenchRow[] = [];
const onRow = (row: BenchRow) => {
  rows.push(row);
  say(`${row.part}, ${row.name}: ${row.value.toPrecision(4)} ${row.unit} ${row.note ?? ""}`);
};
const onPeer = (peer: PeerRow) => besidePeer(rows, peer).forEach(onRow);
const preset = values.preset as BenchOptions["preset"];
const options: BenchOptions = {
  preset,
  capMilliseconds: 1000 * Number(values.cap),
  ...(values.only ? { only: values.only.split(",") } : {}),
};
const device = values.without ? { without: values.without.split(",") } : {};

type Where = Pick<BenchReport, "gpu" | "browser" | "flags">;

async function inBrowser(): Promise<Where> {
  const app = await openApp({ engineOnly: true, chromeArgs: values["chrome-args"], ...device });
  try {
    const gpu = await gpuName(app);
    say(gpu);
    await benchInBrowser(app, options, onRow);
    const { capMilliseconds } = options;
    if (values.peers) await measurePeers(app.context, { config: PRESETS[preset], capMilliseconds, onRow: onPeer });
    return {
      gpu,
      browser: `Chromium ${app.context.browser()?.version() ?? (await app.page.evaluate(() => navigator.userAgent))}`,
      flags: values["chrome-args"] ?? process.env.CHROME_GPU_ARGS ?? "SwiftShader",
    };
  } finally {
    await app.close();
  }
}

async function inDawn(): Promise<Where> {
  const flags = values["dawn-features"] ?? "";
  const dawn = await openDawn(flags ? flags.split(",") : [], device);
  say(dawn.name);
  try {
    await dawn.run(options, onRow);
  } finally {
    dawn.gpu.close();
  }
  return { gpu: dawn.name, browser: dawn.runtime, flags };
}

const where = await (values.dawn ? inDawn() : inBrowser());
const torch = values.torch ? readTorchRun(values.torch) : values.peers ? runTorch(preset) : undefined;
if (torch) torchRows(torch).forEach(onPeer);
else if (values.peers) say("PyTorch was left out: python3 here has no torch with CUDA, transformers and peft");
const report: BenchReport = {
  version: 1,
  date: new Date().toISOString(),
  commit: __TABTUNE_COMMIT__,
  ...where,
  ...(values.without ? { without: values.without } : {}),
  preset,
  seconds: (performance.now() - started) / 1000,
  rows,
};
console.log(describe(report));
if (values.json) writeFileSync(values.json, `${JSON.stringify(report, undefined, 1)}\n`);
if (values.compare) {
  console.log(`\n${compare(JSON.parse(readFileSync(values.compare, "utf8")) as BenchReport, report)}`);
}
