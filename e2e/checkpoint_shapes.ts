// Sizes, tensors and config files of Qwen3-VL checkpoints, for those that tests and tools make up.

/** What the sizes of a checkpoint follow from. */
export interface Shape {
  layers: number;
  hidden: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffn: number;
  tied: boolean;
  /** Rows of the embedding; Qwen's where it is missing. */
  vocabulary?: number;
  vision: { depth: number; hidden: number; heads: number; ffn: number; taps: number[]; positions: number };
}

/** What its values are around: 1 for the weights of norms, 0 for all else. */
export type TensorOf = [name: string, shape: number[], centre: 0 | 1];

const SMALL_TOWER = { depth: 24, hidden: 1024, heads: 16, ffn: 4096, taps: [5, 11, 17], positions: 2304 };
const LARGE_TOWER = { depth: 27, hidden: 1152, heads: 16, ffn: 4304, taps: [8, 16, 24], positions: 2304 };
const VOCABULARY = 151936;

/** Sizes of ../shared/spec/qwen3-vl.md §1; tiny is ours. */
export const PRESETS: Readonly<Record<"2b" | "4b" | "8b" | "32b" | "tiny", Shape>> = {
  "2b": text(28, 2048, 16, 8, 128, 6144, true, SMALL_TOWER),
  "4b": text(36, 2560, 32, 8, 128, 9728, true, SMALL_TOWER),
  "8b": text(36, 4096, 32, 8, 128, 12288, false, LARGE_TOWER),
  "32b": text(64, 5120, 64, 8, 128, 25600, false, LARGE_TOWER),
  tiny: text(4, 64, 4, 2, 32, 128, true, { depth: 4, hidden: 64, heads: 4, ffn: 128, taps: [0, 1, 2], positions: 64 }),
};

function text(
  layers: number,
  hidden: number,
  heads: number,
  kvHeads: number,
  headDim: number,
  ffn: number,
  tied: boolean,
  vision: Shape["vision"],
): Shape {
  return { layers, hidden, heads, kvHeads, headDim, ffn, tied, vision };
}

/** Every tensor in the order of the model. */
export function tensorList({
  layers,
  hidden,
  heads,
  kvHeads,
  headDim,
  ffn,
  tied,
  vision: v,
  vocabulary = VOCABULARY,
}: Shape): TensorOf[] {
  const list: TensorOf[] = [];
  const add = (name: string, shape: number[], centre: 0 | 1 = 0) => list.push([name, shape, centre]);
  const biased = (name: string, rows: number, ...cols: number[]) => {
    add(`${name}.weight`, [rows, ...cols]);
    add(`${name}.bias`, [rows]);
  };
  const layerNorm = (name: string, width: number) => {
    add(`${name}.weight`, [width], 1);
    add(`${name}.bias`, [width]);
  };
  const lm = "model.language_model.";
  add(`${lm}embed_tokens.weight`, [vocabulary, hidden]);
  for (let i = 0; i < layers; i++) {
    const at = `${lm}layers.${i}.`;
    add(`${at}input_layernorm.weight`, [hidden], 1);
    add(`${at}self_attn.q_proj.weight`, [heads * headDim, hidden]);
    add(`${at}self_attn.k_proj.weight`, [kvHeads * headDim, hidden]);
    add(`${at}self_attn.v_proj.weight`, [kvHeads * headDim, hidden]);
    add(`${at}self_attn.o_proj.weight`, [hidden, heads * headDim]);
    add(`${at}self_attn.q_norm.weight`, [headDim], 1);
    add(`${at}self_attn.k_norm.weight`, [headDim], 1);
    add(`${at}post_attention_layernorm.weight`, [hidden], 1);
    add(`${at}mlp.gate_proj.weight`, [ffn, hidden]);
    add(`${at}mlp.up_proj.weight`, [ffn, hidden]);
    add(`${at}mlp.down_proj.weight`, [hidden, ffn]);
  }
  add(`${lm}norm.weight`, [hidden], 1);
  const vt = "model.visual.";
  biased(`${vt}patch_embed.proj`, v.hidden, 3, 2, 16, 16);
  add(`${vt}pos_embed.weight`, [v.positions, v.hidden]);
  for (let i = 0; i < v.depth; i++) {
    const at = `${vt}blocks.${i}.`;
    layerNorm(`${at}norm1`, v.hidden);
    biased(`${at}attn.qkv`, 3 * v.hidden, v.hidden);
    biased(`${at}attn.proj`, v.hidden, v.hidden);
    layerNorm(`${at}norm2`, v.hidden);
    biased(`${at}mlp.linear_fc1`, v.ffn, v.hidden);
    biased(`${at}mlp.linear_fc2`, v.hidden, v.ffn);
  }
  const merger = (at: string, normWidth: number) => {
    layerNorm(`${at}.norm`, normWidth);
    biased(`${at}.linear_fc1`, 4 * v.hidden, 4 * v.hidden);
    biased(`${at}.linear_fc2`, hidden, 4 * v.hidden);
  };
  merger(`${vt}merger`, v.hidden);
  for (const j of v.taps.keys()) merger(`${vt}deepstack_merger_list.${j}`, 4 * v.hidden);
  if (!tied) add("lm_head.weight", [vocabulary, hidden]);
  return list;
}

/** config.json in the style in which Qwen published it. */
export function configOf({
  layers,
  hidden,
  heads,
  kvHeads,
  headDim,
  ffn,
  tied,
  vision: v,
  vocabulary = VOCABULARY,
}: Shape) {
  const half = headDim / 2;
  const side = Math.floor((half * 5) / 16);
  return {
    architectures: ["Qwen3VLForConditionalGeneration"],
    image_token_id: 151655,
    model_type: "qwen3_vl",
    text_config: {
      attention_bias: false,
      attention_dropout: 0.0,
      bos_token_id: 151643,
      dtype: "bfloat16",
      eos_token_id: 151645,
      head_dim: headDim,
      hidden_act: "silu",
      hidden_size: hidden,
      initializer_range: 0.02,
      intermediate_size: ffn,
      max_position_embeddings: 262144,
      model_type: "qwen3_vl_text",
      num_attention_heads: heads,
      num_hidden_layers: layers,
      num_key_value_heads: kvHeads,
      rms_norm_eps: 1e-6,
      rope_scaling: { mrope_interleaved: true, mrope_section: [half - 2 * side, side, side], rope_type: "default" },
      rope_theta: 5000000,
      tie_word_embeddings: tied,
      use_cache: true,
      vocab_size: vocabulary,
    },
    tie_word_embeddings: tied,
    transformers_version: "4.57.0",
    video_token_id: 151656,
    vision_config: {
      deepstack_visual_indexes: v.taps,
      depth: v.depth,
      hidden_act: "gelu_pytorch_tanh",
      hidden_size: v.hidden,
      in_channels: 3,
      initializer_range: 0.02,
      intermediate_size: v.ffn,
      model_type: "qwen3_vl",
      num_heads: v.heads,
      num_position_embeddings: v.positions,
      out_hidden_size: hidden,
      patch_size: 16,
      spatial_merge_size: 2,
      temporal_patch_size: 2,
    },
    vision_end_token_id: 151653,
    vision_start_token_id: 151652,
  };
}

export const PREPROCESSOR = {
  size: { longest_edge: 16777216, shortest_edge: 65536 },
  patch_size: 16,
  temporal_patch_size: 2,
  merge_size: 2,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
  processor_class: "Qwen3VLProcessor",
  image_processor_type: "Qwen2VLImageProcessorFast",
};
export const GENERATION = {
  bos_token_id: 151643,
  pad_token_id: 151643,
  do_sample: true,
  eos_token_id: [151645, 151643],
  top_p: 0.8,
  top_k: 20,
  temperature: 0.7,
  repetition_penalty: 1.0,
  transformers_version: "4.57.0",
};
