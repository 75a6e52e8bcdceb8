import { resolve } from "node:path";
import type { DebugApi, DebugTrainRequest, DebugTrainResult } from "../src/api/debug_protocol.ts";
import { type App, openApp, usesHalfPrecision } from "./browser.ts";
import type { DeviceArgs } from "./parity_cases.ts";
import { openReference, type Reference, relativeL2, same } from "./reference.ts";

/** Relative; the adapter, gradients and logits in L2. Issue "Train", section "How it is proved". */
const F32 = { firstLoss: 1e-5, gradients: 1e-4, losses: 1e-3, norms: 1e-3, adapter: 2e-3, logits: 2e-3 };
/** Where products are rounded to f16. Issue "Speed", the same section; it names no bound for the adapter. */
const HALF_PRECISION = { firstLoss: 1e-2, gradients: 1e-2, losses: 1e-2, norms: 1e-2, adapter: 2e-2, logits: 5e-3 };

export interface TrainReport {
  pass: boolean;
  trainableParameters: number;
  /** The largest error of each kind. */
  firstLoss: number;
  gradients: number;
  losses: number;
  norms: number;
  /** Of the adapter at the end and of the logits with it; absent where only the first steps were run. */
  adapter?: number;
  logits?: number;
  /** With the adapter taken off, the logits are those of before, bit for bit. */
  switchedOff: boolean;
  /** Memory was exactly as planned. */
  planned: boolean;
}

const shortName = (name: string) => name.replace(/^model\./, "");

/** The reference's run as the worker takes it. @param base where its folder is served */
export function trainRequest(reference: Reference, base: string): DebugTrainRequest {
  const { train } = reference;
  const names = reference.names("lora0.");
  const values = names.map((name) => [`model.${name.slice("lora0.".length)}`, reference.array(name).data] as const);
  return {
    parts: { languageAttention: true, languageMlp: true, visionAttention: false, visionMlp: false, mergers: false },
    r: train.r,
    alpha: train.alpha,
    dropout: 0,
    optimizer: "adamw",
    values: Object.fromEntries(values) as DebugTrainRequest["values"],
    examples: train.data.map(({ image }, i) => ({
      ids: train.input_ids[i]!,
      labels: train.labels[i]!,
      urls: image ? [`${base}images/${image}.png`] : [],
    })),
    // Two examples a step, one after the other in even steps and packed into one sequence in odd ones.
    steps: train.lr_per_step.map((rate, step) => {
      const [a, b] = [(2 * step) % train.data.length, (2 * step + 1) % train.data.length];
      return { batches: step % 2 ? [[a, b]] : [[a], [b]], rate, seed: step };
    }),
    step: { weightDecay: train.weight_decay, maxGradNorm: train.max_grad_norm },
    maxTokens: 96,
    withLogits: true,
  };
}

/** Loads a reference's checkpoint, weights as they are unless another scheme is asked for. @param base where its folder is served */
export async function loadReference(app: App, base: string, scheme: "bf16" | "q4a32" = "bf16"): Promise<void> {
  await app.page.evaluate(
    async ({ base, scheme }) => {
      await (tabtune.engine as unknown as DebugApi).debugLoad({ base, kv: "f32", scheme });
    },
    { base: `${base}checkpoint/`, scheme },
  );
}

export async function debugTrain(app: App, request: DebugTrainRequest): Promise<DebugTrainResult> {
  return await app.page.evaluate(async (request) => {
    return await (tabtune.engine as unknown as DebugApi).debugTrain(request);
  }, request);
}

/** Repeats the training run of a folder written by make_reference.py in Chromium. */
export async function runTrainParity(folder: string, device: DeviceArgs = {}): Promise<TrainReport> {
  const reference = openReference(resolve(folder));
  const app = await openApp({ engineOnly: true, ...device, folders: { "/reference/": reference.folder } });
  try {
    await loadReference(app, `${app.origin}/reference/`);
    return await compareTraining(app, reference, `${app.origin}/reference/`);
  } finally {
    await app.close();
  }
}

/** Runs the first steps, or all of them, on the loaded checkpoint and compares with the reference. */
export async function compareTraining(
  app: App,
  reference: Reference,
  base: string,
  steps = reference.train.steps,
): Promise<TrainReport> {
  const { train } = reference;
  const request = trainRequest(reference, base);
  const tolerance = (await usesHalfPrecision(app.page)) ? HALF_PRECISION : F32;
  const found = await debugTrain(app, { ...request, steps: request.steps.slice(0, steps) });
  const worst = (arrays: Record<string, Float32Array>, prefix: string) => {
    const names = reference.names(prefix);
    if (names.length !== Object.keys(arrays).length) return Number.POSITIVE_INFINITY;
    const errors = Object.entries(arrays).map(([name, data]) => {
      return relativeL2(data, reference.array(prefix + shortName(name)).data);
    });
    return Math.max(...errors);
  };
  const relative = (a: number[], b: number[], count: number) =>
    Math.max(...b.slice(0, count).map((wanted, i) => Math.abs(a[i]! / wanted - 1)));
  const [before, on, off] = found.logits;
  const report: TrainReport = {
    pass: false,
    trainableParameters: Object.values(found.adapter).reduce((sum, { length }) => sum + length, 0),
    firstLoss: relative(found.losses, train.loss_per_step, 1),
    gradients: worst(found.gradients, "grad0."),
    losses: relative(found.losses, train.loss_per_step, steps),
    norms: relative(found.norms, train.grad_norm, steps),
    switchedOff: same(off!, before!) && !same(on!, before!),
    planned: found.planned === found.allocated,
  };
  if (steps === train.steps) {
    report.adapter = worst(found.adapter, "lora_final.");
    report.logits = relativeL2(on!, reference.array(train.logits_after).data);
  }
  report.pass =
    report.trainableParameters === train.trainable_parameters &&
    report.switchedOff &&
    report.planned &&
    Object.entries(tolerance).every(([name, most]) => {
      const error = report[name as keyof typeof tolerance];
      return error === undefined ? steps < train.steps : error <= most;
    });
  return report;
}
