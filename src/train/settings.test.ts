import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { loraModules, parseConfig } from "../models/index.ts";
import type { LoraParts } from "../models/qwen3_vl/trainable.ts";
import { countTrainable, initialValues, trainableLine } from "./lora/init.ts";
import { learningRateAt } from "./schedule.ts";
import { checkSettings, DEFAULT_SETTINGS } from "./settings.ts";

/** Sizes of the published models: qwen3-vl.md §1.1 and §1.2. */
const SIZES = {
  "2B": { h: 2048, l: 28, q: 16, ffn: 6144, v: 1024, depth: 24, vffn: 4096, taps: [5, 11, 17], tied: true },
  "4B": { h: 2560, l: 36, q: 32, ffn: 9728, v: 1024, depth: 24, vffn: 4096, taps: [5, 11, 17], tied: true },
  "8B": { h: 4096, l: 36, q: 32, ffn: 12288, v: 1152, depth: 27, vffn: 4304, taps: [8, 16, 24], tied: false },
  "32B": { h: 5120, l: 64, q: 64, ffn: 25600, v: 1152, depth: 27, vffn: 4304, taps: [8, 16, 24], tied: false },
};
function configOf(size: keyof typeof SIZES) {
  const { h, l, q, ffn, v, depth, vffn, taps, tied } = SIZES[size];
  return parseConfig({
    model_type: "qwen3_vl",
    tie_word_embeddings: tied,
    text_config: {
      hidden_size: h,
      num_hidden_layers: l,
      num_attention_heads: q,
      num_key_value_heads: 8,
      head_dim: 128,
      intermediate_size: ffn,
      vocab_size: 151936,
      rope_scaling: { rope_type: "default", mrope_interleaved: true, mrope_section: [24, 20, 20] },
    },
    vision_config: {
      depth,
      hidden_size: v,
      num_heads: 16,
      intermediate_size: vffn,
      out_hidden_size: h,
      num_position_embeddings: 2304,
      deepstack_visual_indexes: taps,
    },
  });
}
const NONE: LoraParts = {
  languageAttention: false,
  languageMlp: false,
  visionAttention: false,
  visionMlp: false,
  mergers: false,
};
const LANGUAGE = { ...NONE, languageAttention: true, languageMlp: true };
const VISION = { ...NONE, visionAttention: true, visionMlp: true };

/** qwen3-vl.md §9.2: counted by PEFT for r = 16 on 2B, 4B, 8B and 32B. */
test.each<[string, LoraParts, number[]]>([
  ["language, all seven linears", LANGUAGE, [17_432_576, 33_030_144, 43_646_976, 134_217_728]],
  ["language attention", { ...NONE, languageAttention: true }, [6_422_528, 11_796_480, 15_335_424, 39_845_888]],
  ["language MLP", { ...NONE, languageMlp: true }, [11_010_048, 21_233_664, 28_311_552, 94_371_840]],
  ["vision blocks", VISION, [6_291_456, 6_291_456, 7_699_968, 7_699_968]],
  [
    "language and vision",
    { ...VISION, languageAttention: true, languageMlp: true },
    [23_724_032, 39_321_600, 51_346_944, 141_917_696],
  ],
  [
    "mergers too",
    { ...VISION, languageAttention: true, languageMlp: true, mergers: true },
    [24_641_536, 40_271_872, 52_493_824, 143_130_112],
  ],
])("trainable parameters: %s", (_, parts, counts) => {
  const sizes = ["2B", "4B", "8B", "32B"] as const;
  expect(sizes.map((size) => countTrainable(loraModules(configOf(size), parts), 16))).toEqual(counts);
});

test("the line as users know it", () => {
  const modules = loraModules(configOf("8B"), LANGUAGE);
  expect(trainableLine(countTrainable(modules, 16), 8_767_123_696)).toBe(
    "Trainable parameters = 43,646,976 of 8,810,770,672 (0.50% trained)",
  );
});

test("the number of tensors is PEFT's, two for each module", () => {
  const all = { ...VISION, languageAttention: true, languageMlp: true };
  expect(2 * loraModules(configOf("4B"), LANGUAGE).length).toBe(504);
  expect(2 * loraModules(configOf("4B"), all).length).toBe(696);
  expect(2 * loraModules(configOf("4B"), { ...all, mergers: true }).length).toBe(712);
});

describe("settings", () => {
  test("the defaults are those of the issue and can be used", () => {
    expect(checkSettings(DEFAULT_SETTINGS)).toEqual([]);
    expect(DEFAULT_SETTINGS).toMatchObject({
      lora: { r: 16, alpha: 16, rslora: false },
      learningRate: 2e-4,
      warmup: 5,
      weightDecay: 0.001,
      schedule: "linear",
      seed: 3407,
      maxPixels: 448 * 448,
    });
  });

  test.each<[string, object, RegExp]>([
    ["learningRate", { learningRate: Number.NaN }, /a number above 0, at most 0\.1/],
    ["learningRate", { learningRate: 0 }, /above 0/],
    ["learningRate", { learningRate: "2e-4" }, /a number/],
    ["learningRate", { learningRate: Number.POSITIVE_INFINITY }, /a number/],
    ["r", { lora: { ...DEFAULT_SETTINGS.lora, r: 1.5 } }, /a whole number from 1 to 512/],
    ["alpha", { lora: { ...DEFAULT_SETTINGS.lora, alpha: -1 } }, /above 0/],
    ["dropout", { dropout: 1 }, /from 0 to 0\.9/],
    ["batchSize", { batchSize: 9 }, /from 1 to 8/],
    ["epochs", { epochs: undefined }, /whole number/],
    ["schedule", { schedule: "square" }, /linear, cosine, constant/],
    ["parts", { lora: { ...DEFAULT_SETTINGS.lora, parts: NONE } }, /at least one/],
  ])("%s of %o is refused with a reason", (field, change, expected) => {
    const problems = checkSettings({ ...DEFAULT_SETTINGS, ...change });
    expect(problems.map((p) => p.field)).toEqual([field]);
    expect(problems[0]!.expected).toMatch(expected);
    expect(problems[0]!.remedy).not.toBe("");
  });
});

describe("learning rate", () => {
  const rates = (kind: "linear" | "cosine" | "constant", warmup = 2) =>
    Array.from({ length: 7 }, (_, k) => learningRateAt(k, { kind, learningRate: 1, warmup, steps: 6 }));

  test("rises over the warm-up from nothing, then falls as each kind says", () => {
    expect(rates("constant")).toEqual([0, 0.5, 1, 1, 1, 1, 1]);
    expect(rates("linear")).toEqual([0, 0.5, 1, 0.75, 0.5, 0.25, 0]);
    const cosine = [0, 0.5, 1, 0.5 + Math.SQRT1_2 / 2, 0.5, 0.5 - Math.SQRT1_2 / 2, 0];
    rates("cosine").forEach((rate, k) => {
      expect(rate).toBeCloseTo(cosine[k]!, 14);
    });
  });

  test("a warm-up below 1 is a share, rounded up; none begins at the top", () => {
    expect(rates("linear", 0.2)).toEqual(rates("linear", 2));
    expect(rates("linear", 0)[0]).toBe(1);
  });

  const reference = "../shared/reference/s-0/cases.json";
  test.skipIf(!existsSync(reference))("is the reference's at every step", () => {
    const { train } = JSON.parse(readFileSync(reference, "utf8"));
    const schedule = { kind: train.schedule, learningRate: train.lr, warmup: train.warmup, steps: train.steps };
    expect(train.lr_per_step.length).toBe(12);
    train.lr_per_step.forEach((rate: number, k: number) => {
      expect(learningRateAt(k, schedule)).toBeCloseTo(rate, 15);
    });
  });
});

test("a new adapter: B is zero, A uniform in ±1/√in, fixed by seed and name", () => {
  const [a, b] = ["m.q_proj.lora_A.weight", "m.q_proj.lora_B.weight"];
  expect(new Set(initialValues(b!, [64, 16], 1))).toEqual(new Set([0]));
  const values = initialValues(a!, [16, 400], 3407);
  expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(Math.fround(1 / 20));
  expect(Math.max(...values)).toBeGreaterThan(0.0499);
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length;
  expect(Math.abs(mean)).toBeLessThan(0.001);
  expect(variance * 3 * 400).toBeCloseTo(1, 1);
  expect(initialValues(a!, [16, 400], 3407)).toEqual(values);
  expect(initialValues(a!, [16, 400], 3408)).not.toEqual(values);
  expect(initialValues("m.k_proj.lora_A.weight", [16, 400], 3407)).not.toEqual(values);
});
