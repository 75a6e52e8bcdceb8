import { shown, TabTuneError } from "../../errors.ts";

/** The decoder: qwen3-vl.md §1.1. */
export interface TextConfig {
  hiddenSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  intermediateSize: number;
  vocabSize: number;
  rmsNormEps: number;
  ropeTheta: number;
  /** Frequencies of the t, h and w axis; they add up to headDim / 2. */
  mropeSection: readonly [number, number, number];
  maxPositionEmbeddings: number;
  tieWordEmbeddings: boolean;
}

/** The vision tower: qwen3-vl.md §1.2. */
export interface VisionConfig {
  depth: number;
  hiddenSize: number;
  numHeads: number;
  intermediateSize: number;
  inChannels: number;
  patchSize: number;
  temporalPatchSize: number;
  spatialMergeSize: number;
  numPositionEmbeddings: number;
  outHiddenSize: number;
  /** Blocks whose output is tapped; tap i is added after decoder layer i, where there is one. */
  deepstackVisualIndexes: readonly number[];
  ropeTheta: number;
}

/** A dense Qwen3-VL, read from config.json and checked. */
export interface Qwen3VLConfig {
  text: TextConfig;
  vision: VisionConfig;
  imageTokenId: number;
  videoTokenId: number;
  visionStartTokenId: number;
  visionEndTokenId: number;
}

type Json = Record<string, unknown>;

function bad(field: string, expected: string, found: unknown): TabTuneError {
  return new TabTuneError("BadCheckpoint", `config.json: ${field}: expected ${expected}, found ${shown(found)}.`);
}

function object(value: unknown, field: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad(field, "an object", value);
  return value as Json;
}

/** A section of the config that reads its numbers with bounds. */
class Section {
  #json: Json;
  #name: string;

  constructor(json: Json, name: string) {
    this.#json = json;
    this.#name = name;
  }

  get(field: string): unknown {
    return this.#json[field];
  }

  count(
    field: string,
    options: { multipleOf?: number; fallback?: number; least?: number; most?: number } = {},
  ): number {
    const { multipleOf = 1, fallback, least = 1, most = 2 ** 24 } = options;
    const value = this.#json[field] ?? fallback;
    const of = multipleOf > 1 ? ` and a multiple of ${multipleOf}` : "";
    if (
      !Number.isInteger(value) ||
      (value as number) < least ||
      (value as number) > most ||
      (value as number) % multipleOf
    ) {
      throw bad(`${this.#name}${field}`, `a whole number from ${least} to ${most}${of}`, value);
    }
    return value as number;
  }

  positive(field: string, fallback: number): number {
    const value = this.#json[field] ?? fallback;
    if (typeof value !== "number" || !(value > 0) || !Number.isFinite(value)) {
      throw bad(`${this.#name}${field}`, "a positive number", value);
    }
    return value;
  }
}

/**
 * Reads config.json in either way of writing (`rope_scaling` + `rope_theta`, or `rope_parameters`) and checks every field.
 * Throws `UnsupportedModel` for another architecture, by name, and `BadCheckpoint` for a field that cannot be right.
 */
export function parseConfig(json: unknown): Qwen3VLConfig {
  const top = object(json, "the file");
  refuseOthers(top);
  const text = parseText(object(top.text_config, "text_config"), top);
  const vision = parseVision(object(top.vision_config, "vision_config"));
  if (vision.outHiddenSize !== text.hiddenSize) {
    throw bad("vision_config.out_hidden_size", `${text.hiddenSize}, the decoder's hidden_size`, vision.outHiddenSize);
  }
  const section = new Section(top, "");
  const id = (field: string, fallback: number) =>
    section.count(field, { fallback, least: 0, most: text.vocabSize - 1 });
  return {
    text,
    vision,
    imageTokenId: id("image_token_id", 151655),
    videoTokenId: id("video_token_id", 151656),
    visionStartTokenId: id("vision_start_token_id", 151652),
    visionEndTokenId: id("vision_end_token_id", 151653),
  };
}

/** Throws `UnsupportedModel` for everything but a dense Qwen3-VL in 16 or 32 bits. */
function refuseOthers(top: Json): void {
  const type = top.model_type;
  const isMoe = type === "qwen3_vl_moe";
  if (type !== "qwen3_vl") {
    const architectures = Array.isArray(top.architectures) ? ` (${top.architectures.join(", ")})` : "";
    const what = isMoe ? ", a mixture of experts" : "";
    throw new TabTuneError(
      "UnsupportedModel",
      `This checkpoint is a ${String(type ?? "model of unnamed type")}${architectures}${what}. TabTune runs dense Qwen3-VL (model_type qwen3_vl): 2B, 4B, 8B, 32B and models fine-tuned from them.`,
    );
  }
}

function parseText(json: Json, top: Json): TextConfig {
  const s = new Section(json, "text_config.");
  const found = json.rope_parameters ?? json.rope_scaling ?? top.rope_parameters ?? top.rope_scaling ?? {};
  const rope = object(found, "text_config.rope_parameters");
  const headDim = s.count("head_dim", { multipleOf: 4, most: 128 });
  const heads = s.count("num_attention_heads");
  const kvHeads = s.count("num_key_value_heads");
  if (heads % kvHeads) throw bad("text_config.num_key_value_heads", `a divisor of ${heads} heads`, kvHeads);
  if (heads / kvHeads > 16) throw bad("text_config.num_key_value_heads", `at least ${heads / 16}`, kvHeads);
  const section = rope.mrope_section;
  const sections = Array.isArray(section) ? section : undefined;
  const isSplit = sections?.length === 3 && sections.every((n) => Number.isInteger(n) && n >= 0);
  if (!isSplit || sections.reduce((a: number, b: number) => a + b, 0) !== headDim / 2) {
    throw bad("text_config rope mrope_section", `three whole numbers that add up to ${headDim / 2}`, section);
  }
  if (rope.mrope_interleaved === false) throw bad("text_config rope mrope_interleaved", "true", false);
  const ropeType = rope.rope_type ?? rope.type ?? "default";
  if (ropeType !== "default" && ropeType !== "mrope") throw bad("text_config rope_type", '"default"', ropeType);
  const theta = rope.rope_theta ?? json.rope_theta ?? 5_000_000;
  if (typeof theta !== "number" || !(theta > 1)) throw bad("text_config.rope_theta", "a number above 1", theta);
  if ((json.hidden_act ?? "silu") !== "silu") throw bad("text_config.hidden_act", '"silu"', json.hidden_act);
  if (json.attention_bias === true) throw bad("text_config.attention_bias", "false", true);
  return {
    hiddenSize: s.count("hidden_size", { multipleOf: 4 }),
    numHiddenLayers: s.count("num_hidden_layers", { most: 1024 }),
    numAttentionHeads: heads,
    numKeyValueHeads: kvHeads,
    headDim,
    intermediateSize: s.count("intermediate_size", { multipleOf: 4 }),
    vocabSize: s.count("vocab_size"),
    rmsNormEps: s.positive("rms_norm_eps", 1e-6),
    ropeTheta: theta,
    mropeSection: sections as [number, number, number],
    maxPositionEmbeddings: s.count("max_position_embeddings", { fallback: 262144 }),
    tieWordEmbeddings: (top.tie_word_embeddings ?? json.tie_word_embeddings ?? false) === true,
  };
}

function parseVision(json: Json): VisionConfig {
  const s = new Section(json, "vision_config.");
  const hiddenSize = s.count("hidden_size", { multipleOf: 4 });
  const depth = s.count("depth", { most: 1024 });
  const numHeads = s.count("num_heads");
  const headDim = hiddenSize / numHeads;
  if (headDim % 4 || headDim > 128)
    throw bad("vision_config.num_heads", "heads of a multiple of 4, at most 128", numHeads);
  const act = json.hidden_act ?? "gelu_pytorch_tanh";
  if (act !== "gelu_pytorch_tanh") throw bad("vision_config.hidden_act", '"gelu_pytorch_tanh"', act);
  const taps = json.deepstack_visual_indexes ?? [];
  const isTap = (t: unknown, i: number, all: unknown[]) =>
    Number.isInteger(t) && (t as number) > (i > 0 ? (all[i - 1] as number) : -1) && (t as number) < depth;
  if (!Array.isArray(taps) || !taps.every(isTap)) {
    throw bad("vision_config.deepstack_visual_indexes", `ascending block numbers below ${depth}`, taps);
  }
  const positions = s.count("num_position_embeddings");
  if (!Number.isInteger(Math.sqrt(positions)))
    throw bad("vision_config.num_position_embeddings", "a square", positions);
  const rope = new Section(object(json.rope_parameters ?? {}, "vision_config.rope_parameters"), "vision_config rope ");
  return {
    depth,
    hiddenSize,
    numHeads,
    intermediateSize: s.count("intermediate_size", { multipleOf: 4 }),
    inChannels: s.count("in_channels", { fallback: 3, most: 3, least: 3 }),
    patchSize: s.count("patch_size", { fallback: 16, multipleOf: 2 }),
    temporalPatchSize: s.count("temporal_patch_size", { fallback: 2, most: 16 }),
    spatialMergeSize: s.count("spatial_merge_size", { fallback: 2, least: 2, most: 2 }),
    numPositionEmbeddings: positions,
    outHiddenSize: s.count("out_hidden_size"),
    deepstackVisualIndexes: taps as number[],
    ropeTheta: rope.positive("rope_theta", 10000),
  };
}
