import type { TrainingPlan, TrainSettings } from "../../api/index.ts";

/** The form of a run's settings: what stands in its fields, as typed, so that half a number is not taken away. */
export type Form = Record<NumberKey, string> &
  Record<SwitchKey, boolean> &
  Pick<TrainSettings, "schedule" | "optimizer" | "turns">;

const LORA_NUMBERS = ["r", "alpha"] as const;
const NUMBERS = [
  "dropout",
  "learningRate",
  "warmup",
  "weightDecay",
  "maxGradNorm",
  "batchSize",
  "accumulation",
  "epochs",
  "maxSteps",
  "seed",
  "maxPixels",
  "maxTokens",
  "saveEvery",
  "evaluateEvery",
  "evaluateRows",
] as const;
const PARTS = ["languageAttention", "languageMlp", "visionAttention", "visionMlp", "mergers"] as const;

export type NumberKey = (typeof LORA_NUMBERS)[number] | (typeof NUMBERS)[number] | "patience";
export type SwitchKey = (typeof PARTS)[number] | "rslora";

/** Numbers that are easier to read as a power of ten. */
const show = (value: number) =>
  value > 0 && value < 0.001 ? value.toExponential().replace(/e-0?/, "e-") : String(value);

export function formOf(settings: TrainSettings, patience: number): Form {
  const { lora, schedule, optimizer, turns } = settings;
  return {
    ...(Object.fromEntries(NUMBERS.map((key) => [key, show(settings[key])])) as Record<NumberKey, string>),
    r: show(lora.r),
    alpha: show(lora.alpha),
    patience: String(patience),
    rslora: lora.rslora,
    ...lora.parts,
    schedule,
    optimizer,
    turns,
  };
}

/** A number as people type it: with a comma or a point. Nothing, or what is no number, is NaN.*/
export function parseNumber(text: string): number {
  const clean = text.trim().replace(/^([^.,]*),([^.,]*)$/, "$1.$2");
  return clean === "" ? Number.NaN : Number(clean);
}

/** What the fields say. It may be out of bounds or NaN: whether it can be used is for the worker to say. */
export function settingsOf(form: Form): { settings: TrainSettings; patience: number } {
  const numbers = Object.fromEntries(NUMBERS.map((key) => [key, parseNumber(form[key])])) as Record<
    (typeof NUMBERS)[number],
    number
  >;
  const parts = Object.fromEntries(PARTS.map((key) => [key, form[key]])) as TrainSettings["lora"]["parts"];
  const { schedule, optimizer, turns, rslora } = form;
  const lora = { r: parseNumber(form.r), alpha: parseNumber(form.alpha), rslora, parts };
  return { settings: { ...numbers, lora, schedule, optimizer, turns }, patience: parseNumber(form.patience) };
}

/** How long a run waits for progress is the page's own to check. */
export function patienceProblem({ patience }: Pick<Form, "patience">): TrainingPlan["problems"] {
  const value = parseNumber(patience);
  if (Number.isSafeInteger(value) && value >= 0) return [];
  const remedy = "0 never ends a run early; 3 to 5 are usual.";
  return [{ field: "patience", expected: "a whole number from 0", found: patience, remedy }];
}

/** A change of one field. Alpha goes with the rank for as long as both are equal, as is usual. */
export function changed(form: Form, key: keyof Form, value: string | boolean): Form {
  const next = { ...form, [key]: value };
  if (key === "r" && form.alpha === form.r) next.alpha = next.r;
  return next;
}

/** A form that was stored, completed from the usual values; whatever has another type than today is left out. */
export function restoredForm(usual: Form, stored: unknown): Form {
  if (typeof stored !== "object" || stored === null) return usual;
  const fits = Object.entries(stored).filter(([key, value]) => typeof value === typeof usual[key as keyof Form]);
  return { ...usual, ...Object.fromEntries(fits) };
}
