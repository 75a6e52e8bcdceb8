import { expect, test } from "vitest";
import { referencePick } from "./sample.cases.ts";

const settings = {
  ...{ temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, presencePenalty: 0, ends: [], limit: 6 },
};
const LOGITS = [2, 1.5, 1, 0, -1, -3];
const DRAWS = 20_000;

/** Chi-square statistic of the draws against what the settings leave of the softmax. */
function chiSquare(
  overrides: Partial<typeof settings>,
  probabilities: number[],
  draw: (i: number) => [number, number],
) {
  const counts = new Array<number>(LOGITS.length).fill(0);
  for (let i = 0; i < DRAWS; i++) {
    const [seed, step] = draw(i);
    counts[referencePick(LOGITS, new Uint8Array(6), { ...settings, ...overrides, seed }, step).pick]!++;
  }
  let sum = 0;
  probabilities.forEach((p, id) => {
    if (p === 0) expect(counts[id], `token ${id} was cut`).toBe(0);
    else sum += (counts[id]! - p * DRAWS) ** 2 / (p * DRAWS);
  });
  return sum;
}

function softmax(kept: number[], temperature = 1): number[] {
  const e = LOGITS.map((l, id) => (kept.includes(id) ? Math.exp(l / temperature) : 0));
  const total = e.reduce((a, b) => a + b);
  return e.map((v) => v / total);
}

// The kernel cases prove that the shader draws what this reference draws; here, that the reference draws from the right distribution.
// Five degrees of freedom: above 25.7 in one of 10,000 honest runs. The draws are the same each time, so this passes or fails for good.
test.each<[string, Partial<typeof settings>, number[]]>([
  ["the whole softmax", {}, softmax([0, 1, 2, 3, 4, 5])],
  ["temperature 0.5", { temperature: 0.5 }, softmax([0, 1, 2, 3, 4, 5], 0.5)],
  ["top-k 3", { topK: 3 }, softmax([0, 1, 2])],
  // The first two have 0.72 of the mass, the first three 0.90.
  ["top-p 0.8", { topP: 0.8 }, softmax([0, 1, 2])],
  // exp(0 − 2) = 0.135, exp(1 − 2) = 0.37.
  ["min-p 0.2", { minP: 0.2 }, softmax([0, 1, 2])],
])("draws follow %s, over steps and over seeds", (_, overrides, probabilities) => {
  expect(chiSquare(overrides, probabilities, (i) => [7, i])).toBeLessThan(25.7);
  expect(chiSquare(overrides, probabilities, (i) => [i, 3])).toBeLessThan(25.7);
});
