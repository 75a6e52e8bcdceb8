export type ScheduleKind = "linear" | "cosine" | "constant";

export interface Schedule {
  kind: ScheduleKind;
  /** The highest rate. */
  learningRate: number;
  /** Steps of warm-up; below 1 a share of all steps, rounded up. */
  warmup: number;
  steps: number;
}

/**
 * The learning rate of step k = 0, 1, …: rises from 0 over the warm-up (so the first step learns nothing), then falls to 0 along a line
 * or half a cosine, or stays. Source: qwen3-vl.md §9.6, which is transformers' own.
 */
export function learningRateAt(k: number, { kind, learningRate, warmup, steps }: Schedule): number {
  const w = warmup < 1 ? Math.ceil(warmup * steps) : warmup;
  if (k < w) return (learningRate * k) / Math.max(1, w);
  if (kind === "constant") return learningRate;
  const rest = Math.max(1, steps - w);
  if (kind === "linear") return learningRate * Math.max(0, (steps - k) / rest);
  return learningRate * Math.max(0, 0.5 * (1 + Math.cos((Math.PI * (k - w)) / rest)));
}
