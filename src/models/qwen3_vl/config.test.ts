import { describe, expect, it, test } from "vitest";
import { configOf, PREPROCESSOR, PRESETS, tensorList } from "../../../e2e/checkpoint_shapes.ts";
import { parseConfig } from "./config.ts";
import { parseGenerationConfig, parseProcessorConfig } from "./processor_config.ts";
import { slotShapes } from "./weights.ts";

type Json = Record<string, unknown> & { text_config: Record<string, unknown>; vision_config: Record<string, unknown> };
/** config.json of the 4B model, changed. */
const config = (change: (json: Json) => void = () => undefined): Json => {
  const json = structuredClone(configOf(PRESETS["4b"])) as unknown as Json;
  change(json);
  return json;
};
const failure = (name: string, message: RegExp) =>
  expect.objectContaining({ name, message: expect.stringMatching(message) });

describe("config.json", () => {
  const published = parseConfig(config());

  it("is read as Qwen publishes it", () => {
    expect(published.text).toMatchObject({ ropeTheta: 5e6, mropeSection: [24, 20, 20], tieWordEmbeddings: true });
    expect(published.vision).toMatchObject({ depth: 24, numHeads: 16, ropeTheta: 10000 });
    expect(published.imageTokenId).toBe(151655);
  });

  it("means the same in the newer way of writing", () => {
    const newer = config(({ text_config: text }) => {
      const { rope_scaling, rope_theta } = text;
      delete text.rope_scaling;
      delete text.rope_theta;
      text.rope_parameters = { ...(rope_scaling as object), rope_theta };
    });
    expect(parseConfig(newer)).toEqual(published);
  });

  it("takes the tie of the embeddings from either place", () => {
    const tied = (top: unknown, text: unknown) =>
      parseConfig(
        config(
          (json) =>
            Object.assign(json, { tie_word_embeddings: top }) &&
            Object.assign(json.text_config, { tie_word_embeddings: text }),
        ),
      ).text.tieWordEmbeddings;
    expect([tied(undefined, true), tied(true, undefined), tied(false, true), tied(undefined, undefined)]).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });

  it.each(Object.keys(PRESETS))("%s: all sizes are read", (preset) => {
    expect(() => parseConfig(configOf(PRESETS[preset as keyof typeof PRESETS]))).not.toThrow();
  });

  it.each<[keyof typeof PRESETS, number | undefined, boolean]>([
    ["2b", 2_127_532_032, true],
    ["4b", 4_437_815_808, true],
    ["8b", 8_767_123_696, false],
    ["32b", undefined, false],
  ])("%s: every weight is there, with a head of its own or without", (size, parameters, tied) => {
    const of = (tie: boolean) => {
      const json = structuredClone(configOf(PRESETS[size])) as unknown as Json;
      Object.assign(json, { tie_word_embeddings: tie });
      Object.assign(json.text_config, { tie_word_embeddings: tie });
      return slotShapes(parseConfig(json));
    };
    const count = (shapes: ReturnType<typeof of>) => [...shapes.values()].reduce((sum, [r, c]) => sum + r * c, 0);
    const listed = tensorList(PRESETS[size]).map(([, shape]) => shape.reduce((a: number, b: number) => a * b, 1));
    expect(count(of(tied))).toBe(listed.reduce((a: number, b: number) => a + b));
    // checkpoint-formats.md §9, which has no 32B.
    if (parameters) expect(count(of(tied))).toBe(parameters);
    expect([of(true).has("language.head"), of(false).has("language.head")]).toEqual([false, true]);
    expect(of(false).get("language.head")).toEqual(of(false).get("language.embed"));
  });

  it.each<[string, string, RegExp]>([
    [
      "qwen3_vl_moe",
      "Qwen3VLMoeForConditionalGeneration",
      /qwen3_vl_moe \(Qwen3VLMoe.*mixture of experts.*2B, 4B, 8B, 32B/,
    ],
    ["qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", /qwen2_5_vl \(Qwen2_5_VLForConditionalGeneration\)/],
    ["llama", "LlamaForCausalLM", /llama \(LlamaForCausalLM\)/],
  ])("another architecture is refused by its name: %s", (type, architecture, message) => {
    const other = config((json) => Object.assign(json, { model_type: type, architectures: [architecture] }));
    expect(() => parseConfig(other)).toThrow(failure("UnsupportedModel", message));
  });

  it("what the config says of quantization changes nothing here: the tensors decide", () => {
    const quantized = config((json) => Object.assign(json, { quantization_config: { quant_method: "awq" } }));
    expect(parseConfig(quantized)).toEqual(parseConfig(config(() => undefined)));
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ["no text model", { text_config: null }, /text_config: expected an object/],
    ["no layers", { text_config: { num_hidden_layers: 0 } }, /num_hidden_layers: expected a whole number from 1/],
    ["a size that is text", { text_config: { hidden_size: "2560" } }, /hidden_size.*found "2560"/],
    ["heads that do not divide", { text_config: { num_key_value_heads: 5 } }, /divisor of 32 heads, found 5/],
    ["sections of another sum", { text_config: { rope_scaling: { mrope_section: [24, 20, 21] } } }, /add up to 64/],
    [
      "stretched positions",
      { text_config: { rope_scaling: { mrope_section: [24, 20, 20], rope_type: "yarn" } } },
      /rope_type.*"yarn"/,
    ],
    ["towers of another width", { vision_config: { out_hidden_size: 2048 } }, /2560.*found 2048/],
    ["taps out of order", { vision_config: { deepstack_visual_indexes: [5, 3] } }, /ascending.*\[5,3\]/],
    ["a tap beyond the last block", { vision_config: { deepstack_visual_indexes: [24] } }, /below 24/],
    ["a position table that is no square", { vision_config: { num_position_embeddings: 2300 } }, /a square/],
    ["an unknown activation", { text_config: { hidden_act: "relu" } }, /hidden_act.*"relu"/],
    ["a picture token beyond the vocabulary", { image_token_id: 200000 }, /image_token_id/],
  ])("%s is refused by field", (_, change, message) => {
    const changed: Record<string, unknown> = config();
    for (const [field, value] of Object.entries(change)) {
      const isSection = typeof value === "object" && value !== null;
      changed[field] = isSection ? { ...(changed[field] as object), ...value } : value;
    }
    expect(() => parseConfig(changed)).toThrow(failure("BadCheckpoint", message));
  });
});

describe("what the processor does", () => {
  const model = parseConfig(config());
  const parse = (texts: Record<string, unknown>) =>
    parseProcessorConfig(
      Object.fromEntries(Object.entries(texts).map(([path, json]) => [path, JSON.stringify(json)])),
      model,
    );

  it("is read from either file, and the older one wins", () => {
    const old = parse({ "preprocessor_config.json": PREPROCESSOR });
    expect(old).toMatchObject({ patchSize: 16, minPixels: 65536, maxPixels: 16777216, mean: [0.5, 0.5, 0.5] });
    expect(parse({ "processor_config.json": { image_processor: PREPROCESSOR } })).toEqual(old);
    const other = { ...PREPROCESSOR, size: { shortest_edge: 1024, longest_edge: 2048 } };
    const both = { "preprocessor_config.json": PREPROCESSOR, "processor_config.json": { image_processor: other } };
    expect(parse(both)).toEqual(old);
  });

  it("takes the names of older releases, and the bounds of videos", () => {
    const { size: _, ...rest } = PREPROCESSOR;
    const found = parse({
      "preprocessor_config.json": { ...rest, min_pixels: 3136, max_pixels: 12845056 },
      "video_preprocessor_config.json": { size: { shortest_edge: 4096, longest_edge: 25165824 } },
    });
    expect(found).toMatchObject({
      minPixels: 3136,
      maxPixels: 12845056,
      video: { minPixels: 4096, maxPixels: 25165824 },
    });
  });

  it.each<[string, object, RegExp]>([
    ["another patch", { patch_size: 14 }, /patch_size: expected 16 as in config\.json, found 14/],
    ["no resizing", { do_resize: false }, /do_resize/],
    ["another filter", { resample: 2 }, /resample: expected 3, found 2/],
    ["bounds the wrong way round", { size: { shortest_edge: 9000, longest_edge: 100 } }, /longest_edge/],
    ["a scale of nothing", { image_std: [0.5, 0, 0.5] }, /image_std: expected three positive numbers/],
  ])("%s is refused by field", (_, change, message) => {
    const json = { ...PREPROCESSOR, ...change };
    expect(() => parse({ "preprocessor_config.json": json })).toThrow(failure("BadCheckpoint", message));
  });
});

test("generation_config.json: one end or several, sampling only where it is asked for", () => {
  const parse = (json?: object) => parseGenerationConfig(json && JSON.stringify(json));
  expect(parse()).toEqual({ endTokenIds: [], sampling: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1 } });
  expect(parse({ eos_token_id: 5 }).endTokenIds).toEqual([5]);
  const sampled = { eos_token_id: [5, 6], do_sample: true, top_p: 0.8, top_k: 20, temperature: 0.7 };
  expect(parse(sampled)).toMatchObject({ endTokenIds: [5, 6], sampling: { temperature: 0.7, topK: 20, topP: 0.8 } });
  expect(parse({ ...sampled, do_sample: false }).sampling.temperature).toBe(0);
});
