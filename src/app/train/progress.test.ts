import { describe, expect, it } from "vitest";
import type { EvaluationRecord, RunRecord, StepRecord } from "../../api/index.ts";
import {
  beforeAndAfter,
  differences,
  knownSpeed,
  notBetter,
  secondsLeft,
  smooth,
  tokensPerSecond,
  withEvaluation,
  withStep,
} from "./progress.ts";

const step = (n: number, milliseconds = 100, tokens = 50): StepRecord => ({
  step: n,
  epoch: 1,
  loss: 1 / n,
  learningRate: 1e-4,
  gradientNorm: 1,
  tokens,
  trainedTokens: 5,
  milliseconds,
});
const evaluation = (n: number): EvaluationRecord => ({
  step: n,
  loss: 1,
  exact: 0,
  relaxed: 0,
  examples: 1,
  samples: [],
});

describe("logs", () => {
  it("take a step, and take back what a checkpoint does not know", () => {
    const log = [step(1), step(2), step(3)];
    expect(withStep(log, step(4)).map((r) => r.step)).toEqual([1, 2, 3, 4]);
    expect(withStep(log, step(2)).map((r) => r.step)).toEqual([1, 2]);
    expect(withStep([], step(1)).map((r) => r.step)).toEqual([1]);
    expect(withEvaluation([evaluation(0), evaluation(4)], evaluation(2)).map((r) => r.step)).toEqual([0, 2]);
    expect(withEvaluation([], evaluation(0)).map((r) => r.step)).toEqual([0]);
    expect(withEvaluation([evaluation(0)], evaluation(0)).map((r) => r.step)).toEqual([0]);
  });
});

describe("smoothing", () => {
  it("starts at the first value and leaves a constant as it is", () => {
    expect(smooth([4, 4, 4])).toEqual([4, 4, 4]);
    expect(smooth([7, 1])[0]).toBe(7);
  });

  it("is the weighted mean, and nothing at weight 0", () => {
    // (0.5·1 + 3) / (0.5 + 1) and (0.25·1 + 0.5·3 + 2) / 1.75
    const [, second, third] = smooth([1, 3, 2], 0.5);
    expect(second).toBeCloseTo(3.5 / 1.5, 12);
    expect(third).toBeCloseTo(3.75 / 1.75, 12);
    expect(smooth([1, 5, 2], 0)).toEqual([1, 5, 2]);
  });

  it("passes over what is no number", () => {
    expect(smooth([2, Number.NaN, 2])).toEqual([2, 2, 2]);
    expect(smooth([Number.NaN, 3])).toEqual([Number.NaN, 3]);
  });
});

describe("speed", () => {
  it("is not guessed from the first step", () => {
    expect(secondsLeft([], 10)).toBeUndefined();
    expect(secondsLeft([step(1, 9000)], 10)).toBeUndefined();
    expect(secondsLeft([step(1, 9000), step(2, 100)], 12)).toBeCloseTo(1, 12);
  });

  it("follows the median, so that one slow step changes little", () => {
    const log = [step(1), step(2, 100), step(3, 100), step(4, 5000)];
    expect(secondsLeft(log, 14)).toBeCloseTo(1, 12);
  });

  it("is nothing after the last step", () => {
    expect(secondsLeft([step(1), step(2)], 2)).toBe(0);
  });

  it("is in tokens a second", () => {
    expect(tokensPerSecond([])).toBeUndefined();
    expect(tokensPerSecond([step(1, 10_000), step(2, 100, 50), step(3, 100, 150)])).toBeCloseTo(1000, 9);
  });

  it("is known from the newest run of the same model", () => {
    const run = (id: string, updated: number, log: StepRecord[]) =>
      ({ model: { id, name: "" }, updated, log }) as RunRecord;
    const runs = [run("a", 1, [step(1), step(2, 100, 10)]), run("a", 3, []), run("b", 4, [step(1), step(2, 100, 90)])];
    expect(knownSpeed(runs, "a")).toBeCloseTo(100, 9);
    expect(knownSpeed(runs, "c")).toBeUndefined();
  });
});

describe("comparing", () => {
  it("finds the scores before, and of the adapter that was kept", () => {
    const evaluations = [evaluation(0), evaluation(5), evaluation(10)];
    expect(beforeAndAfter({ evaluations, adapterStep: 5 })).toMatchObject({ before: { step: 0 }, after: { step: 5 } });
    expect(beforeAndAfter({ evaluations })).toMatchObject({ after: { step: 10 } });
    expect(beforeAndAfter({ evaluations, adapterStep: 7 })).toEqual({ before: evaluation(0) });
    expect(beforeAndAfter({ evaluations: [evaluation(0)] })).toEqual({ before: evaluation(0) });
    expect(beforeAndAfter({ evaluations: [] })).toEqual({});
  });

  it("says so where the adapter that is kept is not better than the base", () => {
    const worse = { ...evaluation(5), loss: evaluation(0).loss + 1 };
    const better = { ...evaluation(5), loss: evaluation(0).loss - 1 };
    const evaluations = [evaluation(0), worse];
    expect(notBetter({ evaluations, adapterStep: 5 })).toMatch(/^No step did better .* the last step, 5\. More rows/);
    expect(notBetter({ evaluations, adapterStep: 7 })).toMatch(/^It ended before .* the last step, 7, .* not scored/);
    expect(notBetter({ evaluations: [evaluation(0), better], adapterStep: 5 })).toBeUndefined();
    expect(notBetter({ evaluations })).toBeUndefined();
    expect(notBetter({ evaluations: [], adapterStep: 5 })).toBeUndefined();
  });

  it("names the settings that differ", () => {
    expect(
      differences([
        { a: 1, lora: { r: 8, on: true } },
        { a: 1, lora: { r: 16, on: true }, b: 2 },
      ]),
    ).toEqual([
      { path: "lora.r", values: ["8", "16"] },
      { path: "b", values: ["–", "2"] },
    ]);
    expect(differences([{ a: 1 }])).toEqual([]);
  });
});
