// A Hugging Face Qwen3-VL as llama.cpp's converter would write it: a language file and an mmproj file.

import { decodeFloats, type FileSet, openCheckpoint, type WeightDtype } from "../src/formats/index.ts";
import { findChatTemplate } from "../src/processor/index.ts";
import { type FileTensor, ggufFile, type MetaValue } from "./gguf_file.ts";
import { fittingType, type Quantized, quantize, TYPES, type TypeName } from "./gguf_quantize.ts";

export type Weights = ReadonlyMap<string, { shape: readonly number[]; data: Float32Array }>;

interface Rope {
  mrope_section: number[];
  rope_theta?: number;
}

/** The fields of config.json that the metadata needs. */
export interface PairConfig {
  text_config: {
    num_hidden_layers: number;
    max_position_embeddings: number;
    hidden_size: number;
    intermediate_size: number;
    num_attention_heads: number;
    num_key_value_heads: number;
    head_dim: number;
    vocab_size: number;
    rms_norm_eps: number;
    rope_theta?: number;
    rope_parameters?: Rope;
    rope_scaling?: Rope;
  };
  vision_config: {
    num_position_embeddings: number;
    patch_size: number;
    spatial_merge_size: number;
    hidden_size: number;
    intermediate_size: number;
    depth: number;
    num_heads: number;
    out_hidden_size: number;
    deepstack_visual_indexes: number[];
  };
}

export interface PairSource {
  /** config.json, tokenizer.json, and the chat template. */
  config: PairConfig;
  tokenizer: {
    added_tokens: { id: number; content: string; special: boolean }[];
    model: { vocab: Record<string, number>; merges: (string | [string, string])[] };
  };
  template: string;
  /** Under Hugging Face names, as Qwen writes them. */
  weights: Weights;
}

export interface GgufPairFiles {
  language: Uint8Array<ArrayBuffer>;
  vision: Uint8Array<ArrayBuffer>;
  /** What the two files are written from. */
  parts: Record<"language" | "vision", { metadata: Record<string, MetaValue>; tensors: FileTensor[] }>;
  /** What the files' bytes stand for, under Hugging Face names. */
  values: Map<string, Float32Array>;
  /** Type of each tensor under its Hugging Face name. */
  types: Map<string, TypeName>;
}

const LAYER: Record<string, string> = {
  input_layernorm: "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "self_attn.q_norm": "attn_q_norm",
  "self_attn.k_norm": "attn_k_norm",
  post_attention_layernorm: "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};
const BLOCK: Record<string, string> = {
  "attn.qkv": "attn_qkv",
  "attn.proj": "attn_out",
  norm1: "ln1",
  norm2: "ln2",
  "mlp.linear_fc1": "ffn_up",
  "mlp.linear_fc2": "ffn_down",
};

/** GGUF's name of a Hugging Face tensor; of the patch embedding, that of its first slice. */
export function ggufName(name: string, taps: readonly number[]): string {
  const language = name.replace(/^model\.language_model\./, "");
  const layer = /^layers\.(\d+)\.(.+)\.weight$/.exec(language);
  if (layer) return `blk.${layer[1]}.${LAYER[layer[2]!]}.weight`;
  const plain: Record<string, string> = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
  };
  if (plain[language]) return plain[language];
  const vision = name.replace(/^model\.visual\./, "");
  const block = /^blocks\.(\d+)\.(.+)\.(weight|bias)$/.exec(vision);
  if (block) return `v.blk.${block[1]}.${BLOCK[block[2]!]}.${block[3]}`;
  const merger = /^deepstack_merger_list\.(\d+)\.(linear_)?(norm|fc1|fc2)\.(weight|bias)$/.exec(vision);
  if (merger) return `v.deepstack.${taps[Number(merger[1])]}.${merger[3]}.${merger[4]}`;
  return vision
    .replace("patch_embed.proj", "v.patch_embd")
    .replace("pos_embed", "v.position_embd")
    .replace("merger.norm", "v.post_ln")
    .replace("merger.linear_fc1", "mm.0")
    .replace("merger.linear_fc2", "mm.2");
}

/**
 * What the mixes that end in M (Q4_K_M, Q5_K_M) give a matrix of the language model: Q6_K where it matters most, `base` elsewhere.
 * Source: checkpoint-formats.md §4.6.
 */
export function mixedType(
  name: string,
  { layers, tied }: { layers: number; tied: boolean },
  base: "Q4_K" | "Q5_K",
): TypeName {
  if (name.endsWith("embed_tokens.weight")) return tied ? "Q6_K" : base;
  if (name.endsWith("lm_head.weight")) return "Q6_K";
  const layer = /\.layers\.(\d+)\..*(v_proj|down_proj)\.weight$/.exec(name)?.[1];
  if (layer === undefined) return base;
  const [i, eighth] = [Number(layer), Math.floor(layers / 8)];
  return i < eighth || i >= Math.floor((7 * layers) / 8) || (i - eighth) % 3 === 2 ? "Q6_K" : base;
}

/** Vectors and position tables are never quantized. */
export function isPlain(name: string, shape: readonly number[]): boolean {
  return shape.length === 1 || name.endsWith("pos_embed.weight");
}

/** What the pair is made of, from a Hugging Face folder. */
export async function pairSource(files: FileSet): Promise<PairSource> {
  const checkpoint = await openCheckpoint(files);
  const weights = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const [name, { shape, dtype }] of checkpoint.tensors) {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    decodeFloats(dtype as WeightDtype, await checkpoint.readRows(name, 0, shape[0]!), data.length, data);
    weights.set(name, { shape, data });
  }
  const texts: Record<string, string> = {};
  for (const path of ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"]) {
    if (await files.has(path)) texts[path] = await files.text(path);
  }
  return {
    config: checkpoint.config as PairConfig,
    tokenizer: JSON.parse(await files.text("tokenizer.json")),
    template: findChatTemplate(texts),
    weights,
  };
}

/**
 * Writes the pair. `typeOf` gives the wished type of a matrix by its Hugging Face name; vectors and position tables are always F32, and rows that
 * do not fill blocks get what llama.cpp's quantizer would take.
 */
export function ggufPair(source: PairSource, typeOf: (name: string) => TypeName): GgufPairFiles {
  const taps = source.config.vision_config.deepstack_visual_indexes;
  const files: Record<"language" | "vision", FileTensor[]> = { language: [], vision: [] };
  const values = new Map<string, Float32Array>();
  const types = new Map<string, TypeName>();
  for (const [name, { shape, data }] of source.weights) {
    const isPatch = name.endsWith("patch_embed.proj.weight");
    const wished = isPatch && TYPES[typeOf(name)][1] > 1 ? "F16" : typeOf(name);
    const type = isPlain(name, shape) ? "F32" : fittingType(wished, isPatch ? 1 : shape.at(-1)!);
    types.set(name, type);
    const target = name.startsWith("model.visual.") ? files.vision : files.language;
    const to = ggufName(name, taps);
    if (isPatch) values.set(name, writePatch(target, to, shape, data, type));
    else {
      const done = quantize(type, data);
      values.set(name, done.values);
      target.push({ name: to, shape, type, bytes: done.bytes });
    }
  }
  const parts = {
    language: { metadata: languageMetadata(source), tensors: files.language },
    vision: { metadata: visionMetadata(source.config), tensors: files.vision },
  };
  const write = ({ metadata, tensors }: (typeof parts)["vision"]) => ggufFile(metadata, tensors);
  return { language: write(parts.language), vision: write(parts.vision), parts, values, types };
}

/** [C, channels, T, P, P] as T tensors [C, channels, P, P]. */
function writePatch(
  target: FileTensor[],
  name: string,
  shape: readonly number[],
  data: Float32Array,
  type: TypeName,
): Float32Array {
  const [c, channels, times, height, width] = shape as [number, number, number, number, number];
  const area = height * width;
  const values = new Float32Array(data.length);
  for (let t = 0; t < times; t++) {
    const slice = new Float32Array(c * channels * area);
    const each = (move: (whole: number, part: number) => void) => {
      for (let i = 0; i < c * channels; i++) move((i * times + t) * area, i * area);
    };
    each((whole, part) => slice.set(data.subarray(whole, whole + area), part));
    const done: Quantized = quantize(type, slice);
    each((whole, part) => values.set(done.values.subarray(part, part + area), whole));
    target.push({
      name: t === 0 ? name : `${name}.${t}`,
      shape: [c, channels, height, width],
      type,
      bytes: done.bytes,
    });
  }
  return values;
}

export function languageMetadata({
  config,
  tokenizer,
  template,
}: Omit<PairSource, "weights">): Record<string, MetaValue> {
  const text = config.text_config;
  const rope = (text.rope_parameters ?? text.rope_scaling)!;
  const tokens = Array.from({ length: text.vocab_size }, (_, id) => `[PAD${id}]`);
  const kinds = tokens.map(() => 5);
  for (const [token, id] of Object.entries(tokenizer.model.vocab)) {
    tokens[id] = token;
    kinds[id] = 1;
  }
  for (const { id, content, special } of tokenizer.added_tokens) {
    tokens[id] = content;
    kinds[id] = special ? 3 : 4;
  }
  const eos = tokenizer.added_tokens.find(({ content }) => content === "<|im_end|>")!.id;
  return {
    "general.architecture": ["string", "qwen3vl"],
    "general.type": ["string", "model"],
    "general.name": ["string", "Tiny"],
    "general.license": ["string", "apache-2.0"],
    "qwen3vl.block_count": ["u32", text.num_hidden_layers],
    "qwen3vl.context_length": ["u32", text.max_position_embeddings],
    "qwen3vl.embedding_length": ["u32", text.hidden_size],
    "qwen3vl.feed_forward_length": ["u32", text.intermediate_size],
    "qwen3vl.attention.head_count": ["u32", text.num_attention_heads],
    "qwen3vl.attention.head_count_kv": ["u32", text.num_key_value_heads],
    "qwen3vl.attention.key_length": ["u32", text.head_dim],
    "qwen3vl.attention.value_length": ["u32", text.head_dim],
    "qwen3vl.attention.layer_norm_rms_epsilon": ["f32", text.rms_norm_eps],
    "qwen3vl.rope.freq_base": ["f32", (rope.rope_theta ?? text.rope_theta)!],
    "qwen3vl.rope.dimension_sections": ["array", "i32", [...rope.mrope_section, 0]],
    "qwen3vl.n_deepstack_layers": ["u32", config.vision_config.deepstack_visual_indexes.length],
    "tokenizer.ggml.model": ["string", "gpt2"],
    "tokenizer.ggml.pre": ["string", "qwen2"],
    "tokenizer.ggml.tokens": ["array", "string", tokens],
    "tokenizer.ggml.token_type": ["array", "i32", kinds],
    "tokenizer.ggml.merges": [
      "array",
      "string",
      tokenizer.model.merges.map((m) => (typeof m === "string" ? m : m.join(" "))),
    ],
    "tokenizer.ggml.eos_token_id": ["u32", eos],
    "tokenizer.chat_template": ["string", template],
  };
}

export function visionMetadata(config: PairSource["config"]): Record<string, MetaValue> {
  const vision = config.vision_config;
  const taps = vision.deepstack_visual_indexes;
  return {
    "general.architecture": ["string", "clip"],
    "general.type": ["string", "mmproj"],
    "clip.has_vision_encoder": ["bool", true],
    "clip.projector_type": ["string", "qwen3vl_merger"],
    "clip.use_gelu": ["bool", true],
    "clip.vision.image_size": ["u32", Math.sqrt(vision.num_position_embeddings) * vision.patch_size],
    "clip.vision.patch_size": ["u32", vision.patch_size],
    "clip.vision.spatial_merge_size": ["u32", vision.spatial_merge_size],
    "clip.vision.embedding_length": ["u32", vision.hidden_size],
    "clip.vision.feed_forward_length": ["u32", vision.intermediate_size],
    "clip.vision.block_count": ["u32", vision.depth],
    "clip.vision.attention.head_count": ["u32", vision.num_heads],
    "clip.vision.attention.layer_norm_epsilon": ["f32", 1e-6],
    "clip.vision.projection_dim": ["u32", vision.out_hidden_size],
    "clip.vision.image_mean": ["array", "f32", [0.5, 0.5, 0.5]],
    "clip.vision.image_std": ["array", "f32", [0.5, 0.5, 0.5]],
    "clip.vision.is_deepstack_layers": [
      "array",
      "bool",
      Array.from({ length: vision.depth }, (_, i) => taps.includes(i)),
    ],
  };
}
