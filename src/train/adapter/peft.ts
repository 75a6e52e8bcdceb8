import { TabTuneError } from "../../errors.ts";
import { readSafetensors, writeSafetensors } from "../../formats/index.ts";
import { type Adapter, type LoraPair, pairUp } from "./adapter.ts";
import { parsePeftConfig } from "./peft_config.ts";

export const CONFIG_FILE = "adapter_config.json";
export const WEIGHTS_FILE = "adapter_model.safetensors";

const PREFIX = "base_model.model.";

/**
 * Reads what PEFT, Unsloth or this page wrote. Throws `BadInput` or `BadCheckpoint` that names the field or tensor; warnings are
 * about what can be used although something is odd.
 */
export function readPeft(config: string, weights: Uint8Array): { adapter: Adapter; warnings: string[] } {
  const settings = parsePeftConfig(config);
  const tensors = readSafetensors(WEIGHTS_FILE, weights).map(({ name, ...rest }) => ({
    ...rest,
    name: canonicalName(name),
  }));
  const pairs = pairUp(tensors, settings.alphaOf);
  const warnings: string[] = [];
  for (const { module, r } of pairs) {
    const expected = settings.rankOf(module);
    if (r !== expected) {
      throw new TabTuneError(
        "BadInput",
        `This adapter cannot be used. ${module} has rank ${r}, and ${CONFIG_FILE} says ${expected}: the two files belong to different adapters.`,
      );
    }
  }
  const untargeted = pairs.filter(({ module }) => settings.targets(module) === false);
  if (untargeted.length > 0) {
    warnings.push(
      `Its target_modules do not name ${untargeted.length} of its layers (${untargeted[0]!.module}, …). They are used here; PEFT would leave them out.`,
    );
  }
  const { base, r, alpha, rslora, dropout } = settings;
  return { adapter: { base, r, alpha, rslora, dropout, pairs }, warnings };
}

/** Today's name of a tensor, without PEFT's prefix, an adapter's own name or the paths of older transformers. */
export function canonicalName(name: string): string {
  return name
    .replace(PREFIX, "")
    .replace(/\.lora_([AB])\.[\w-]+\.weight$/, ".lora_$1.weight")
    .replace(
      /^(?:model\.layers\.|language_model\.model\.layers\.|language_model\.layers\.)/,
      "model.language_model.layers.",
    )
    .replace(/^visual\./, "model.visual.");
}

/** The two files that PEFT, vLLM and Unsloth load. Names and fields: qwen3-vl.md §9.4, the classic ones alone. */
export function writePeft(adapter: Adapter): { [CONFIG_FILE]: string; [WEIGHTS_FILE]: Uint8Array<ArrayBuffer> } {
  const tensors = adapter.pairs.flatMap(({ module, r, a, b }) => [
    factor(`${PREFIX}${module}.lora_A.weight`, [r, a.length / r], a),
    factor(`${PREFIX}${module}.lora_B.weight`, [b.length / r, r], b),
  ]);
  tensors.sort((x, y) => (x.name < y.name ? -1 : 1));
  const config = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: adapter.base || null,
    r: adapter.r,
    lora_alpha: adapter.alpha,
    lora_dropout: adapter.dropout,
    bias: "none",
    use_rslora: adapter.rslora,
    use_dora: false,
    fan_in_fan_out: false,
    init_lora_weights: true,
    inference_mode: true,
    modules_to_save: null,
    layers_to_transform: null,
    layers_pattern: null,
    rank_pattern: pattern(adapter.pairs, (pair) => (pair.r === adapter.r ? undefined : pair.r)),
    alpha_pattern: pattern(adapter.pairs, (pair) => (pair.alpha === adapter.alpha ? undefined : pair.alpha)),
    target_modules: targetModules(adapter.pairs.map(({ module }) => module)),
  };
  return {
    [CONFIG_FILE]: `${JSON.stringify(config, null, 2)}\n`,
    [WEIGHTS_FILE]: writeSafetensors(tensors, { format: "pt" }),
  };
}

function factor(name: string, shape: number[], values: Float32Array) {
  return { name, dtype: "F32", shape, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

function pattern(pairs: readonly LoraPair[], own: (pair: LoraPair) => number | undefined): Record<string, number> {
  const entries = pairs.map((pair) => [literal(pair.module), own(pair)] as const);
  return Object.fromEntries(entries.filter((entry): entry is [string, number] => entry[1] !== undefined));
}

const literal = (module: string) => module.replaceAll(".", "\\.");

/**
 * What PEFT finds these modules by: leaf names where only language layers are adapted, since the tower has none of them; else a pattern,
 * because "proj" alone would also match the patch embedding. Where all layers from the first on are alike, a pattern stands for them.
 */
function targetModules(modules: readonly string[]): string[] | string {
  const shapes = new Map<string, number[]>();
  for (const module of modules) {
    const shape = literal(module).replace(/\d+/, "\\d+");
    shapes.set(shape, [...(shapes.get(shape) ?? []), Number(/\d+/.exec(module)?.[0] ?? 0)]);
  }
  const counts = [...shapes.values()].map((numbers) => numbers.length);
  const language = [...shapes.keys()].filter((shape) => shape.startsWith("model\\.language_model"));
  const isContiguous = [...shapes.values()].every((numbers) => Math.max(...numbers) === numbers.length - 1);
  if (!isContiguous) return modules.map(literal).join("|");
  if (language.length === shapes.size && new Set(counts).size === 1) {
    return language.map((shape) => shape.slice(shape.lastIndexOf(".") + 1));
  }
  return [...shapes.keys()].join("|");
}
