// npm run bench -- [--preset qwen3-vl-4b] [--only part,…] [--json FILE] [--compare FILE] [--cap SECONDS] [--without feature,…] [--chrome-args "..."]
// [--tokenizer DIR] [--peers] [--torch FILE] [--dawn [--dawn-features a,b]]: speed of a preset with random weights in headless Chromium, or in Node by
// Dawn, beside the ceilings of the same run and, if asked for, beside other runtimes; in Chromium also the way from opening the page to the first token.
// Prints a table.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { BenchOptions, BenchRow } from "../src/api/bench_protocol.ts";
import { PRESETS } from "../src/api/worker_bench_model.ts";
import { benchInBrowser, gpuName } from "./bench_browser.ts";
import { openDawn } from "./bench_dawn.ts";
import { measureLoad } from "./bench_load.ts";
import { type BenchReport, besidePeer, compare, describe, type PeerRow } from "./bench_report.ts";
import { deviceOptions, openApp } from "./browser.ts";
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
    /** Qwen's tokenizer.json and chat_template.jinja, for the part "load". */
    tokenizer: { type: "string" },
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
         in Chromium: [--chrome-args "..."] [--peers] [--tokenizer DIR]
         in Node: --dawn [--dawn-features allow_unsafe_apis,…]`,
  );
  process.exit(2);
}
const { tokenizer } = values;
const missing =
  tokenizer && ["tokenizer.json", "chat_template.jinja"].find((name) => !existsSync(join(tokenizer, name)));
if (missing) {
  console.error(
    `--tokenizer ${tokenizer}: expected a folder with tokenizer.json and chat_template.jinja, found no ${missing} there`,
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
const only = values.only?.split(",");
/** "load" is a part of its own: it needs a page that stores a checkpoint. */
const inWorker = only?.filter((part) => part !== "load");
const options: BenchOptions = {
  preset,
  capMilliseconds: 1000 * Number(values.cap),
  ...(inWorker ? { only: inWorker } : {}),
};
const device = deviceOptions(values);

type Where = Pick<BenchReport, "gpu" | "browser" | "flags">;

async function inBrowser(): Promise<Where> {
  const chromeArgs = values["chrome-args"];
  const where = await inOnePage(chromeArgs);
  if (only && !only.includes("load")) return where;
  // A device that lacks features lasts until the page is opened again, which is what is measured here.
  if (values.without) say("load was left out: it can't be measured together with --without");
  else await measureLoad({ preset, chromeArgs, tokenizer, onRow, say }).catch(loadFailed);
  return where;
}

/** What was measured before is worth keeping. */
function loadFailed(error: unknown): void {
  const note = `did not run: ${String(error).split("\n")[0]}`;
  onRow({ part: "load", name: "load of stored shards", value: 0, unit: "ms", note });
  process.exitCode = 1;
}

async function inOnePage(chromeArgs: string | undefined): Promise<Where> {
  const app = await openApp({ engineOnly: true, chromeArgs, ...device });
  try {
    const gpu = await gpuName(app);
    say(gpu);
    if (inWorker?.length !== 0) await benchInBrowser(app, options, onRow);
    const { capMilliseconds } = options;
    if (values.peers) await measurePeers(app.context, { config: PRESETS[preset], capMilliseconds, onRow: onPeer });
    return {
      gpu,
      browser: `Chromium ${app.context.browser()?.version() ?? (await app.page.evaluate(() => navigator.userAgent))}`,
      flags: chromeArgs ?? process.env.CHROME_GPU_ARGS ?? "SwiftShader",
    };
  } finally {
    await app.close();
  }
}

async function inDawn(): Promise<Where> {
  const flags = values["dawn-features"] ?? "";
  const dawn = await openDawn(flags ? flags.split(",") : [], device);
  say(dawn.name);
  if (only?.includes("load")) say("load was left out: it needs a browser");
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
