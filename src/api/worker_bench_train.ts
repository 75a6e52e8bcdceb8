import type { Program } from "../gpu/index.ts";
import { type GpuAdapter, type Grid, type ImageFeatures, LoraTraining } from "../models/index.ts";
import { Optimizer } from "../train/index.ts";
import { defaultAdapter, measureKernels, type Setting, TOO_LONG } from "./worker_bench_setting.ts";

const STEPS = 4;

/**
 * A LoRA step as a run makes it: forward, backward and 8-bit AdamW on one example with a picture whose features are kept; loss on the
 * last 64 tokens. r = 16 on all language linears, batch 1, every block made again in the backward pass.
 */
export async function measureTraining(setting: Setting): Promise<void> {
  const { gpu, config, model, options, sizes, row } = setting;
  const g = sizes.trainSide / config.vision.patchSize;
  const grid: Grid = [1, g, g];
  const { inChannels, temporalPatchSize, patchSize } = config.vision;
  const pixels = new Float32Array(g * g * inChannels * temporalPatchSize * patchSize ** 2).fill(0.5);
  const features = await model.vision.encode(pixels, grid);
  const adapter = await defaultAdapter(setting);
  try {
    for (const tensor of adapter.tensors) {
      const values = Float32Array.from({ length: tensor.shape[0] * tensor.shape[1] }, (_, i) => ((i % 7) - 3) * 1e-3);
      adapter.write(tensor, values);
    }
    let last = 0;
    for (const tokens of sizes.lengths) {
      const name = `${tokens} tokens`;
      if (4 * STEPS * last > options.capMilliseconds) {
        row({ part: "lora step", name, value: 0, unit: "ms", note: TOO_LONG });
        continue;
      }
      last = await measureLength({ ...setting, adapter, features, grid, tokens, name });
    }
  } finally {
    adapter.free();
    for (const slice of features.features) gpu.free(slice);
  }
}

interface Length extends Setting {
  adapter: GpuAdapter;
  features: ImageFeatures;
  grid: Grid;
  tokens: number;
  name: string;
}

async function measureLength(o: Length): Promise<number> {
  const { gpu, config, model, options, row, adapter, features, grid, tokens, name } = o;
  const ids = Array.from({ length: tokens }, (_, i) => {
    if (i === 0) return config.visionStartTokenId;
    if (i <= features.tokens) return config.imageTokenId;
    return i === features.tokens + 1 ? config.visionEndTokenId : (i * 7919) % Math.min(500, config.text.vocabSize);
  });
  const labels = ids.map((id, i) => (i >= tokens - 64 ? id : -100));
  const trained = labels.slice(1).filter((label) => label !== -100).length;
  const training = await LoraTraining.create(gpu, config, model.weights, adapter, {
    maxTokens: tokens,
    maxPatches: 0,
    dropout: 0,
  });
  let optimizer: Optimizer | undefined;
  try {
    optimizer = await Optimizer.create(gpu, "adamw8", training.buffers);
    const times: number[] = [];
    const example = { ids, labels, images: [{ grid, features }] };
    for (let step = 0; step < STEPS; step++) {
      const started = performance.now();
      const { loss } = await training.accumulate([example], { weight: 1 / trained, seed: step });
      await optimizer.step({ rate: 1e-6, weightDecay: 0.001, maxGradNorm: 1 });
      times.push(performance.now() - started);
      if (!Number.isFinite(loss)) throw new Error(`the loss of step ${step} is ${loss}`);
      if (step > 0 && times.at(-1)! > options.capMilliseconds) break;
    }
    // The first step compiles.
    const warm = times.slice(1).sort((a, b) => a - b);
    const value = warm[Math.floor(warm.length / 2)]!;
    row({ part: "lora step", name, value, unit: "ms" });
    const inspect = (program: Program) => measureKernels(o, "lora step kernels", name, program);
    await training.accumulate([example], { weight: 0, seed: 0, inspect });
    const cache = gpu.ledger.byOwner()["KV cache"] ?? 0;
    row({
      part: "lora step",
      name: `${name}, GPU memory`,
      value: (gpu.ledger.total - cache) / 2 ** 20,
      unit: "MiB",
      note: "by the ledger, the chat's KV cache apart",
    });
    return value;
  } finally {
    optimizer?.free();
    training.free();
  }
}
