import type { Gpu } from "../gpu/index.ts";
import { compileMatmul, tuneMatmul } from "../kernels/index.ts";
import type { GpuWeights, Qwen3VLConfig } from "../models/index.ts";

/** Raise it when a kernel or the list of its shapes changes: what devices have measured before is measured again. */
const TUNING_VERSION = 8;
/** All measurements together, once on each device. */
const MILLISECONDS = 4000;
/** Rows of a full prefill chunk and of the tower's. */
const PREFILL_ROWS = 512;
const VISION_ROWS = 1024;

/** The name under which a device's choices are kept. */
export function tuningKey(gpu: Gpu): string {
  const { vendor, architecture, device, description } = gpu.info;
  return `tuning ${TUNING_VERSION} ${[vendor, architecture, device, description].filter(Boolean).join(" ")}`;
}

/** Takes what is known of this device, and begins to compile what `tune` will measure; no weights are needed. False where nothing is left to measure. */
export function prepareTuning(
  gpu: Gpu,
  config: Qwen3VLConfig,
  weights: GpuWeights,
  known: Readonly<Record<string, number>> = {},
): boolean {
  for (const [name, choice] of Object.entries(known)) gpu.choices.set(name, choice);
  return !gpu.isSoftware && compileMatmul(gpu, questionsOf(config, weights));
}

/**
 * Measures how this device runs the products of a model best, what is known already apart, and leaves the answers in `gpu.choices`.
 * Software adapters keep the defaults: measuring would take them longer than it saves.
 */
export async function tune(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, signal?: AbortSignal): Promise<void> {
  if (gpu.isSoftware) return;
  const options = { milliseconds: MILLISECONDS, ...(signal ? { signal } : {}) };
  await tuneMatmul(gpu, questionsOf(config, weights), options);
}

function questionsOf({ text, vision }: Qwen3VLConfig, weights: GpuWeights) {
  const layers = (name: string) =>
    Array.from({ length: text.numHiddenLayers }, (_, i) => weights.matrix(`language.layers.${i}.${name}`));
  const blocks = (name: string) =>
    Array.from({ length: vision.depth }, (_, i) => weights.matrix(`vision.blocks.${i}.${name}`));
  const head = weights.matrix(text.tieWordEmbeddings ? "language.embed" : "language.head");
  const linears = ["qkv", "o", "gate_up", "down"];
  return [
    { matrices: layers("qkv"), m: 1, norm: true },
    { matrices: layers("o"), m: 1, accumulate: true },
    { matrices: layers("gate_up"), m: 1, norm: true, glu: true },
    { matrices: layers("down"), m: 1, accumulate: true },
    { matrices: [head], m: 1, norm: true },
    ...linears.map((name) => ({ matrices: layers(name), m: PREFILL_ROWS })),
    ...["qkv", "proj", "fc1", "fc2"].map((name) => ({ matrices: blocks(name), m: VISION_ROWS })),
  ];
}
