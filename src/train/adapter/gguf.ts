import { TabTuneError } from "../../errors.ts";
import { type FileSet, type GgufValue, readGgufFile, writeGguf } from "../../formats/index.ts";
import { type Adapter, type NamedTensor, pairUp, scaleOf } from "./adapter.ts";

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

/**
 * Reads back what `writeGgufLora` wrote, as llama.cpp understands it: every pair scaled by alpha / r. Its base and dropout are not in
 * the file. Throws `BadInput` and `BadCheckpoint` for what is no such adapter.
 */
export async function readGgufLora(files: FileSet, path: string): Promise<Adapter> {
  const { metadata, tensors } = await readGgufFile(files, path);
  const alpha = metadata.get("adapter.lora.alpha");
  if (metadata.get("adapter.type") !== "lora" || typeof alpha !== "number") {
    throw new TabTuneError("BadInput", `${path} is no LoRA adapter: expected adapter.type "lora" and its alpha.`);
  }
  const modules = Object.fromEntries(Object.entries(NAMES).map(([module, name]) => [name, module]));
  const named: NamedTensor[] = [];
  for (const { name, dtype, shape, offset, bytes } of tensors) {
    const match = /^blk\.(\d+)\.(.+)\.weight\.lora_([ab])$/.exec(name);
    const module = match && modules[match[2]!];
    if (!module || dtype !== "F32") {
      throw new TabTuneError("BadInput", `${path}: expected f32 factors of language layers, found ${name} (${dtype}).`);
    }
    const raw = await files.read(path, offset, bytes);
    named.push({
      name: `model.language_model.layers.${match[1]}.${module}.lora_${match[3]!.toUpperCase()}.weight`,
      shape,
      values: new Float32Array(raw.slice().buffer),
    });
  }
  const pairs = pairUp(named, () => alpha);
  return { base: "", r: pairs[0]!.r, alpha, rslora: false, dropout: 0, pairs };
}
