import type { TrainSettings } from "../training_records.ts";
import type { ScheduleKind } from "./schedule.ts";

/** What Unsloth's Qwen3-VL notebook uses (qwen3-vl.md §9.6); one picture of 448 × 448 is 196 tokens. */
export const DEFAULT_SETTINGS: TrainSettings = {
  lora: {
    r: 16,
    alpha: 16,
    rslora: false,
    parts: { languageAttention: true, languageMlp: true, visionAttention: false, visionMlp: false, mergers: false },
  },
  dropout: 0,
  learningRate: 2e-4,
  schedule: "linear",
  warmup: 5,
  weightDecay: 0.001,
  maxGradNorm: 1,
  optimizer: "adamw8",
  batchSize: 2,
  accumulation: 4,
  epochs: 3,
  maxSteps: 0,
  seed: 3407,
  maxPixels: 448 * 448,
  maxTokens: 2048,
  turns: "all",
  saveEvery: 20,
  evaluateEvery: 20,
  evaluateRows: 200,
};

/** A setting that cannot be used, in the words of the page. */
export interface SettingProblem {
  field: string;
  expected: string;
  found: string;
  remedy: string;
}

interface Bound {
  least: number;
  most: number;
  /** Whether it must be a whole number, and whether `least` itself is allowed. */
  whole?: boolean;
  above?: boolean;
  remedy: string;
}

const BOUNDS: Record<string, Bound> = {
  r: { least: 1, most: 512, whole: true, remedy: "8 to 64 is usual; more takes more memory." },
  alpha: { least: 0, most: 4096, above: true, remedy: "As much as the rank, or twice as much, is usual." },
  dropout: { least: 0, most: 0.9, remedy: "0 is usual; 0.05 helps against learning a small set by heart." },
  learningRate: { least: 0, most: 0.1, above: true, remedy: "2e-4 is usual for LoRA; lower it when the loss jumps." },
  warmup: { least: 0, most: 100_000, remedy: "5 steps are usual; below 1 it is a share of all steps." },
  weightDecay: { least: 0, most: 1, remedy: "0.001 is usual." },
  maxGradNorm: { least: 0, most: 1e6, above: true, remedy: "1 is usual." },
  batchSize: { least: 1, most: 8, whole: true, remedy: "1 or 2 save memory; accumulation makes up for it." },
  accumulation: { least: 1, most: 1024, whole: true, remedy: "Batch × accumulation of 8 is usual." },
  epochs: { least: 1, most: 10_000, whole: true, remedy: "1 to 3 are usual." },
  maxSteps: { least: 0, most: 10_000_000, whole: true, remedy: "0 means: as many as the epochs need." },
  seed: {
    least: 0,
    most: Number.MAX_SAFE_INTEGER,
    whole: true,
    remedy: "Any whole number; the same one gives the same run.",
  },
  maxPixels: { least: 1024, most: 2 ** 24, whole: true, remedy: "448 × 448 = 200,704 is usual for charts." },
  maxTokens: { least: 16, most: 262_144, whole: true, remedy: "2,048 is usual; memory grows with it." },
  saveEvery: { least: 1, most: 1_000_000, whole: true, remedy: "20 steps are usual." },
  evaluateEvery: { least: 1, most: 1_000_000, whole: true, remedy: "20 steps are usual." },
  evaluateRows: { least: 0, most: 1_000_000, whole: true, remedy: "200 are usual; 0 takes all." },
};

const CHOICES: Record<string, readonly string[]> = {
  schedule: ["linear", "cosine", "constant"] satisfies ScheduleKind[],
  optimizer: ["adamw", "adamw8"],
  turns: ["all", "last"],
};

/** Every setting that cannot be used; an empty list means that all can. Whatever a page or a file sends is looked at. */
export function checkSettings(settings: TrainSettings): SettingProblem[] {
  const values: Record<string, unknown> = { ...settings, ...settings.lora };
  const problems: SettingProblem[] = [];
  for (const [field, { least, most, whole, above, remedy }] of Object.entries(BOUNDS)) {
    const value = values[field];
    const isNumber = typeof value === "number" && (whole ? Number.isSafeInteger(value) : Number.isFinite(value));
    if (isNumber && value <= most && (above ? value > least : value >= least)) continue;
    const kind = whole ? "a whole number" : "a number";
    const expected = above ? `${kind} above ${least}, at most ${most}` : `${kind} from ${least} to ${most}`;
    problems.push({ field, expected, found: String(value), remedy });
  }
  for (const [field, choices] of Object.entries(CHOICES)) {
    if (choices.includes(values[field] as string)) continue;
    const expected = choices.join(", ");
    problems.push({ field, expected, found: String(values[field]), remedy: "Choose one of them." });
  }
  if (!Object.values(settings.lora.parts).includes(true)) {
    const remedy = "The language layers' attention and MLP are usual.";
    problems.push({ field: "parts", expected: "at least one part that trains", found: "none", remedy });
  }
  return problems;
}
