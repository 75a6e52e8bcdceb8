import { type MemoryPlan, planMemory, Session, tune } from "../engine/index.ts";
import { isError } from "../errors.ts";
import type { Gpu } from "../gpu/index.ts";
import { type Ceilings, measureCeilings, packSampleSettings, type SampleSettings } from "../kernels/index.ts";
import { type GpuWeights, Qwen3VL, type Qwen3VLConfig } from "../models/index.ts";
import type { BenchOptions, BenchRow } from "./bench_protocol.ts";
import { KernelBench } from "./worker_bench_kernels.ts";
import { PRESETS, randomWeights } from "./worker_bench_model.ts";
import { measureTraining } from "./worker_bench_train.ts";

const CONTEXTS = [128, 2048, 8192, 32768];
const PROMPTS = [128, 512, 2048, 8192];
const PICTURES = [448, 1024, 2048];
const GEMM_ROWS = [326, 512, 1024];
/** How long one decode measurement runs. */
const DECODE_MILLISECONDS = 1200;

const TOO_LONG = "left out: would take too long";

const GREEDY: SampleSettings = {
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
const FULL: Partial<SampleSettings> = {
  temperature: 0.7,
  topK: 20,
  topP: 0.8,
  presencePenalty: 1.5,
  repetitionPenalty: 1.05,
};

interface Setting {
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

/** Every part of a run, in order. */
const PARTS: Record<string, (setting: Setting) => Promise<void>> = {
  decode: measureDecode,
  "decode kernels": measureDecodeKernels,
  "one-row shapes": (setting) => bench(setting).vecShapes(),
  prefill: measurePrefill,
  "prefill kernels": measurePrefillKernels,
  "many-row shapes": async (setting) => {
    for (const m of [326, 1024]) await bench(setting).tileShapes(m);
  },
  vision: measureVision,
  "lora step": measureTraining,
};

/** Runs the parts of a benchmark on random weights and reports each number as soon as it is known. */
export async function runBench(gpu: Gpu, options: BenchOptions, onRow: (row: BenchRow) => void): Promise<void> {
  const config = PRESETS[options.preset];
  const rows = (row: BenchRow) => {
    if (!Number.isFinite(row.value)) throw new Error(`${row.part}, ${row.name}: ${row.value} is no measurement`);
    onRow(row);
  };
  const ceilings = await measureCeilings(gpu);
  rows({ part: "ceilings", name: "memory", value: ceilings.copyBandwidth / 1e9, unit: "GB/s" });
  rows({ part: "ceilings", name: "f32 multiply-adds", value: ceilings.arithmetic / 1e12, unit: "TFLOP/s" });
  const weights = await randomWeights(gpu, config);
  const tuning = performance.now();
  await tune(gpu, config, weights);
  rows({ part: "tuning", name: "time", value: performance.now() - tuning, unit: "ms" });
  for (const [name, choice] of gpu.choices) rows({ part: "tuning", name, value: choice + 1, unit: "count" });
  let model: Qwen3VL | undefined;
  let session: Session | undefined;
  try {
    const created = await createModel(gpu, config, weights);
    model = created.model;
    session = new Session(gpu, model);
    const { capacity } = created.plan;
    const setting: Setting = { gpu, config, weights, model, session, ceilings, capacity, options, row: rows };
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
async function createModel(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights) {
  for (let contextLength = CONTEXTS.at(-1)! + 1024; ; contextLength /= 2) {
    const plan: MemoryPlan = planMemory(gpu, config, { contextLength });
    try {
      return { plan, model: await Qwen3VL.create(gpu, config, weights, plan) };
    } catch (error) {
      if (!isError(error, "OutOfMemory") || contextLength < 1024) throw error;
    }
  }
}

const promptOf = (count: number, config: Qwen3VLConfig, seed = 0) => ({
  ids: Array.from({ length: count }, (_, i) => (i * 7919 + seed * 104729) % Math.min(500, config.text.vocabSize)),
  images: [],
});

async function measureDecode({ gpu, config, model, session, capacity, options, row }: Setting): Promise<void> {
  const limit = config.text.vocabSize;
  const duration = Math.min(DECODE_MILLISECONDS, options.capMilliseconds / 4);
  let last = 0;
  for (const context of CONTEXTS.filter((c) => c + 512 <= capacity)) {
    // Four times the context takes at most four times as long.
    if (80 * last > options.capMilliseconds) {
      row({ part: "decode", name: `context ${context}, greedy`, value: 0, unit: "tok/s", note: TOO_LONG });
      continue;
    }
    const prompt = promptOf(context, config);
    for (const [name, settings] of Object.entries({ greedy: GREEDY, "full sampling": { ...GREEDY, ...FULL } })) {
      const run = async (milliseconds: number) => {
        session.assumeCached(prompt);
        let end = Number.POSITIVE_INFINITY;
        let picked = 0;
        const { times } = await session.generate(prompt, [], {
          settings: { ...settings, limit },
          maxTokens: capacity - context,
          onTokens: (ids) => {
            if (picked === 0) end = performance.now() + milliseconds;
            picked += ids.length;
            return picked > 4 && performance.now() > end;
          },
        });
        return (1000 * (times.newTokens - 1)) / times.decodeMilliseconds;
      };
      // The first run compiles and finds out how many tokens go into a submit.
      await run(duration / 4);
      const value = await run(duration);
      last = 1000 / value;
      row({ part: "decode", name: `context ${context}, ${name}`, value, unit: "tok/s" });
    }
    row({
      part: "decode",
      name: `context ${context}, a token on the device`,
      value: await deviceTime(gpu, model, context, { ...GREEDY, limit }, last > 50 ? [1, 3] : [4, 20]),
      unit: "ms",
    });
  }
  row({ part: "decode", name: "dispatches a token", value: model.language.decodeProgram(1).dispatches, unit: "count" });
}

/** Milliseconds of a decoded token when many follow each other in one submit, read-backs apart. */
async function deviceTime(
  gpu: Gpu,
  model: Qwen3VL,
  context: number,
  settings: SampleSettings,
  [few, many]: [number, number],
): Promise<number> {
  const { state } = model.language;
  const time = async (tokens: number) => {
    gpu.write(state.settings, packSampleSettings(settings));
    gpu.write(state.positions, new Uint32Array([context, context, context, context]));
    gpu.write(state.control, new Uint32Array([0, 0]));
    const program = model.language.decodeProgram(context + tokens);
    await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
    const started = performance.now();
    const encoder = gpu.device.createCommandEncoder();
    for (let i = 0; i < tokens; i++) program.encode(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
    return performance.now() - started;
  };
  const samples: number[] = [];
  for (let i = 0; i < 3; i++) {
    const short = await time(few);
    samples.push(Math.max(1e-3, ((await time(many)) - short) / (many - few)));
  }
  return samples.sort((a, b) => a - b)[1]!;
}

function bench({ gpu, config, weights, ceilings, row }: Setting): KernelBench {
  return new KernelBench(gpu, config, weights, ceilings, row);
}

async function measureDecodeKernels(setting: Setting): Promise<void> {
  const kernels = bench(setting);
  await kernels.linears("decode kernels", 1);
  await kernels.head();
  await kernels.small();
}

async function measurePrefill({ config, session, capacity, options, row }: Setting): Promise<void> {
  let tokensPerSecond = 0;
  for (const count of PROMPTS.filter((c) => c + 1 < capacity)) {
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
        settings: { ...GREEDY, limit: config.text.vocabSize },
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
  for (const m of GEMM_ROWS) await kernels.linears("prefill kernels", m);
  await kernels.attention(512, 512);
  if (setting.options.preset !== "tiny") await kernels.attention(512, 8192);
}

async function measureVision({ gpu, config, model, options, row }: Setting): Promise<void> {
  const { patchSize, inChannels, temporalPatchSize } = config.vision;
  let last = { patches: 0, milliseconds: 0 };
  for (const side of PICTURES) {
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
    const times: number[] = [];
    for (let run = 0; run < (patches > 4096 ? 2 : 3); run++) {
      const started = performance.now();
      const { features } = await model.vision.encode(pixels, [1, g, g]);
      times.push(performance.now() - started);
      for (const slice of features) gpu.free(slice);
      if (times.at(-1)! > options.capMilliseconds) break;
    }
    last = { patches, milliseconds: Math.min(...times) };
    row({ part: "vision", name, value: last.milliseconds, unit: "ms" });
  }
}
