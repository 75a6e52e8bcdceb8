import { TabTuneError } from "../../errors.ts";
import { type GgufValue, writeGguf } from "../../formats/index.ts";
import { type Adapter, scaleOf } from "./adapter.ts";

/** llama.cpp's names of the language layers. Source: checkpoint-formats.md §4.6. */
const NAMES: Readonly<Record<string, string>> = {
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

/**
 * The adapter for llama.cpp. It scales every pair by alpha / r, with one alpha for all and no rank-stabilised form: the alpha that is
 * written gives the first pair its scale (α·√r for rsLoRA), and what another pair's scale differs by is put into its B.
 * Throws `BadInput` for adapters on the vision tower: llama.cpp keeps that in a file of its own which takes none.
 * Format: checkpoint-formats.md §4.9.
 */
export function writeGgufLora(adapter: Adapter, name: string): Uint8Array<ArrayBuffer> {
  const [first] = adapter.pairs;
  if (!first) throw new TabTuneError("BadInput", "The adapter is empty: there is nothing to write.");
  const alpha = scaleOf(first, adapter.rslora) * first.r;
  const tensors = adapter.pairs.flatMap((pair) => {
    const { module, r, a, b } = pair;
    const match = /^model\.language_model\.layers\.(\d+)\.(.+)$/.exec(module);
    const to = match && NAMES[match[2]!];
    if (!match || !to) {
      throw new TabTuneError(
        "BadInput",
        `A GGUF adapter can hold language layers only, and this one also changes ${module}. Use the PEFT form, merge it into the model, or train the language layers alone.`,
      );
    }
    const target = `blk.${match[1]}.${to}.weight`;
    const factor = scaleOf(pair, adapter.rslora) / (alpha / r);
    return [
      { name: `${target}.lora_a`, shape: [r, a.length / r], values: a },
      {
        name: `${target}.lora_b`,
        shape: [b.length / r, r],
        values: factor === 1 ? b : b.map((value) => value * factor),
      },
    ];
  });
  const metadata: [string, GgufValue][] = [
    ["general.type", { type: "string", value: "adapter" }],
    ["general.architecture", { type: "string", value: "qwen3vl" }],
    ["general.name", { type: "string", value: name }],
    ["adapter.type", { type: "string", value: "lora" }],
    ["adapter.lora.alpha", { type: "f32", value: alpha }],
  ];
  return writeGguf(metadata, tensors);
}
