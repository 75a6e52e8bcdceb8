import type { Session } from "../engine/index.ts";
import type { Gpu, Program } from "../gpu/index.ts";
import { type Ceilings, GREEDY, type SampleSettings, timeProgram } from "../kernels/index.ts";
import { GpuAdapter, type GpuWeights, loraModules, type Qwen3VL, type Qwen3VLConfig } from "../models/index.ts";
import { DEFAULT_SETTINGS } from "../train/index.ts";
import type { BenchOptions, BenchRow } from "./bench_protocol.ts";

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
