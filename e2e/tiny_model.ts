import { parseConfig } from "../src/models/qwen3_vl/config.ts";
import type { ReferenceWeights } from "./reference_model.ts";

/** The tiny model of qwen3-vl.md §11.1 and §11.2, whose every weight follows from its name, and the input of its vectors. */

export function seedOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

export function stream(seed: number): () => number {
  let s = seed;
  return () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function tensor(name: string, shape: readonly number[]) {
  const next = stream(seedOf(name));
  const size = shape.reduce((a, b) => a * b, 1);
  const scale = Math.sqrt((3 * shape[0]!) / size);
  const data = Float32Array.from({ length: size }, () => {
    const x = 2 * next() - 1;
    if (name.endsWith(".bias")) return 0.05 * x;
    if (name.includes("norm")) return 1 + 0.1 * x;
    if (/embed_tokens|pos_embed|^pixel_values$/.test(name)) return x;
    return name.includes("lora_B") ? 0.1 * x * scale : x * scale;
  });
  return { shape, data };
}

/** Its config.json. */
export const configJson = {
  model_type: "qwen3_vl",
  tie_word_embeddings: true,
  image_token_id: 60,
  video_token_id: 61,
  vision_start_token_id: 58,
  vision_end_token_id: 59,
  text_config: {
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    vocab_size: 64,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    rope_scaling: { rope_type: "default", mrope_interleaved: true, mrope_section: [4, 2, 2] },
  },
  vision_config: {
    hidden_size: 24,
    intermediate_size: 40,
    depth: 4,
    num_heads: 2,
    patch_size: 4,
    temporal_patch_size: 2,
    spatial_merge_size: 2,
    num_position_embeddings: 36,
    out_hidden_size: 32,
    deepstack_visual_indexes: [0, 1, 2],
  },
};

export const config = parseConfig(configJson);

export function tinyWeights(): ReferenceWeights {
  const weights = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  const put = (name: string, ...shape: number[]) => weights.set(name, tensor(name, shape));
  const linear = (name: string, rows: number, cols: number) => {
    put(`${name}.weight`, rows, cols);
    put(`${name}.bias`, rows);
  };
  const layerNorm = (name: string, width: number) => {
    put(`${name}.weight`, width);
    put(`${name}.bias`, width);
  };
  const lm = "model.language_model.";
  put(`${lm}embed_tokens.weight`, 64, 32);
  put(`${lm}norm.weight`, 32);
  for (let i = 0; i < 4; i++) {
    const layer = `${lm}layers.${i}.`;
    put(`${layer}input_layernorm.weight`, 32);
    put(`${layer}post_attention_layernorm.weight`, 32);
    put(`${layer}self_attn.q_proj.weight`, 64, 32);
    put(`${layer}self_attn.k_proj.weight`, 32, 32);
    put(`${layer}self_attn.v_proj.weight`, 32, 32);
    put(`${layer}self_attn.o_proj.weight`, 32, 64);
    put(`${layer}self_attn.q_norm.weight`, 16);
    put(`${layer}self_attn.k_norm.weight`, 16);
    put(`${layer}mlp.gate_proj.weight`, 48, 32);
    put(`${layer}mlp.up_proj.weight`, 48, 32);
    put(`${layer}mlp.down_proj.weight`, 32, 48);
  }
  const vt = "model.visual.";
  put(`${vt}patch_embed.proj.weight`, 24, 3, 2, 4, 4);
  put(`${vt}patch_embed.proj.bias`, 24);
  put(`${vt}pos_embed.weight`, 36, 24);
  for (let i = 0; i < 4; i++) {
    const block = `${vt}blocks.${i}.`;
    layerNorm(`${block}norm1`, 24);
    layerNorm(`${block}norm2`, 24);
    linear(`${block}attn.qkv`, 72, 24);
    linear(`${block}attn.proj`, 24, 24);
    linear(`${block}mlp.linear_fc1`, 40, 24);
    linear(`${block}mlp.linear_fc2`, 24, 40);
  }
  for (const [merger, width] of [
    ["merger", 24],
    ["deepstack_merger_list.0", 96],
    ["deepstack_merger_list.1", 96],
    ["deepstack_merger_list.2", 96],
  ] as const) {
    layerNorm(`${vt}${merger}.norm`, width);
    linear(`${vt}${merger}.linear_fc1`, 96, 96);
    linear(`${vt}${merger}.linear_fc2`, 32, 96);
  }
  return weights;
}

const [VS, VE, I] = [58, 59, 60];
export const IDS = [
  3,
  1,
  4,
  1,
  5,
  VS,
  ...Array(6).fill(I),
  VE,
  9,
  2,
  6,
  VS,
  ...Array(8).fill(I),
  VE,
  5,
  3,
  5,
  8,
  9,
  7,
  9,
];
export const GRIDS = [
  [1, 4, 6],
  [1, 8, 4],
] as const;
