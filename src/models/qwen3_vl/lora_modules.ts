import type { Qwen3VLConfig } from "./config.ts";
import type { LoraParts } from "./trainable.ts";

/** A linear layer that can carry a LoRA pair: A [r, in], B [out, r]. */
export interface LoraModule {
  /** As the checkpoint names it, without ".weight". */
  path: string;
  part: keyof LoraParts;
  in: number;
  out: number;
}

/** The linear layers of these parts in order of use. Source of names and sizes: qwen3-vl.md §2 and §9.1. */
export function loraModules(config: Qwen3VLConfig, parts: LoraParts): LoraModule[] {
  const { text, vision } = config;
  const modules: LoraModule[] = [];
  const add = (part: keyof LoraParts, path: string, inputs: number, outputs: number) => {
    if (parts[part]) modules.push({ path, part, in: inputs, out: outputs });
  };
  const v = vision.hiddenSize;
  for (let i = 0; i < vision.depth; i++) {
    const block = `model.visual.blocks.${i}.`;
    add("visionAttention", `${block}attn.qkv`, v, 3 * v);
    add("visionAttention", `${block}attn.proj`, v, v);
    add("visionMlp", `${block}mlp.linear_fc1`, v, vision.intermediateSize);
    add("visionMlp", `${block}mlp.linear_fc2`, vision.intermediateSize, v);
  }
  const merged = v * vision.spatialMergeSize ** 2;
  const taps = vision.deepstackVisualIndexes.map((_, j) => `deepstack_merger_list.${j}`);
  for (const merger of ["merger", ...taps]) {
    add("mergers", `model.visual.${merger}.linear_fc1`, merged, merged);
    add("mergers", `model.visual.${merger}.linear_fc2`, merged, vision.outHiddenSize);
  }
  const h = text.hiddenSize;
  const q = text.numAttentionHeads * text.headDim;
  const kv = text.numKeyValueHeads * text.headDim;
  for (let i = 0; i < text.numHiddenLayers; i++) {
    const attention = `model.language_model.layers.${i}.self_attn.`;
    add("languageAttention", `${attention}q_proj`, h, q);
    add("languageAttention", `${attention}k_proj`, h, kv);
    add("languageAttention", `${attention}v_proj`, h, kv);
    add("languageAttention", `${attention}o_proj`, q, h);
    const mlp = `model.language_model.layers.${i}.mlp.`;
    add("languageMlp", `${mlp}gate_proj`, h, text.intermediateSize);
    add("languageMlp", `${mlp}up_proj`, h, text.intermediateSize);
    add("languageMlp", `${mlp}down_proj`, text.intermediateSize, h);
  }
  return modules;
}
