import { expect, test } from "vitest";
import { randomFrom, shuffled } from "../random.ts";
import { TrainingOrder, tokenWeight } from "./order.ts";

const settings = { examples: 23, batchSize: 2, accumulation: 4, seed: 3407 };

test("every epoch takes each example once, in another order, and the last step what is left", () => {
  const order = new TrainingOrder(settings);
  expect(order.stepsPerEpoch).toBe(3);
  const epochs = [0, 1].map((e) => [0, 1, 2].flatMap((k) => order.step(3 * e + k).microBatches.flat()));
  for (const epoch of epochs) expect([...epoch].sort((a, b) => a - b)).toEqual([...Array(23).keys()]);
  expect(epochs[0]).not.toEqual(epochs[1]);
  expect(order.step(1).microBatches.map((m) => m.length)).toEqual([2, 2, 2, 2]);
  expect(order.step(2).microBatches.map((m) => m.length)).toEqual([2, 2, 2, 1]);
  expect([order.step(2).epoch, order.step(3).epoch]).toEqual([0, 1]);
});

test("a step depends on its number alone, so a run goes on where it was", () => {
  const first = new TrainingOrder(settings);
  const seen = Array.from({ length: 12 }, (_, k) => first.step(k));
  expect(new TrainingOrder(settings).step(10)).toEqual(seen[10]);
  expect(first.step(4)).toEqual(seen[4]);
  expect(new TrainingOrder({ ...settings, seed: 1 }).step(0)).not.toEqual(seen[0]);
});

test("tokens of a step weigh alike, whatever micro-batch they are in", () => {
  const step = { epoch: 0, microBatches: [[0, 1], [2]] };
  expect(tokenWeight(step, (i) => [3, 5, 92][i]!)).toBe(1 / 100);
  expect(tokenWeight(step, () => 0)).toBe(0);
});

test("orders are fair: every place sees every number about as often", () => {
  const counts = Array.from({ length: 5 }, () => Array<number>(5).fill(0));
  for (let seed = 0; seed < 5000; seed++)
    for (const [place, value] of shuffled(5, seed).entries()) counts[place]![value]!++;
  for (const count of counts.flat()) expect(Math.abs(count - 1000)).toBeLessThan(150);
});

test("random numbers: fixed by the seeds, spread over [0, 1)", () => {
  const take = (n: number, ...seeds: number[]) => {
    const random = randomFrom(...seeds);
    return Array.from({ length: n }, random);
  };
  expect(take(4, 3407)).toEqual(take(4, 3407));
  expect(take(4, 3407, 0)).not.toEqual(take(4, 3407, 1));
  expect(take(4, 2 ** 40)).not.toEqual(take(4, 0));
  const many = take(20_000, 1);
  expect(Math.min(...many)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...many)).toBeLessThan(1);
  expect(Math.abs(many.reduce((a, b) => a + b) / many.length - 0.5)).toBeLessThan(0.01);
});
