import type { Qwen3VLConfig } from "./config.ts";
import type { LoraParts } from "./trainable.ts";

/** A linear layer that can carry a LoRA pair: A [r, in], B [out, r]. */
export interface LoraModule {
  /** As the checkpoint names it, without ".weight". */
  path: string;
  part: keyof LoraParts;
  in: number;
  out: number;
  /** The matrix on the GPU that holds its weight, and the weight's first row in it: q, k and v are one, gate and up are one. */
  slot: string;
  row0: number;
}

/** The linear layers of these parts in order of use. Source of names and sizes: qwen3-vl.md §2 and §9.1. */
export function loraModules(config: Qwen3VLConfig, parts: LoraParts): LoraModule[] {
  const { text, vision } = config;
  const modules: LoraModule[] = [];
  const add = (
    part: keyof LoraParts,
    path: string,
    [inputs, outputs]: readonly [number, number],
    slot: string,
    row0 = 0,
  ) => {
    if (parts[part]) modules.push({ path, part, in: inputs, out: outputs, slot, row0 });
  };
  const v = vision.hiddenSize;
  for (let i = 0; i < vision.depth; i++) {
    const block = `model.visual.blocks.${i}.`;
    const slot = `vision.blocks.${i}.`;
    add("visionAttention", `${block}attn.qkv`, [v, 3 * v], `${slot}qkv`);
    add("visionAttention", `${block}attn.proj`, [v, v], `${slot}proj`);
    add("visionMlp", `${block}mlp.linear_fc1`, [v, vision.intermediateSize], `${slot}fc1`);
    add("visionMlp", `${block}mlp.linear_fc2`, [vision.intermediateSize, v], `${slot}fc2`);
  }
  const merged = v * vision.spatialMergeSize ** 2;
  const taps = vision.deepstackVisualIndexes.map((_, j) => [`deepstack_merger_list.${j}`, `deepstack.${j}`] as const);
  for (const [merger, slot] of [["merger", "merger"] as const, ...taps]) {
    add("mergers", `model.visual.${merger}.linear_fc1`, [merged, merged], `vision.${slot}.fc1`);
    add("mergers", `model.visual.${merger}.linear_fc2`, [merged, vision.outHiddenSize], `vision.${slot}.fc2`);
  }
  const h = text.hiddenSize;
  const q = text.numAttentionHeads * text.headDim;
  const kv = text.numKeyValueHeads * text.headDim;
  for (let i = 0; i < text.numHiddenLayers; i++) {
    const layer = `language.layers.${i}.`;
    const attention = `model.language_model.layers.${i}.self_attn.`;
    add("languageAttention", `${attention}q_proj`, [h, q], `${layer}qkv`);
    add("languageAttention", `${attention}k_proj`, [h, kv], `${layer}qkv`, q);
    add("languageAttention", `${attention}v_proj`, [h, kv], `${layer}qkv`, q + kv);
    add("languageAttention", `${attention}o_proj`, [q, h], `${layer}o`);
    const mlp = `model.language_model.layers.${i}.mlp.`;
    add("languageMlp", `${mlp}gate_proj`, [h, text.intermediateSize], `${layer}gate_up`);
    add("languageMlp", `${mlp}up_proj`, [h, text.intermediateSize], `${layer}gate_up`, text.intermediateSize);
    add("languageMlp", `${mlp}down_proj`, [text.intermediateSize, h], `${layer}down`);
  }
  return modules;
}
