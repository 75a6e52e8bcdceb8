import { TabTuneError } from "../../errors.ts";
import type { GgufFile } from "./container.ts";
import { Metadata } from "./metadata.ts";
import { deepstackBlocks, type NamedTensor } from "./names.ts";

/** The projector that a Qwen3-VL's mmproj file names. */
const PROJECTOR = "qwen3vl_merger";

/** Mean and deviation that a converter writes when it found no preprocessor config: CLIP's own, which no Qwen3-VL was trained with. */
const CLIP_MEAN = 0.48145466;

/** What Qwen publishes, in pixels; the files do not say it. Source: qwen3-vl.md §3. */
const MIN_PIXELS = 65536;
const MAX_PIXELS = 16777216;

/**
 * Throws `BadCheckpoint` when the two files are not halves of one model, `UnsupportedModel` when the vision tower is another one's.
 */
export function checkPair(language: GgufFile, vision: GgufFile): void {
  const [text, clip] = [new Metadata(language), new Metadata(vision)];
  const projector = clip.text("clip.projector_type") ?? clip.text("clip.vision.projector_type");
  if (projector !== PROJECTOR) {
    throw new TabTuneError(
      "UnsupportedModel",
      `${vision.path}: expected the vision tower of a Qwen3-VL (clip.projector_type ${PROJECTOR}), found ${projector ?? "no such key"}. Take the mmproj file from where ${language.path} comes from.`,
    );
  }
  const width = text.number("qwen3vl.embedding_length");
  const projected = clip.number("clip.vision.projection_dim");
  if (projected !== width) {
    throw new TabTuneError(
      "BadCheckpoint",
      `${vision.path} does not belong to ${language.path}: the language model is ${width} wide, but the vision tower gives ${projected}. Take both from the same size of the model.`,
    );
  }
  const [taps, expected] = [deepstackBlocks(vision).length, text.number("qwen3vl.n_deepstack_layers", 3)];
  if (taps !== expected) {
    throw new TabTuneError(
      "BadCheckpoint",
      `${vision.path} does not belong to ${language.path}: expected ${expected} deepstack mergers, found ${taps}. Take both from the same model.`,
    );
  }
}

/** config.json as Hugging Face would have it, of the metadata of both files and the shapes of their tensors. */
export function configOf(
  language: GgufFile,
  vision: GgufFile,
  tensors: ReadonlyMap<string, NamedTensor>,
  tokenIds: ReadonlyMap<string, number>,
): Record<string, unknown> {
  const tied = !tensors.has("lm_head.weight");
  const ids = {
    image_token_id: "<|image_pad|>",
    video_token_id: "<|video_pad|>",
    vision_start_token_id: "<|vision_start|>",
    vision_end_token_id: "<|vision_end|>",
  };
  return {
    architectures: ["Qwen3VLForConditionalGeneration"],
    model_type: "qwen3_vl",
    tie_word_embeddings: tied,
    text_config: textConfig(new Metadata(language), shapeOf(tensors, "model.language_model.embed_tokens.weight")),
    vision_config: visionConfig(vision, tensors),
    ...Object.fromEntries(
      Object.entries(ids).map(([field, token]) => {
        const id = tokenIds.get(token);
        if (id !== undefined) return [field, id];
        throw new Metadata(language).bad("tokenizer.ggml.tokens", `a token ${token}`, "none of that name");
      }),
    ),
  };
}

function textConfig(meta: Metadata, embedding: readonly number[]): Record<string, unknown> {
  const get = (key: string, fallback?: number) => meta.number(`qwen3vl.${key}`, fallback);
  const heads = get("attention.head_count");
  const headDim = get("attention.key_length", get("embedding_length") / heads);
  const valueLength = get("attention.value_length", headDim);
  if (valueLength !== headDim) {
    throw meta.bad("qwen3vl.attention.value_length", `${headDim}, as attention.key_length`, valueLength);
  }
  return {
    model_type: "qwen3_vl_text",
    hidden_size: get("embedding_length"),
    intermediate_size: get("feed_forward_length"),
    num_hidden_layers: get("block_count"),
    num_attention_heads: heads,
    num_key_value_heads: get("attention.head_count_kv", heads),
    head_dim: headDim,
    vocab_size: embedding[0],
    rms_norm_eps: rounded(get("attention.layer_norm_rms_epsilon")),
    max_position_embeddings: get("context_length"),
    rope_parameters: {
      rope_type: "default",
      rope_theta: get("rope.freq_base"),
      mrope_interleaved: true,
      mrope_section: meta.numbers("qwen3vl.rope.dimension_sections")?.slice(0, 3),
    },
  };
}

function visionConfig(vision: GgufFile, tensors: ReadonlyMap<string, NamedTensor>): Record<string, unknown> {
  const meta = new Metadata(vision);
  const get = (key: string, fallback?: number) => meta.number(`clip.vision.${key}`, fallback);
  const patch = shapeOf(tensors, "model.visual.patch_embed.proj.weight");
  const taps = deepstackBlocks(vision);
  const flags = meta.flags("clip.vision.is_deepstack_layers");
  const flagged = flags?.flatMap((is, block) => (is ? [block] : []));
  if (flagged && flagged.join() !== taps.join()) {
    throw meta.bad("clip.vision.is_deepstack_layers", `true at ${taps.join(", ")}, where the mergers are`, flagged);
  }
  return {
    model_type: "qwen3_vl_vision",
    depth: get("block_count"),
    hidden_size: get("embedding_length"),
    intermediate_size: get("feed_forward_length"),
    num_heads: get("attention.head_count"),
    in_channels: patch[1],
    temporal_patch_size: patch[2],
    patch_size: get("patch_size"),
    spatial_merge_size: get("spatial_merge_size", 2),
    num_position_embeddings: shapeOf(tensors, "model.visual.pos_embed.weight")[0],
    out_hidden_size: get("projection_dim"),
    deepstack_visual_indexes: taps,
  };
}

/** preprocessor_config.json as Hugging Face would have it. */
export function preprocessorOf(vision: GgufFile, config: Record<string, unknown>): Record<string, unknown> {
  const meta = new Metadata(vision);
  const { patch_size, temporal_patch_size, spatial_merge_size } = config.vision_config as Record<string, unknown>;
  const mean = meta.numbers("clip.vision.image_mean")?.map(rounded);
  const std = meta.numbers("clip.vision.image_std")?.map(rounded);
  const isClips = Math.abs((mean?.[0] ?? 0) - CLIP_MEAN) < 1e-6;
  return {
    image_processor_type: "Qwen2VLImageProcessor",
    patch_size,
    temporal_patch_size,
    merge_size: spatial_merge_size,
    size: {
      shortest_edge: meta.number("clip.vision.image_min_pixels", MIN_PIXELS),
      longest_edge: meta.number("clip.vision.image_max_pixels", MAX_PIXELS),
    },
    image_mean: mean && !isClips ? mean : [0.5, 0.5, 0.5],
    image_std: std && !isClips ? std : [0.5, 0.5, 0.5],
  };
}

/** generation_config.json: the token that ends a turn, and the sampling where the file recommends one. */
export function generationOf(language: GgufFile): Record<string, unknown> {
  const meta = new Metadata(language);
  const eos = meta.has("tokenizer.ggml.eos_token_id") ? [meta.number("tokenizer.ggml.eos_token_id")] : [];
  const sampling = Object.entries({ temperature: "temp", top_k: "top_k", top_p: "top_p" }).flatMap(([field, key]) =>
    meta.has(`general.sampling.${key}`) ? [[field, rounded(meta.number(`general.sampling.${key}`))]] : [],
  );
  return { eos_token_id: eos, do_sample: sampling.length > 0, ...Object.fromEntries(sampling) };
}

/** The decimal that an f32 was written from. */
function rounded(value: number): number {
  return Number(value.toPrecision(7));
}

function shapeOf(tensors: ReadonlyMap<string, NamedTensor>, name: string): readonly number[] {
  const tensor = tensors.get(name);
  if (tensor) return tensor.shape;
  throw new TabTuneError(
    "BadCheckpoint",
    `expected a tensor that becomes ${name}, found none among ${tensors.size}. Are both files whole Qwen3-VL files?`,
  );
}
