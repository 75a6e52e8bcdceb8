import type { TrainSettings } from "../settings.ts";
import type { Accuracy } from "./accuracy.ts";

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
export interface EvaluationRecord extends Accuracy {
  /** 0: before the first step. */
  step: number;
  loss: number;
  /** A few examples for the table of the page; `right` by the relaxed rule. */
  samples: { rowId: string; question: string; expected: string; found: string; right: boolean }[];
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
  /** The best adapter so far, and the steps it had learnt. */
  adapterId?: string;
  adapterStep?: number;
  /** The GPU, as the browser names it. */
  device?: string;
}

const COLUMNS = [
  "step",
  "epoch",
  "loss",
  "learning_rate",
  "gradient_norm",
  "tokens",
  "trained_tokens",
  "milliseconds",
  "tokens_per_second",
  "held_back_loss",
  "exact_match",
  "relaxed_accuracy",
] as const;

/** The log as CSV: a line for each step, the scores of an evaluation on the line of its step; step 0 is before training. */
export function runCsv({ log, evaluations }: Pick<RunRecord, "log" | "evaluations">): string {
  const at = new Map(evaluations.map((evaluation) => [evaluation.step, evaluation]));
  const scores = (step: number) => {
    const found = at.get(step);
    return found ? [found.loss, found.exact, found.relaxed] : ["", "", ""];
  };
  const lines: (number | string)[][] = at.has(0) ? [[0, ...Array<string>(8).fill(""), ...scores(0)]] : [];
  for (const s of log) {
    lines.push([
      s.step,
      s.epoch,
      s.loss,
      s.learningRate,
      s.gradientNorm,
      s.tokens,
      s.trainedTokens,
      Math.round(s.milliseconds),
      s.milliseconds > 0 ? Math.round((1000 * s.tokens) / s.milliseconds) : "",
      ...scores(s.step),
    ]);
  }
  return [COLUMNS, ...lines].map((line) => `${line.join(",")}\r\n`).join("");
}
