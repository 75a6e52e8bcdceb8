/**
 * What the trainer and the page both know of a run, open to all folders: plain data that crosses to the page and is stored as it is.
 */

/** Everything that decides a run besides model and data. */
export interface TrainSettings {
  lora: {
    r: number;
    alpha: number;
    /** Scale alpha / √r instead of alpha / r. */
    rslora: boolean;
    /** Which linear layers learn: the flags of Unsloth's `get_peft_model`. */
    parts: {
      languageAttention: boolean;
      languageMlp: boolean;
      visionAttention: boolean;
      visionMlp: boolean;
      /** The final merger and DeepStack's. */
      mergers: boolean;
    };
  };
  /** Of the input of every A, 0 to less than 1. */
  dropout: number;
  learningRate: number;
  schedule: "linear" | "cosine" | "constant";
  /** Steps; below 1 a share of all steps. */
  warmup: number;
  weightDecay: number;
  /** Gradients longer than this (L2 over all of them) are shortened to it. */
  maxGradNorm: number;
  optimizer: "adamw" | "adamw8";
  /** Examples in memory at once, 1 to 8, and micro-batches to a step. */
  batchSize: number;
  accumulation: number;
  epochs: number;
  /** Takes the place of the epochs where it is not 0, as in transformers; data comes round again as often as needed. */
  maxSteps: number;
  seed: number;
  /** Largest picture in pixels (height × width). */
  maxPixels: number;
  /** Longer examples are left out and listed, never cut. */
  maxTokens: number;
  turns: "all" | "last";
  /** Steps between checkpoints, and between evaluations. */
  saveEvery: number;
  evaluateEvery: number;
  /** Rows held back whose loss is taken at each evaluation, spread over all of them; 0 takes all. */
  evaluateRows: number;
}

/** One optimizer step. */
export interface StepRecord {
  /** Counted from 1. */
  step: number;
  epoch: number;
  /** Mean over the step's trained tokens. */
  loss: number;
  learningRate: number;
  /** L2 norm over all gradients, before clipping. */
  gradientNorm: number;
  /** All tokens of the step, pictures' included. */
  tokens: number;
  trainedTokens: number;
  milliseconds: number;
}

/** One look at the rows that are held back. */
export interface EvaluationRecord {
  /** 0: before the first step. */
  step: number;
  loss: number;
  /** Shares of right answers, 0 to 1, among so many. */
  exact: number;
  relaxed: number;
  examples: number;
  /** A few examples for the table of the page; `right` by the relaxed rule. */
  samples: { rowId: string; question: string; expected: string; found: string; right: boolean }[];
}

/** What adapters are compared by. */
export type Scores = Pick<EvaluationRecord, "step" | "loss" | "relaxed">;

/** True when the first is better: by answers, and where these are equally good by loss. */
export function isBetter(a: Scores, b: Scores | undefined): boolean {
  if (!b) return true;
  return a.relaxed === b.relaxed ? a.loss < b.loss : a.relaxed > b.relaxed;
}

/** A run as the history keeps it. Settings, data and model by hash: equal ones give equal losses on the same device. */
export interface RunRecord {
  id: string;
  name: string;
  created: number;
  updated: number;
  state: "running" | "paused" | "stopped" | "finished" | "failed";
  /** Why it failed or stopped, for a person. */
  message?: string;
  model: { id: string; name: string };
  dataset: { id: string; name: string; hash: string; trainRows: number; heldBackRows: number };
  settings: TrainSettings;
  /** Evaluations without progress after which it ends; 0 never ends it early. */
  patience: number;
  steps: number;
  log: StepRecord[];
  evaluations: EvaluationRecord[];
  /** The best adapter so far (or the last, where no step has beaten the base), and the steps it had learnt. */
  adapterId?: string;
  adapterStep?: number;
  /** The GPU, as the browser names it. */
  device?: string;
}
