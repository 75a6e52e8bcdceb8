import type { RunRecord } from "../../training_records.ts";

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
