import type { Session } from "../engine/index.ts";
import type { Gpu } from "../gpu/index.ts";
import type { Ceilings, SampleSettings } from "../kernels/index.ts";
import type { GpuWeights, Qwen3VL, Qwen3VLConfig } from "../models/index.ts";
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

export const GREEDY: SampleSettings = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  seed: 1,
  limit: 1,
  ends: [],
};
/** The sampling that Qwen recommends for Qwen3-VL, with a repetition penalty on top. */
export const FULL: Partial<SampleSettings> = {
  temperature: 0.7,
  topK: 20,
  topP: 0.8,
  presencePenalty: 1.5,
  repetitionPenalty: 1.05,
};

/** A prompt of `count` tokens without meaning. */
export const promptOf = (count: number, config: Qwen3VLConfig, seed = 0) => ({
  ids: Array.from({ length: count }, (_, i) => (i * 7919 + seed * 104729) % Math.min(500, config.text.vocabSize)),
  images: [],
});
