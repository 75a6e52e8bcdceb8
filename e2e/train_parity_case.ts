import { resolve } from "node:path";
import type { DebugApi, DebugTrainRequest, DebugTrainResult } from "../src/api/debug_protocol.ts";
import { type App, openApp } from "./browser.ts";
import { openReference, type Reference, relativeL2, same } from "./reference.ts";

/** Relative; the adapter, gradients and logits in L2. Issue "Train", section "How it is proved". */
const TOLERANCE = { firstLoss: 1e-5, gradients: 1e-4, losses: 1e-3, norms: 1e-3, adapter: 2e-3, logits: 2e-3 };

export interface TrainReport {
  pass: boolean;
  trainableParameters: number;
  /** The largest error of each kind. */
  firstLoss: number;
  gradients: number;
  losses: number;
  norms: number;
  adapter: number;
  logits: number;
  /** With the adapter taken off, the logits are those of before, bit for bit. */
  switchedOff: boolean;
  /** Memory was exactly as planned. */
  planned: boolean;
}

const shortName = (name: string) => name.replace(/^model\./, "");

/** The reference's run as the worker takes it. */
export function trainRequest(reference: Reference, origin: string): DebugTrainRequest {
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
      urls: image ? [`${origin}/reference/images/${image}.png`] : [],
    })),
    // Two examples a step, one after the other in even steps and packed into one sequence in odd ones.
    steps: train.lr_per_step.map((rate, step) => {
      const [a, b] = [(2 * step) % train.data.length, (2 * step + 1) % train.data.length];
      return { batches: step % 2 ? [[a, b]] : [[a], [b]], rate, seed: step };
    }),
    step: { weightDecay: train.weight_decay, maxGradNorm: train.max_grad_norm },
    maxTokens: 96,
  };
}

/** The app with a reference's checkpoint loaded, weights as they are. */
export async function openTrainApp(reference: Reference, chromeArgs?: string): Promise<App> {
  const app = await openApp({ engineOnly: true, chromeArgs, folders: { "/reference/": reference.folder } });
  await app.page.evaluate(async (base) => {
    await (tabtune.engine as unknown as DebugApi).debugLoad({ base, kv: "f32" });
  }, `${app.origin}/reference/checkpoint/`);
  return app;
}

export async function debugTrain(app: App, request: DebugTrainRequest): Promise<DebugTrainResult> {
  return await app.page.evaluate(async (request) => {
    return await (tabtune.engine as unknown as DebugApi).debugTrain(request);
  }, request);
}

/** Repeats the training run of a folder written by make_reference.py in Chromium. */
export async function runTrainParity(
  folder: string,
  { chromeArgs }: { chromeArgs?: string } = {},
): Promise<TrainReport> {
  const reference = openReference(resolve(folder));
  const { train } = reference;
  const app = await openTrainApp(reference, chromeArgs);
  try {
    const found = await debugTrain(app, trainRequest(reference, app.origin));
    const worst = (arrays: Record<string, Float32Array>, prefix: string) => {
      const names = reference.names(prefix);
      if (names.length !== Object.keys(arrays).length) return Number.POSITIVE_INFINITY;
      const errors = Object.entries(arrays).map(([name, data]) => {
        return relativeL2(data, reference.array(prefix + shortName(name)).data);
      });
      return Math.max(...errors);
    };
    const relative = (a: number[], b: number[]) => Math.max(...b.map((wanted, i) => Math.abs(a[i]! / wanted - 1)));
    const [before, on, off] = found.logits;
    const report: TrainReport = {
      pass: false,
      trainableParameters: Object.values(found.adapter).reduce((sum, { length }) => sum + length, 0),
      firstLoss: relative(found.losses.slice(0, 1), train.loss_per_step.slice(0, 1)),
      gradients: worst(found.gradients, "grad0."),
      losses: relative(found.losses, train.loss_per_step),
      norms: relative(found.norms, train.grad_norm),
      adapter: worst(found.adapter, "lora_final."),
      logits: relativeL2(on!, reference.array(train.logits_after).data),
      switchedOff: same(off!, before!) && !same(on!, before!),
      planned: found.planned === found.allocated,
    };
    report.pass =
      report.trainableParameters === train.trainable_parameters &&
      report.switchedOff &&
      report.planned &&
      Object.entries(TOLERANCE).every(([name, most]) => report[name as keyof typeof TOLERANCE] <= most);
    return report;
  } finally {
    await app.close();
  }
}
