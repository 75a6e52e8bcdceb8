import type { EvaluationRecord, RunRecord, StepRecord } from "../../api/index.ts";
import { isBetter } from "../../training_records.ts";
import { formatCount } from "../format.ts";

/** What can be said about a run from its log alone. */

/** A log with one more step; a run that went on from a checkpoint takes back the steps after it. */
export function withStep(log: readonly StepRecord[], record: StepRecord): StepRecord[] {
  return [...upTo(log, record.step - 1), record];
}

/** Evaluations with one more; later ones belong to what was taken back. */
export function withEvaluation(all: readonly EvaluationRecord[], record: EvaluationRecord): EvaluationRecord[] {
  return [...upTo(all, record.step - 1), record];
}

function upTo<T extends { step: number }>(records: readonly T[], step: number): T[] {
  return records.filter((record) => record.step <= step);
}

/**
 * Mean of what came before, recent values weighing more: s = Σ w^(n−i) x_i / Σ w^(n−i). Divided by the sum of the weights, the curve
 * starts at its first value instead of rising from 0. Values that are no numbers keep the curve where it was.
 * @param weight 0 (nothing is smoothed) to less than 1
 */
export function smooth(values: readonly number[], weight = 0.8): number[] {
  let sum = 0;
  let weights = 0;
  return values.map((value) => {
    if (Number.isFinite(value)) {
      sum = weight * sum + value;
      weights = weight * weights + 1;
    }
    return weights > 0 ? sum / weights : Number.NaN;
  });
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Steps that the speed is taken from. */
const RECENT = 20;

/** Seconds until the last step, by the median of the latest steps; the first one compiles shaders and says little. Undefined before that. */
export function secondsLeft(log: readonly StepRecord[], steps: number): number | undefined {
  const last = log.at(-1);
  if (!last || log.length < 2) return undefined;
  const recent = log.slice(1).slice(-RECENT);
  return ((steps - last.step) * median(recent.map((r) => r.milliseconds))) / 1000;
}

/** Tokens a second over the latest steps; undefined before the first. */
export function tokensPerSecond(log: readonly StepRecord[]): number | undefined {
  const recent = log.slice(log.length > 1 ? 1 : 0).slice(-RECENT);
  const milliseconds = recent.reduce((sum, r) => sum + r.milliseconds, 0);
  return milliseconds > 0 ? (1000 * recent.reduce((sum, r) => sum + r.tokens, 0)) / milliseconds : undefined;
}

/** How fast this model was trained before, in tokens a second: the newest run that can tell. */
export function knownSpeed(runs: readonly RunRecord[], modelId: string): number | undefined {
  const newest = runs.filter((run) => run.model.id === modelId).sort((a, b) => b.updated - a.updated);
  for (const { log } of newest) {
    const speed = log.length > 1 ? tokensPerSecond(log) : undefined;
    if (speed !== undefined) return speed;
  }
  return undefined;
}

/** Scores before the first step, and of the adapter that was kept (the latest while there is none). */
export function beforeAndAfter(run: Pick<RunRecord, "evaluations" | "adapterStep">): {
  before?: EvaluationRecord;
  after?: EvaluationRecord;
} {
  const before = run.evaluations.find(({ step }) => step === 0);
  const best =
    run.adapterStep === undefined
      ? run.evaluations.at(-1)
      : run.evaluations.find(({ step }) => step === run.adapterStep);
  return { ...(before ? { before } : {}), ...(best && best.step > 0 ? { after: best } : {}) };
}

/** What must be said of an adapter that is kept although no step has beaten the base model; undefined where one has. */
export function notBetter(run: Pick<RunRecord, "evaluations" | "adapterStep">): string | undefined {
  const { before, after } = beforeAndAfter(run);
  if (run.adapterStep === undefined || !before || (after && isBetter(after, before))) return undefined;
  const words = `the adapter is that of the last step, ${formatCount(run.adapterStep)}`;
  return after
    ? `No step did better on the held-back rows than the model without an adapter, so ${words}. More rows, more steps or another learning rate may help.`
    : `It ended before an adapter did better on the held-back rows than the model without one, so ${words}, which was not scored.`;
}

/** Settings in which runs differ, by dotted path, in the order of the first run's settings. */
export function differences(all: readonly object[]): { path: string; values: string[] }[] {
  const flat = all.map((settings) => new Map(leaves(settings)));
  const paths = [...new Set(flat.flatMap((map) => [...map.keys()]))];
  return paths
    .map((path) => ({ path, values: flat.map((map) => map.get(path) ?? "–") }))
    .filter(({ values }) => new Set(values).size > 1);
}

function leaves(value: object, path = ""): [string, string][] {
  return Object.entries(value).flatMap(([key, inner]): [string, string][] => {
    const name = path ? `${path}.${key}` : key;
    return typeof inner === "object" && inner !== null ? leaves(inner, name) : [[name, String(inner)]];
  });
}
