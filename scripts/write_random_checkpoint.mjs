// node scripts/write_random_checkpoint.mjs --preset 2b|4b|8b|32b|tiny --tokenizer DIR --out DIR [--shard-bytes N] [--seed N]
//
// Writes a Qwen3-VL checkpoint with true names, shapes and dtype (bf16) and random weights of a plausible size, for tests at full size:
// sharded safetensors with an index, the config files in the style in which Qwen published them, and the tokenizer of --tokenizer.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const SMALL_TOWER = { depth: 24, hidden: 1024, heads: 16, ffn: 4096, taps: [5, 11, 17], positions: 2304 };
const LARGE_TOWER = { depth: 27, hidden: 1152, heads: 16, ffn: 4304, taps: [8, 16, 24], positions: 2304 };
const VOCABULARY = 151936;

/** Sizes of ../shared/spec/qwen3-vl.md §1; tiny is ours. */
export const PRESETS = {
  "2b": text(28, 2048, 16, 8, 128, 6144, true, SMALL_TOWER),
  "4b": text(36, 2560, 32, 8, 128, 9728, true, SMALL_TOWER),
  "8b": text(36, 4096, 32, 8, 128, 12288, false, LARGE_TOWER),
  "32b": text(64, 5120, 64, 8, 128, 25600, false, LARGE_TOWER),
  tiny: text(4, 64, 4, 2, 32, 128, true, { depth: 4, hidden: 64, heads: 4, ffn: 128, taps: [0, 1, 2], positions: 64 }),
};

function text(layers, hidden, heads, kvHeads, headDim, ffn, tied, vision) {
  return { layers, hidden, heads, kvHeads, headDim, ffn, tied, vision };
}

/** [name, shape, centre] of every tensor in the order of the model; norm weights are around 1, all else around 0. */
export function tensorList({ layers, hidden, heads, kvHeads, headDim, ffn, tied, vision: v, vocabulary = VOCABULARY }) {
  const list = [];
  const add = (name, shape, centre = 0) => list.push([name, shape, centre]);
  const biased = (name, rows, cols) => {
    add(`${name}.weight`, [rows, ...(Array.isArray(cols) ? cols : [cols])]);
    add(`${name}.bias`, [rows]);
  };
  const layerNorm = (name, width) => {
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
  biased(`${vt}patch_embed.proj`, v.hidden, [3, 2, 16, 16]);
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
  const merger = (at, normWidth) => {
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
export function configOf({ layers, hidden, heads, kvHeads, headDim, ffn, tied, vision: v, vocabulary = VOCABULARY }) {
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
const GENERATION = {
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

const DEVIATION = 0.02;
const BLOCK = 1 << 20;
const BLOCKS = 8;

/** bf16 values around a centre: BLOCKS blocks of BLOCK normal values. */
function randomBlocks(seed, centre) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const float = new Float32Array(1);
  const bits = new Uint32Array(float.buffer);
  const out = new Uint16Array(BLOCKS * BLOCK);
  for (let i = 0; i < out.length; i += 2) {
    const radius = DEVIATION * Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    for (const [k, z] of [radius * Math.cos(angle), radius * Math.sin(angle)].entries()) {
      float[0] = centre + z;
      out[i + k] = (bits[0] + 0x8000) >>> 16;
    }
  }
  return Buffer.from(out.buffer);
}

/** Cuts the list into files of at most `limit` bytes of tensors. */
function cutIntoShards(list, limit) {
  const shards = [[]];
  let bytes = 0;
  for (const [name, shape, centre] of list) {
    const size = 2 * shape.reduce((product, n) => product * n, 1);
    if (bytes + size > limit && bytes > 0) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1).push({ name, shape, centre, size });
    bytes += size;
  }
  return shards;
}

async function writeShard(path, tensors, blocks, shift) {
  const header = { __metadata__: { format: "pt" } };
  let end = 0;
  for (const { name, shape, size } of tensors) {
    header[name] = { dtype: "BF16", shape, data_offsets: [end, end + size] };
    end += size;
  }
  const json = Buffer.from(JSON.stringify(header));
  const start = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, " ");
  start.writeBigUInt64LE(BigInt(start.length - 8));
  json.copy(start, 8);
  const file = await open(path, "w");
  await file.write(start);
  for (const { centre, size } of tensors) {
    const source = blocks[centre];
    for (let left = size; left > 0; ) {
      // Every write begins elsewhere in the random numbers (a prime number of values further), so rows do not repeat nearby.
      shift.value = (shift.value + 2 * 1_299_709) % (source.length / 2);
      const at = shift.value;
      const length = Math.min(left, source.length - at);
      await file.write(source, at, length);
      left -= length;
    }
  }
  await file.close();
  return start.length + end;
}

async function main() {
  const { values } = parseArgs({
    options: {
      preset: { type: "string" },
      tokenizer: { type: "string" },
      out: { type: "string" },
      "shard-bytes": { type: "string", default: "5000000000" },
      seed: { type: "string", default: "1" },
    },
  });
  const preset = PRESETS[values.preset];
  if (!preset || !values.tokenizer || !values.out) {
    throw new Error(
      "usage: write_random_checkpoint.mjs --preset 2b|4b|8b|32b|tiny --tokenizer DIR --out DIR [--shard-bytes N] [--seed N]",
    );
  }
  mkdirSync(values.out, { recursive: true });
  const json = (name, value) => writeFileSync(join(values.out, name), `${JSON.stringify(value, null, 2)}\n`);
  json("config.json", configOf(preset));
  json("preprocessor_config.json", PREPROCESSOR);
  json("generation_config.json", GENERATION);
  for (const name of ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json"]) {
    if (existsSync(join(values.tokenizer, name)))
      writeFileSync(join(values.out, name), readFileSync(join(values.tokenizer, name)));
  }
  const started = performance.now();
  const blocks = [0, 1].map((centre) => randomBlocks(Number(values.seed) + centre, centre));
  const shards = cutIntoShards(tensorList(preset), Number(values["shard-bytes"]));
  const map = {};
  const shift = { value: 0 };
  let total = 0;
  for (const [i, tensors] of shards.entries()) {
    const number = (n) => String(n).padStart(5, "0");
    const name =
      shards.length === 1 ? "model.safetensors" : `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    await writeShard(join(values.out, name), tensors, blocks, shift);
    for (const tensor of tensors) {
      map[tensor.name] = name;
      total += tensor.size;
    }
  }
  if (shards.length > 1) json("model.safetensors.index.json", { metadata: { total_size: total }, weight_map: map });
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `${values.out}: ${Object.keys(map).length} tensors, ${total} bytes in ${shards.length} files, ${seconds.toFixed(1)} s, ${(total / 1e6 / seconds).toFixed(0)} MB/s`,
  );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  main().catch((error) => {
    console.error(error.message);
    process.exit(1);
  });
}
