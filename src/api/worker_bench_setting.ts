import type { Session } from "../engine/index.ts";
import type { Gpu, Program } from "../gpu/index.ts";
import { type Ceilings, GREEDY, type SampleSettings, timeProgram } from "../kernels/index.ts";
import { GpuAdapter, type GpuWeights, loraModules, type Qwen3VL, type Qwen3VLConfig } from "../models/index.ts";
import { DEFAULT_SETTINGS } from "../train/index.ts";
import type { BenchOptions, BenchRow } from "./bench_protocol.ts";

/** What is measured, by size. */
export interface Sizes {
  /** Cached tokens while decoding. */
  contexts: number[];
  /** Cached tokens of one call of decode attention. */
  cached: number[];
  /** Tokens of a prompt. */
  prompts: number[];
  /** Rows of the linears of a prefill, and of those whose every way of running is timed. */
  rows: number[];
  shapeRows: number[];
  /** One call of attention each. */
  attention: [rows: number, keys: number, cacheType: "f16" | "i8"][];
  /** Pixels of a square picture's side. */
  sides: number[];
  /** Tokens of a training step, with one picture of `trainSide` pixels a side. */
  lengths: number[];
  trainSide: number;
}

/** 326 = 196 tokens of a picture of 448 × 448, two around it, 128 of text. */
const FULL_SIZE: Sizes = {
  contexts: [128, 2048, 8192, 32768],
  cached: [128, 2048, 8192],
  prompts: [128, 512, 2048, 8192],
  rows: [326, 512, 1024],
  shapeRows: [326, 1024],
  attention: [
    [512, 512, "f16"],
    [512, 8192, "f16"],
    [512, 8192, "i8"],
  ],
  sides: [448, 1024, 2048],
  lengths: [326, 1026],
  trainSide: 448,
};

/** The tiny preset shows that every part runs, not how fast: each as small as can be, and what a software GPU leaves out. */
const SMALLEST: Sizes = {
  contexts: [128],
  cached: [128],
  prompts: [128, 1024],
  rows: [70],
  shapeRows: [70],
  attention: [[70, 70, "i8"]],
  sides: [128, 1024],
  lengths: [100, 1026],
  trainSide: 128,
};

export function sizesOf(preset: BenchOptions["preset"]): Sizes {
  return preset === "tiny" ? SMALLEST : FULL_SIZE;
}

/** What every part of a benchmark works with. */
export interface Setting {
  gpu: Gpu;
  config: Qwen3VLConfig;
  weights: GpuWeights;
  model: Qwen3VL;
  session: Session;
  ceilings: Ceilings;
  capacity: number;
  options: BenchOptions;
  sizes: Sizes;
  row: (row: BenchRow) => void;
}

export const TOO_LONG = "left out: would take too long";

/** Greedy decoding that nothing ends. */
export const ENDLESS = { ...GREEDY, ends: [] };
/** The sampling that Qwen recommends for Qwen3-VL, with a repetition penalty on top. */
export const FULL: Partial<SampleSettings> = {
  temperature: 0.7,
  topK: 20,
  topP: 0.8,
  presencePenalty: 1.5,
  repetitionPenalty: 1.05,
  seed: 1,
};

/** A prompt of `count` tokens without meaning. */
export const promptOf = (count: number, config: Qwen3VLConfig, seed = 0) => ({
  ids: Array.from({ length: count }, (_, i) => (i * 7919 + seed * 104729) % Math.min(500, config.text.vocabSize)),
  images: [],
});

/** An adapter as a run begins with it by default, r = 16 on all language linears; its values are the caller's. */
export function defaultAdapter({ gpu, config }: Setting): Promise<GpuAdapter> {
  const { r, parts } = DEFAULT_SETTINGS.lora;
  return GpuAdapter.create(
    gpu,
    config,
    loraModules(config, parts).map(({ path }) => ({ path, r, scale: 1 })),
  );
}

/** Measures while such an adapter is on. */
export async function withAdapter(setting: Setting, measure: () => Promise<void>): Promise<void> {
  const adapter = await defaultAdapter(setting);
  try {
    await setting.model.wear(adapter);
    await measure();
  } finally {
    await setting.model.wear(undefined);
    adapter.free();
  }
}

/** How long each kernel's dispatches of a program take, one kernel after the other; what they compute does not matter. */
export async function measureKernels(
  { gpu, ceilings, row }: Setting,
  part: string,
  name: string,
  program: Program,
): Promise<void> {
  const all = await timeProgram(gpu, program, { bytes: 0, flops: program.work }, ceilings);
  row({ part, name: `${name}, all`, value: all.milliseconds, unit: "ms", share: all.share, bound: "arithmetic" });
  for (const [label, { dispatches, work }] of program.byKernel) {
    const cost = { bytes: 0, flops: work };
    const { milliseconds, share } = await timeProgram(gpu, program.only(label), cost, ceilings);
    row({
      part,
      name: `${name}, ${dispatches} × ${label}`,
      value: milliseconds,
      unit: "ms",
      share,
      bound: "arithmetic",
    });
  }
}
