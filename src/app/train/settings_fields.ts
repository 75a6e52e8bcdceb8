import type { Form, NumberKey, SwitchKey } from "./settings_form.ts";

type ChoiceKey = Exclude<keyof Form, NumberKey | SwitchKey>;

/** A field of the settings; whatever it says, the worker decides whether it can be used. */
export type Field =
  | { kind: "number"; key: NumberKey; label: string; hint: string; unit?: string }
  | { kind: "switch"; key: SwitchKey; label: string; hint: string }
  | { kind: "choice"; key: ChoiceKey; label: string; hint: string; choices: [value: string, label: string][] };

/** What most people change; the pictures' size has a field of its own. */
export const SIMPLE: Field[] = [
  {
    kind: "number",
    key: "epochs",
    label: "Epochs",
    hint: "How often each row is seen. 1 to 3 are usual; many more and small sets are learnt by heart.",
  },
  {
    kind: "number",
    key: "r",
    label: "Rank",
    hint: "Room of the adapter. 8 to 64 are usual; more can learn more and takes more memory.",
  },
  {
    kind: "number",
    key: "learningRate",
    label: "Learning rate",
    hint: "How far a step goes. 2e-4 is usual; lower it when the loss jumps.",
  },
];

/** Sizes of pictures, width × height. */
export const PIXELS: [value: string, label: string][] = [
  ["50176", "224 × 224, fastest"],
  ["100352", "317 × 317"],
  ["200704", "448 × 448, usual"],
  ["401408", "634 × 634, small print"],
  ["802816", "896 × 896, dense pages"],
  ["1605632", "1267 × 1267, slow"],
];

export const EXPERT: { title: string; fields: Field[] }[] = [
  {
    title: "What trains",
    fields: [
      {
        kind: "switch",
        key: "languageAttention",
        label: "Language: attention",
        hint: "query, key, value and output of every block",
      },
      { kind: "switch", key: "languageMlp", label: "Language: MLP", hint: "gate, up and down of every block" },
      {
        kind: "switch",
        key: "visionAttention",
        label: "Vision: attention",
        hint: "for pictures unlike any photo or chart; pictures are then encoded at every step, which is slow",
      },
      { kind: "switch", key: "visionMlp", label: "Vision: MLP", hint: "as above" },
      { kind: "switch", key: "mergers", label: "Vision: mergers", hint: "where pictures become tokens; as above" },
      { kind: "number", key: "alpha", label: "Alpha", hint: "strength is alpha ÷ rank; as much as the rank is usual" },
      {
        kind: "switch",
        key: "rslora",
        label: "Rank-stabilised (rsLoRA)",
        hint: "strength is alpha ÷ √rank; for ranks of 64 and more",
      },
      {
        kind: "number",
        key: "dropout",
        label: "Dropout",
        hint: "share of the inputs that is left out by chance; 0.05 helps against learning a small set by heart",
      },
      {
        kind: "choice",
        key: "turns",
        label: "Answers that are learnt",
        hint: "of rows with several turns",
        choices: [
          ["all", "every answer"],
          ["last", "the last one alone"],
        ],
      },
    ],
  },
  {
    title: "Steps",
    fields: [
      { kind: "number", key: "batchSize", label: "Batch", hint: "rows in memory at once, 1 to 8" },
      {
        kind: "number",
        key: "accumulation",
        label: "Accumulation",
        hint: "batches to a step; batch × accumulation of 8 is usual",
      },
      {
        kind: "number",
        key: "maxSteps",
        label: "Most steps",
        hint: "takes the place of the epochs; 0: as many as the epochs need",
      },
      {
        kind: "number",
        key: "maxTokens",
        label: "Longest row",
        unit: "tokens",
        hint: "longer rows are left out and listed, never cut",
      },
      { kind: "number", key: "seed", label: "Seed", hint: "the same seed gives the same run" },
    ],
  },
  {
    title: "Optimizer",
    fields: [
      {
        kind: "choice",
        key: "optimizer",
        label: "Optimizer",
        hint: "8 bits take a quarter of the optimizer’s memory",
        choices: [
          ["adamw8", "AdamW, 8 bits"],
          ["adamw", "AdamW, 32 bits"],
        ],
      },
      {
        kind: "choice",
        key: "schedule",
        label: "Schedule",
        hint: "what becomes of the rate after the warm-up",
        choices: [
          ["linear", "linear to 0"],
          ["cosine", "cosine to 0"],
          ["constant", "constant"],
        ],
      },
      { kind: "number", key: "warmup", label: "Warm-up", unit: "steps", hint: "below 1: a share of all steps" },
      { kind: "number", key: "weightDecay", label: "Weight decay", hint: "pulls weights towards 0; 0.001 is usual" },
      {
        kind: "number",
        key: "maxGradNorm",
        label: "Clip gradients at",
        hint: "longer gradients are shortened to this norm; 1 is usual",
      },
    ],
  },
  {
    title: "Looking and keeping",
    fields: [
      {
        kind: "number",
        key: "evaluateEvery",
        label: "Evaluate every",
        unit: "steps",
        hint: "held-back rows are scored, and up to 24 of them answered",
      },
      {
        kind: "number",
        key: "evaluateRows",
        label: "Score at most",
        unit: "held-back rows",
        hint: "spread over all of them; fewer make evaluations quicker, 0 takes all",
      },
      {
        kind: "number",
        key: "patience",
        label: "Patience",
        unit: "evaluations",
        hint: "ends the run after so many without progress; 0 never does",
      },
      {
        kind: "number",
        key: "saveEvery",
        label: "Checkpoint every",
        unit: "steps",
        hint: "where a closed tab goes on",
      },
    ],
  },
];

const ALL = [...SIMPLE, ...EXPERT.flatMap(({ fields }) => fields)];

/** What a setting is called on the page. */
export const labelOf = (key: string) =>
  key === "maxPixels"
    ? "Size of pictures"
    : key === "parts"
      ? "What trains"
      : (ALL.find((f) => f.key === key)?.label ?? key);
