import { type MemoryPlan, planMemory, prepareTuning, Session, tune } from "../engine/index.ts";
import { isError } from "../errors.ts";
import type { Gpu, Program } from "../gpu/index.ts";
import { measureCeilings } from "../kernels/index.ts";
import { type GpuWeights, Qwen3VL, type Qwen3VLConfig } from "../models/index.ts";
import type { BenchOptions, BenchRow } from "./bench_protocol.ts";
import { longestContext, measureDecode } from "./worker_bench_decode.ts";
import { KernelBench } from "./worker_bench_kernels.ts";
import { PRESETS, randomWeights } from "./worker_bench_model.ts";
import {
  ENDLESS,
  measureKernels,
  promptOf,
  type Setting,
  sizesOf,
  TOO_LONG,
  withAdapter,
} from "./worker_bench_setting.ts";
import { measureTraining } from "./worker_bench_train.ts";

/** Every part of a run, in order. */
const PARTS: Record<string, (setting: Setting) => Promise<void>> = {
  decode: measureDecode,
  "decode kernels": measureDecodeKernels,
  "one-row shapes": (setting) => bench(setting).vecShapes(),
  prefill: measurePrefill,
  "prefill kernels": measurePrefillKernels,
  "many-row shapes": async (setting) => {
    for (const m of setting.sizes.shapeRows) await bench(setting).tileShapes(m);
  },
  vision: measureVision,
  training: measureTraining,
};

/** Runs the parts of a benchmark on random weights and reports each number as soon as it is known. */
export async function runBench(gpu: Gpu, options: BenchOptions, onRow: (row: BenchRow) => void): Promise<void> {
  const config = PRESETS[options.preset];
  const sizes = sizesOf(options.preset);
  const rows = (row: BenchRow) => {
    if (!Number.isFinite(row.value)) throw new Error(`${row.part}, ${row.name}: ${row.value} is no measurement`);
    onRow(row);
  };
  const ceilings = await measureCeilings(gpu);
  rows({ part: "ceilings", name: "memory", value: ceilings.copyBandwidth / 1e9, unit: "GB/s" });
  const { arithmetic, half, matrix } = ceilings;
  for (const [name, value] of Object.entries({ f32: arithmetic, f16: half, "matrix units": matrix })) {
    if (value) rows({ part: "ceilings", name: `${name} multiply-adds`, value: value / 1e12, unit: "TFLOP/s" });
  }
  const weights = await randomWeights(gpu, config);
  const tuning = performance.now();
  prepareTuning(gpu, config, weights);
  await tune(gpu, config, weights);
  rows({ part: "tuning", name: "time", value: performance.now() - tuning, unit: "ms" });
  for (const [name, choice] of gpu.choices) rows({ part: "tuning", name, value: choice + 1, unit: "count" });
  let model: Qwen3VL | undefined;
  let session: Session | undefined;
  try {
    // A training step has no use for the chat's cache, and what the driver says of memory should not count it.
    const isTraining = options.only?.every((name) => name === "training") ?? false;
    const created = await createModel(gpu, config, weights, isTraining ? 1024 : longestContext(sizes));
    model = created.model;
    session = new Session(gpu, model);
    const { capacity } = created.plan;
    const setting: Setting = { gpu, config, weights, model, session, ceilings, capacity, options, sizes, row: rows };
    for (const [owner, bytes] of Object.entries(gpu.ledger.byOwner())) {
      rows({ part: "memory", name: owner, value: bytes / 2 ** 20, unit: "MiB" });
    }
    rows({ part: "memory", name: `in all, context ${capacity}`, value: gpu.ledger.total / 2 ** 20, unit: "MiB" });
    for (const [name, part] of Object.entries(PARTS)) {
      if (!options.only || options.only.includes(name)) await part(setting);
    }
  } finally {
    session?.free();
    if (model) model.free();
    else weights.free();
  }
}

/** The model with the longest context of the table that fits this device. */
async function createModel(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, longest: number) {
  for (let contextLength = longest; ; contextLength /= 2) {
    const plan: MemoryPlan = planMemory(gpu, config, { contextLength });
    try {
      return { plan, model: await Qwen3VL.create(gpu, config, weights, plan) };
    } catch (error) {
      if (!isError(error, "OutOfMemory") || contextLength < 1024) throw error;
    }
  }
}

function bench({ gpu, config, weights, ceilings, row }: Setting): KernelBench {
  return new KernelBench(gpu, config, weights, ceilings, row);
}

async function measureDecodeKernels(setting: Setting): Promise<void> {
  const kernels = bench(setting);
  await kernels.linears("decode kernels", 1);
  await withAdapter(setting, () => kernels.linears("decode kernels", 1, " with a LoRA adapter"));
  await kernels.head();
  await kernels.small(setting.sizes.cached);
}

async function measurePrefill({ config, session, capacity, options, sizes, row }: Setting): Promise<void> {
  let tokensPerSecond = 0;
  for (const count of sizes.prompts.filter((c) => c + 1 < capacity)) {
    const name = `${count} tokens`;
    if (tokensPerSecond > 0 && (2000 * count) / tokensPerSecond > options.capMilliseconds) {
      row({ part: "prefill", name, value: 0, unit: "tok/s", note: TOO_LONG });
      continue;
    }
    const speeds: number[] = [];
    // The first runs compile, and teach the governor how much work this device does at a time.
    for (let run = 0; run < (count > 2048 ? 2 : 4); run++) {
      session.reset();
      const { times } = await session.generate(promptOf(count, config, run), [], {
        settings: { ...ENDLESS, limit: config.text.vocabSize },
        maxTokens: 1,
        onTokens: () => false,
      });
      speeds.push((1000 * count) / times.prefillMilliseconds);
      if (times.prefillMilliseconds > options.capMilliseconds) break;
    }
    tokensPerSecond = Math.max(...speeds);
    row({ part: "prefill", name, value: tokensPerSecond, unit: "tok/s" });
  }
}

async function measurePrefillKernels(setting: Setting): Promise<void> {
  const kernels = bench(setting);
  for (const m of setting.sizes.rows) await kernels.linears("prefill kernels", m);
  for (const [rows, keys, cacheType] of setting.sizes.attention) await kernels.attention(rows, keys, cacheType);
}

async function measureVision(setting: Setting): Promise<void> {
  const { gpu, config, model, options, sizes, row } = setting;
  const { patchSize, inChannels, temporalPatchSize } = config.vision;
  let last = { patches: 0, milliseconds: 0 };
  for (const side of sizes.sides) {
    const g = side / patchSize;
    const patches = g * g;
    const name = `${side} × ${side}`;
    // Attention grows with the square of the patches.
    const expected = last.patches > 0 ? last.milliseconds * (patches / last.patches) ** 1.7 : 0;
    if (3 * expected > options.capMilliseconds) {
      row({ part: "vision", name, value: 0, unit: "ms", note: TOO_LONG });
      continue;
    }
    const pixels = Float32Array.from(
      { length: patches * inChannels * temporalPatchSize * patchSize ** 2 },
      (_, i) => ((i * 2654435761) % 2 ** 32) / 2 ** 31 - 1,
    );
    // A first picture of its size allocates and records; what is kept is given back before each. The first of all compiles.
    const times = { first: [] as number[], next: [] as number[] };
    const encode = async (kind: keyof typeof times) => {
      const started = performance.now();
      const { features } = await model.vision.encode(pixels, [1, g, g]);
      times[kind].push(performance.now() - started);
      for (const slice of features) gpu.free(slice);
    };
    for (let run = 0; run < (patches > 4096 ? 2 : 3); run++) {
      model.vision.release();
      await encode("first");
      if (times.first.at(-1)! > options.capMilliseconds) break;
      await encode("next");
    }
    last = { patches, milliseconds: Math.min(...times.first, ...times.next) };
    row({ part: "vision", name: `${name}, first of its size`, value: Math.min(...times.first), unit: "ms" });
    if (times.next.length > 0) {
      const note = gpu.ledger.byOwner()["vision workspace"] ? {} : { note: "too large a workspace to be kept" };
      row({ part: "vision", name: `${name}, next of its size`, value: Math.min(...times.next), unit: "ms", ...note });
    }
    // The largest is timed as a whole.
    if (side === sizes.sides.at(-1)) continue;
    const inspect = (program: Program) => measureKernels(setting, "vision kernels", name, program);
    const { features } = await model.vision.encode(pixels, [1, g, g], { inspect });
    for (const slice of features) gpu.free(slice);
  }
}
