import { TabTuneError } from "../../errors.ts";
import { type LoraModule, loraModules, parseConfig } from "../../models/index.ts";

/** One adapted linear layer: y = W·x + s·B·(A·x). */
export interface LoraPair {
  /** As the checkpoint names the layer, without ".weight". */
  module: string;
  r: number;
  alpha: number;
  /** [r, in] */
  a: Float32Array<ArrayBuffer>;
  /** [out, r] */
  b: Float32Array<ArrayBuffer>;
}

/** A LoRA adapter in memory, pairs sorted by module. */
export interface Adapter {
  /** The model it belongs to, as its files name it; empty where they do not say. */
  base: string;
  /** What most pairs have; a pair may differ (PEFT's rank_pattern and alpha_pattern). */
  r: number;
  alpha: number;
  /** Scale alpha / √r instead of alpha / r. */
  rslora: boolean;
  dropout: number;
  pairs: LoraPair[];
}

/** s of a pair. Source: qwen3-vl.md §9.1. */
export function scaleOf({ r, alpha }: Pick<LoraPair, "r" | "alpha">, rslora: boolean): number {
  return alpha / (rslora ? Math.sqrt(r) : r);
}

/** A factor by PEFT's name without `base_model.model.`. */
export interface NamedTensor {
  name: string;
  shape: readonly number[];
  values: Float32Array<ArrayBuffer>;
}

/**
 * Joins factors to pairs. Throws `BadInput` that names what has no partner, no place or another rank.
 * @param alphaOf of a module
 */
export function pairUp(tensors: readonly NamedTensor[], alphaOf: (module: string) => number): LoraPair[] {
  const found = new Map<string, { a?: NamedTensor; b?: NamedTensor }>();
  const leftOver: string[] = [];
  for (const tensor of tensors) {
    const match = /^(.+)\.lora_([AB])\.weight$/.exec(tensor.name);
    if (!match || tensor.shape.length !== 2) {
      leftOver.push(tensor.name);
      continue;
    }
    const entry = found.get(match[1]!) ?? {};
    entry[match[2] === "A" ? "a" : "b"] = tensor;
    found.set(match[1]!, entry);
  }
  if (leftOver.length > 0) {
    throw bad(
      `It holds tensors that are no LoRA pairs: ${some(leftOver)}. Only plain LoRA on linear layers can be used.`,
    );
  }
  if (found.size === 0) throw bad("It holds no LoRA tensors at all (expected names ending in lora_A.weight).");
  return [...found]
    .sort(([x], [y]) => (x < y ? -1 : 1))
    .map(([module, { a, b }]) => {
      if (!a || !b)
        throw bad(`${module} has only its lora_${a ? "A" : "B"}; the other half is missing. Save it again.`);
      const [r, rankB] = [a.shape[0]!, b.shape[1]!];
      if (r !== rankB) throw bad(`${module}: lora_A has rank ${r} and lora_B has rank ${rankB}. Save it again.`);
      if (r === 0) throw bad(`${module}: its rank is 0. Save it again.`);
      return { module, r, alpha: alphaOf(module), a: a.values, b: b.values };
    });
}

const EVERYTHING = {
  languageAttention: true,
  languageMlp: true,
  visionAttention: true,
  visionMlp: true,
  mergers: true,
};

/**
 * Compares an adapter with a model: every layer must exist there with the same sizes. Throws `BadInput` that explains a mismatch;
 * returns warnings, such as another base by name.
 * @param model its name or path, and config.json as parsed
 */
export function checkAdapter({ pairs, base }: Adapter, model: { name: string; config: unknown }): string[] {
  const modules = new Map<string, LoraModule>(
    loraModules(parseConfig(model.config), EVERYTHING).map((module) => [module.path, module]),
  );
  const unknown = pairs.filter(({ module }) => !modules.has(module)).map(({ module }) => module);
  if (unknown.length > 0) {
    throw bad(
      `It changes ${unknown.length} layers that “${model.name}” does not have: ${some(unknown)}. It was trained for another model${base ? ` (${base})` : ""}: load that one first.`,
    );
  }
  for (const { module, r, a, b } of pairs) {
    const { in: inputs, out: outputs } = modules.get(module)!;
    if (a.length === r * inputs && b.length === outputs * r) continue;
    throw bad(
      `${module}: expected lora_A [${r}, ${inputs}] and lora_B [${outputs}, ${r}] for “${model.name}”, found [${r}, ${a.length / r}] and [${b.length / r}, ${r}]. It was trained for a model of another size${base ? ` (${base})` : ""}.`,
    );
  }
  const last = (path: string) => path.split(/[\\/]/).at(-1)!.toLowerCase();
  if (!base || last(model.name).includes(last(base)) || last(base).includes(last(model.name))) return [];
  return [`It names “${base}” as its base, and “${model.name}” is loaded. The layers fit; the answers may not.`];
}

/** The first few of many names. */
function some(names: readonly string[]): string {
  return `${names.slice(0, 3).join(", ")}${names.length > 3 ? ` and ${names.length - 3} more` : ""}`;
}

function bad(message: string): TabTuneError {
  return new TabTuneError("BadInput", `This adapter cannot be used. ${message}`);
}
