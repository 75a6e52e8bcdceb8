// PyTorch on the same card: what scripts/measure_transformers.py says, beside our own numbers.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PeerRow } from "./bench_report.ts";
import { configOf, PRESETS } from "./checkpoint_shapes.ts";

const SCRIPT = "scripts/measure_transformers.py";

/** The numbers of one run of the script: milliseconds, gigabytes where a name ends so, and names of what ran. */
export type TorchRun = Record<string, number | string>;

/** How one number of the script is told as a row of ours. */
type Turn = (value: number) => { value: number; unit: "ms" | "tok/s" | "MiB" };
const milliseconds: Turn = (value) => ({ value, unit: "ms" });
const rate =
  (tokens: number): Turn =>
  (value) => ({ value: (1000 * tokens) / value, unit: "tok/s" });
const gigabytes: Turn = (value) => ({ value: (1e9 * value) / 2 ** 20, unit: "MiB" });

const BESIDE: Record<string, [part: string, name: string, turn: Turn]> = {
  "decode, a token, context 128": ["decode", "context 128, greedy", rate(1)],
  "prefill, 512 tokens": ["prefill", "512 tokens", rate(512)],
  "vision tower, 448": ["vision", "448 × 448, next of its size", milliseconds],
  "lora step, 326 tokens": ["lora step", "326 tokens", milliseconds],
  "lora step, 326 tokens, GB": ["lora step", "326 tokens, GPU memory", gigabytes],
  "lora step, 1026 tokens": ["lora step", "1026 tokens", milliseconds],
  "lora step, 1026 tokens, GB": ["lora step", "1026 tokens, GPU memory", gigabytes],
};

/** The script's numbers as rows, each with ours that it stands beside. Throws on a number that isn't there. */
export function torchRows(run: TorchRun): PeerRow[] {
  return Object.entries(BESIDE).map(([key, [part, name, turn]]) => {
    const found = run[key];
    if (typeof found !== "number")
      throw new Error(`PyTorch's file lacks the number "${key}": expected the JSON of ${SCRIPT}, found ${found}`);
    const note = `torch ${run.torch}, ${run.card}, bf16`;
    return { row: { part: "peers", name: `PyTorch, ${part}, ${name}`, ...turn(found), note }, ours: [part, name] };
  });
}

export const readTorchRun = (file: string) => JSON.parse(readFileSync(file, "utf8")) as TorchRun;

/** Runs the script on the shapes of a preset, or undefined where Python, its packages or a card of its kind are missing. */
export function runTorch(preset: string): TorchRun | undefined {
  const shape = PRESETS[preset.replace("qwen3-vl-", "") as keyof typeof PRESETS];
  const probe = "import torch, transformers, peft; assert torch.cuda.is_available()";
  if (!existsSync(SCRIPT) || spawnSync("python3", ["-c", probe]).status !== 0) return undefined;
  const work = mkdtempSync(join(tmpdir(), "tabtune-torch-"));
  try {
    writeFileSync(join(work, "config.json"), JSON.stringify(configOf(shape)));
    const file = join(work, "run.json");
    const { status } = spawnSync("python3", [SCRIPT, work, "--json", file], { stdio: ["ignore", "ignore", "inherit"] });
    if (status !== 0) throw new Error(`python3 ${SCRIPT} ended with ${status}: see its message above`);
    return readTorchRun(file);
  } finally {
    rmSync(work, { recursive: true });
  }
}
