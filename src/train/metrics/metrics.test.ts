import { describe, expect, test } from "vitest";
import { accuracyOf, isExactMatch, isRelaxedMatch } from "./accuracy.ts";
import { runCsv } from "./run_record.ts";

describe("relaxed accuracy", () => {
  test.each<[expected: string, found: string, isRight: boolean]>([
    ["100", "100", true],
    ["100", "105", true],
    ["100", "95.0", true],
    ["100", "105.01", false],
    ["-40", "-41", true],
    ["-40", "40", false],
    ["2014", "2013", true],
    ["12%", "12.5 %", true],
    ["12%", "0.12", true],
    ["12%", "12", false],
    ["0.5", ".5", true],
    ["1e3", "1020", true],
    ["0", "0", true],
    ["0", "0.0", false],
    ["0", "0.001", false],
    ["Yes", "yes", true],
    ["Yes", " YES\n", true],
    ["Yes", "Yes.", false],
    ["1,200", "1,200", true],
    ["1,200", "1200", false],
    ["12 cm", "12", false],
    ["Apple", "Apples", false],
    ["5", "", false],
    ["5", "five", false],
    ["[Red, Blue]", "[red, blue]", true],
  ])("expected %s, found %s: %s", (expected, found, isRight) => {
    expect(isRelaxedMatch(expected, found)).toBe(isRight);
  });

  test("exact match knows neither case nor nearness", () => {
    expect([isExactMatch("5", " 5\n"), isExactMatch("5", "5.0"), isExactMatch("Yes", "yes")]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test("shares of a set", () => {
    const answers = [
      { expected: "100", found: "101" },
      { expected: "a", found: "a" },
      { expected: "a", found: "b" },
      { expected: "B", found: "b" },
    ];
    expect(accuracyOf(answers)).toEqual({ exact: 0.25, relaxed: 0.75, examples: 4 });
    expect(accuracyOf([])).toEqual({ exact: 0, relaxed: 0, examples: 0 });
  });
});

test("the log as CSV: a line for each step, scores on the line of their step, step 0 before training", () => {
  const step = (n: number) => ({
    step: n,
    epoch: 0,
    loss: 1 / n,
    learningRate: 2e-4,
    gradientNorm: 0.5,
    tokens: 300,
    trainedTokens: 12,
    milliseconds: 600.4,
  });
  const scores = (n: number, relaxed: number) => ({ step: n, loss: 2, exact: 0.1, relaxed, examples: 10, samples: [] });
  const csv = runCsv({ log: [step(1), step(2)], evaluations: [scores(0, 0.2), scores(2, 0.6)] });
  const lines = csv.split("\r\n");
  expect(lines[0]!.split(",").length).toBe(12);
  expect(lines.slice(1)).toEqual([
    "0,,,,,,,,,2,0.1,0.2",
    "1,0,1,0.0002,0.5,300,12,600,500,,,",
    "2,0,0.5,0.0002,0.5,300,12,600,500,2,0.1,0.6",
    "",
  ]);
});
