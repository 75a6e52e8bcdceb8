import { TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import type { GgufFile } from "./container.ts";

/** GGUF's spelling of a Qwen3-VL's weights, by file. A number that stands for a layer is written N. Source: checkpoint-formats.md §4.6. */
const LANGUAGE: Readonly<Record<string, string>> = {
  "token_embd.weight": "model.language_model.embed_tokens.weight",
  "output_norm.weight": "model.language_model.norm.weight",
  "output.weight": "lm_head.weight",
  "blk.N.attn_norm.weight": "model.language_model.layers.N.input_layernorm.weight",
  "blk.N.attn_q.weight": "model.language_model.layers.N.self_attn.q_proj.weight",
  "blk.N.attn_k.weight": "model.language_model.layers.N.self_attn.k_proj.weight",
  "blk.N.attn_v.weight": "model.language_model.layers.N.self_attn.v_proj.weight",
  "blk.N.attn_output.weight": "model.language_model.layers.N.self_attn.o_proj.weight",
  "blk.N.attn_q_norm.weight": "model.language_model.layers.N.self_attn.q_norm.weight",
  "blk.N.attn_k_norm.weight": "model.language_model.layers.N.self_attn.k_norm.weight",
  "blk.N.ffn_norm.weight": "model.language_model.layers.N.post_attention_layernorm.weight",
  "blk.N.ffn_gate.weight": "model.language_model.layers.N.mlp.gate_proj.weight",
  "blk.N.ffn_up.weight": "model.language_model.layers.N.mlp.up_proj.weight",
  "blk.N.ffn_down.weight": "model.language_model.layers.N.mlp.down_proj.weight",
};

/** The same of the vision tower's modules, each with a weight and a bias. Source: checkpoint-formats.md §4.7. */
const VISION_MODULES: Readonly<Record<string, string>> = {
  "v.blk.N.attn_qkv": "model.visual.blocks.N.attn.qkv",
  "v.blk.N.attn_out": "model.visual.blocks.N.attn.proj",
  "v.blk.N.ln1": "model.visual.blocks.N.norm1",
  "v.blk.N.ln2": "model.visual.blocks.N.norm2",
  "v.blk.N.ffn_up": "model.visual.blocks.N.mlp.linear_fc1",
  "v.blk.N.ffn_down": "model.visual.blocks.N.mlp.linear_fc2",
  "v.post_ln": "model.visual.merger.norm",
  "mm.0": "model.visual.merger.linear_fc1",
  "mm.2": "model.visual.merger.linear_fc2",
  "v.deepstack.N.norm": "model.visual.deepstack_merger_list.N.norm",
  "v.deepstack.N.fc1": "model.visual.deepstack_merger_list.N.linear_fc1",
  "v.deepstack.N.fc2": "model.visual.deepstack_merger_list.N.linear_fc2",
};

const PATCH = "v.patch_embd.weight";
const VISION: Readonly<Record<string, string>> = {
  [PATCH]: "model.visual.patch_embed.proj.weight",
  "v.patch_embd.bias": "model.visual.patch_embed.proj.bias",
  "v.position_embd.weight": "model.visual.pos_embed.weight",
  ...Object.fromEntries(
    Object.entries(VISION_MODULES).flatMap(([from, to]) =>
      ["weight", "bias"].map((of) => [`${from}.${of}`, `${to}.${of}`]),
    ),
  ),
};

/** A tensor under its Hugging Face name, and where its values lie. */
export interface NamedTensor extends TensorInfo {
  /**
   * The tensors of the file that it is made of: one, or the slices of the patch embedding in time. Row c of the whole is then, for each
   * channel, that channel of each slice.
   */
  slices: TensorInfo[];
}

/** The blocks of the vision tower whose output is tapped, ascending: GGUF numbers the mergers by them, Hugging Face from 0 on. */
export function deepstackBlocks(vision: GgufFile): number[] {
  const found = vision.tensors.flatMap(({ name }) => /^v\.deepstack\.(\d+)\.norm\.weight$/.exec(name)?.[1] ?? []);
  return found.map(Number).sort((a, b) => a - b);
}

/** Hugging Face names for all tensors of the two files. Throws `BadCheckpoint` for one that a Qwen3-VL does not have. */
export function nameTensors(language: readonly GgufFile[], vision: GgufFile): Map<string, NamedTensor> {
  const named = new Map<string, NamedTensor>();
  const put = (tensor: NamedTensor) => {
    const other = named.get(tensor.name);
    if (other)
      throw bad(
        tensor.file,
        `tensor ${tensor.slices[0]!.name} is in ${other.file} too. Keep the parts of one file only.`,
      );
    named.set(tensor.name, tensor);
  };
  for (const { tensors } of language) {
    for (const tensor of tensors) {
      // The table of inverse frequencies that some converters write says nothing that the metadata does not.
      if (tensor.name !== "rope_freqs.weight") put(renamed(tensor, LANGUAGE, (n) => n));
    }
  }
  const taps = deepstackBlocks(vision);
  for (const tensor of vision.tensors) {
    if (tensor.name.startsWith(`${PATCH}.`)) continue;
    if (tensor.name === PATCH) put(patchEmbedding(vision, tensor));
    else put(renamed(tensor, VISION, (n, name) => (name.startsWith("v.deepstack.") ? taps.indexOf(n) : n)));
  }
  return named;
}

function renamed(
  tensor: TensorInfo,
  names: Readonly<Record<string, string>>,
  layer: (n: number, name: string) => number,
): NamedTensor {
  const number = /^(?:v\.)?(?:blk|deepstack)\.(\d{1,5})\./.exec(tensor.name)?.[1];
  const pattern = number === undefined ? tensor.name : tensor.name.replace(`.${number}.`, ".N.");
  if (!Object.hasOwn(names, pattern)) {
    throw bad(
      tensor.file,
      `tensor ${JSON.stringify(tensor.name)} is not one that a Qwen3-VL has. Get another conversion of this model.`,
    );
  }
  const name =
    number === undefined ? names[pattern]! : names[pattern]!.replace(".N.", `.${layer(Number(number), tensor.name)}.`);
  return { ...withFormat(tensor), name, slices: [tensor] };
}

/** What a person calls the type, where it is not a plain float. */
function withFormat(tensor: TensorInfo): TensorInfo {
  const isFloat = ["F32", "F16", "BF16"].includes(tensor.dtype);
  return isFloat ? tensor : { ...tensor, format: `GGUF ${tensor.dtype}` };
}

/** The slices [C, channels, P, P] that stand for points in time, as one tensor [C, channels, T, P, P]. */
function patchEmbedding(vision: GgufFile, first: TensorInfo): NamedTensor {
  const slices = [first];
  const later = (t: number) => vision.tensors.find(({ name }) => name === `${PATCH}.${t}`);
  for (let t = 1; ; t++) {
    const next = later(t);
    if (!next) break;
    if (next.dtype !== first.dtype || next.shape.join() !== first.shape.join()) {
      throw bad(
        next.file,
        `tensor ${next.name}: expected ${first.dtype} [${first.shape.join(", ")}] as ${PATCH} has, found ${next.dtype} [${next.shape.join(", ")}].`,
      );
    }
    slices.push(next);
  }
  if (first.shape.length !== 4 || slices.length < 2) {
    throw bad(
      first.file,
      `expected ${PATCH} and ${PATCH}.1 of four dimensions, found ${slices.length} of [${first.shape.join(", ")}]. Is it the mmproj file of a Qwen3-VL?`,
    );
  }
  const [c, channels, height, width] = first.shape as [number, number, number, number];
  return {
    ...withFormat(first),
    name: VISION[PATCH]!,
    shape: [c, channels, slices.length, height, width],
    bytes: slices.length * first.bytes,
    slices,
  };
}

function bad(path: string, message: string): TabTuneError {
  return new TabTuneError("BadCheckpoint", `${path}: ${message}`);
}
