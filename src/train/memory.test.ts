import { expect, test } from "vitest";
import type { TrainSettings } from "../training_records.ts";
import { type ExampleSize, planTrainingMemory, reductions } from "./memory.ts";
import { DEFAULT_SETTINGS } from "./settings.ts";

const manifest = {
  slots: [{ name: "m", sources: [], rows: 8, cols: 64, scheme: "f32" as const }],
  config: {
    ...{ model_type: "qwen3_vl", tie_word_embeddings: true, image_token_id: 60, video_token_id: 61 },
    ...{ vision_start_token_id: 58, vision_end_token_id: 59 },
    text_config: {
      ...{ hidden_size: 32, intermediate_size: 48, num_hidden_layers: 4, num_attention_heads: 4 },
      ...{ num_key_value_heads: 2, head_dim: 16, vocab_size: 64, rms_norm_eps: 1e-6, rope_theta: 10000 },
      rope_scaling: { rope_type: "default", mrope_interleaved: true, mrope_section: [4, 2, 2] },
    },
    vision_config: {
      ...{ hidden_size: 24, intermediate_size: 40, depth: 4, num_heads: 2, patch_size: 4, temporal_patch_size: 2 },
      ...{ spatial_merge_size: 2, in_channels: 3, out_hidden_size: 32, num_position_embeddings: 16 },
      ...{ deepstack_visual_indexes: [0, 1, 2], hidden_act: "gelu_pytorch_tanh" },
    },
  },
};
const settings: TrainSettings = { ...DEFAULT_SETTINGS, batchSize: 2, accumulation: 4 };
const chat = { answering: 1000, encoding: 500 };

/** A row with one square picture of so many patches along each side. */
const example = (tokens: number, side: number, pictureId = `${side}`): ExampleSize => ({
  ids: { length: tokens },
  images: [
    {
      ...{ pictureId, width: 4 * side, height: 4 * side, resizedWidth: 4 * side, resizedHeight: 4 * side },
      ...{ grid: [1, side, side] as const, start: 0, tokens: (side * side) / 4 },
    },
  ],
});
const halved = ({ ids, images }: ExampleSize): ExampleSize => ({
  ids: { length: ids.length - images[0]!.tokens / 2 },
  images: [{ ...images[0]!, tokens: images[0]!.tokens / 2 }],
});
const total = (of: TrainSettings, examples: readonly ExampleSize[]) =>
  planTrainingMemory(manifest, of, examples, chat).total;

test("bytes by purpose", () => {
  const examples = [example(40, 8), example(100, 16), example(30, 16)];
  const { bytes, total: sum, largest } = planTrainingMemory(manifest, settings, examples, chat);
  expect(bytes.weights).toBe(8 * 64 * 4);
  expect(bytes.answering).toBe(1000);
  // The longest row may meet another as long: 200 tokens; inputs of 4 blocks and the output of the last.
  expect(bytes.checkpoints).toBe(5 * 200 * 32 * 4);
  // E and three taps of the two pictures, a token for four patches; each picture once.
  expect(bytes.pictures).toBe(500 + 4 * (16 + 64) * 32 * 4);
  expect(bytes.gradients).toBe(bytes.adapter);
  expect(sum).toBe(Object.values(bytes).reduce((a, b) => a + b, 0));
  expect(largest).toBeGreaterThanOrEqual(2 * 48 * 200 * 4);
  const tower = { ...settings.lora, parts: { ...settings.lora.parts, visionMlp: true } };
  const more = planTrainingMemory(manifest, { ...settings, lora: tower }, examples, chat).bytes;
  expect(more.checkpoints - bytes.checkpoints).toBe(5 * 512 * 24 * 4);
  expect(more.pictures).toBe(500);
});

test("what helps, by as much as it does", () => {
  const parts = { ...settings.lora.parts, visionMlp: true };
  const now: TrainSettings = { ...settings, optimizer: "adamw", dropout: 0.1, lora: { ...settings.lora, parts } };
  const examples = [...Array.from({ length: 19 }, () => example(60, 8)), example(400, 16)];
  const found = reductions(now, examples, halved, total);
  expect(found.map(({ words }) => words)).toEqual(
    expect.arrayContaining([
      "One row at a time, as many to a step",
      "Rows of at most 60 tokens; 1 row is left out",
      "Pictures of half the size",
      "Leave the vision tower as it is",
      "Rank 8",
      "8-bit optimizer",
      "No dropout",
    ]),
  );
  expect(found.map(({ saves }) => saves)).toEqual(found.map(({ saves }) => saves).sort((a, b) => b - a));
  const one = found.find(({ words }) => words.startsWith("One row"))!;
  expect(one.settings).toMatchObject({ batchSize: 1, accumulation: 8 });
  expect(one.saves).toBe(total(now, examples) - total(one.settings, examples));
  const short = found.find(({ words }) => words.startsWith("Rows of"))!;
  expect(short.saves).toBe(total(now, examples) - total(now, examples.slice(0, 19)));
  expect(found.find(({ words }) => words === "Rank 8")!.settings.lora).toMatchObject({ r: 8, alpha: 8 });
  expect(found.find(({ words }) => words.startsWith("Leave"))!.settings.lora.parts).toEqual(settings.lora.parts);
});

test("nothing is offered that would not help", () => {
  const least: TrainSettings = { ...settings, batchSize: 1, maxPixels: 50_176, lora: { ...settings.lora, r: 4 } };
  expect(reductions(least, [example(60, 8), example(60, 8)], halved, total)).toEqual([]);
  expect(reductions(settings, [], halved, total)).toEqual([]);
});
