import { expect, test } from "vitest";
import { configOf, PRESETS } from "../../e2e/checkpoint_shapes.ts";
import type { Checkpoint } from "../formats/index.ts";
import type { Gpu } from "../gpu/index.ts";
import { parseConfig, weightSlots } from "../models/index.ts";
import { judge } from "./worker_memory.ts";

const GB = 1e9;
/** A GPU that binds 2 GiB; nothing is allocated. */
const variants = { subgroups: false, half: false, matrix: undefined };
const gpu = { maxBytes: 2 ** 31, variants } as unknown as Gpu;
const judged = (size: keyof typeof PRESETS) => {
  const config = parseConfig(configOf(PRESETS[size]));
  const tensors = { has: () => true, get: () => undefined } as unknown as Checkpoint["tensors"];
  return { config, slots: weightSlots(config, { tensors } as Checkpoint, "q4a32") };
};
const wish = { contextLength: 8192, rank: 16 };
const room = (bytes: number, isAll = true) => ({ bytes, isAll });

test("the 4B model by purpose; what was measured on a real GPU is in the README", () => {
  const verdict = judge(gpu, judged("4b"), wish, undefined);
  expect(verdict.weights / GB).toBeGreaterThan(3.2);
  expect(verdict.weights / GB).toBeLessThan(3.5);
  // 36 layers, 8 heads of 128, k and v, nine bits.
  expect(verdict.cache).toBe((36 * 8 * 128 * 2 * 8192 * 9) / 8);
  expect((verdict.weights + verdict.training) / GB).toBeGreaterThan(4);
  expect((verdict.weights + verdict.training) / GB).toBeLessThan(5.5);
  expect([verdict.measured, verdict.chatFits, verdict.trainingFits]).toEqual([undefined, undefined, undefined]);
});

test.each<[number, boolean, boolean, number | undefined, number]>([
  [24 * GB, true, true, 131072, 128],
  [5.4 * GB, true, true, 16384, 16],
  [4.2 * GB, false, false, 4096, 0],
  [3 * GB, false, false, undefined, 0],
])("4B with %d bytes", (bytes, ...expected) => {
  const verdict = judge(gpu, judged("4b"), wish, room(bytes));
  const { chatFits, trainingFits, bestContext, bestRank } = verdict;
  expect([chatFits, trainingFits, bestContext, bestRank]).toEqual(expected);
});

test("the largest rank that fits is one that would be told to fit, and the next is not", () => {
  const at = (rank: number) => judge(gpu, judged("4b"), { ...wish, rank }, undefined);
  const { weights, training } = at(32);
  const { bestRank } = judge(gpu, judged("4b"), wish, room(weights + training));
  expect(bestRank).toBe(32);
  expect(judge(gpu, judged("4b"), { ...wish, rank: 64 }, room(weights + training)).trainingFits).toBe(false);
  expect(judge(gpu, judged("4b"), wish, room(weights + training - 1)).bestRank).toBe(16);
});

test("a test that was not pushed to the end says yes, but never no", () => {
  const verdict = judge(gpu, judged("4b"), wish, room(4.2 * GB, false));
  expect([verdict.chatFits, verdict.trainingFits]).toEqual([undefined, undefined]);
});

test("a higher rank and a longer context cost more; a device that binds little shortens the context", () => {
  const of = (contextLength: number, rank: number) => judge(gpu, judged("2b"), { contextLength, rank }, undefined);
  expect(of(8192, 64).training).toBeGreaterThan(of(8192, 8).training);
  expect(of(32768, 8).cache).toBe(4 * of(8192, 8).cache);
  const small = judge(
    { maxBytes: 128 << 20, variants } as unknown as Gpu,
    judged("2b"),
    { contextLength: 262144, rank: 8 },
    undefined,
  );
  expect(small.contextLength).toBe(small.longestContext);
  expect(small.longestContext).toBeLessThan(262144);
});
