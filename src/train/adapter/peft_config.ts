import { shown, TabTuneError } from "../../errors.ts";

type Json = Record<string, unknown>;

/** What of adapter_config.json decides how tensors are used. */
export interface PeftConfig {
  base: string;
  r: number;
  alpha: number;
  rslora: boolean;
  dropout: number;
  /** By module: of its own pattern, or the one of all. */
  alphaOf(module: string): number;
  rankOf(module: string): number;
  /** True when PEFT would adapt this module on load; undefined where that cannot be told. */
  targets(module: string): boolean | undefined;
}

/** Ways of starting that change the base weights as well: such an adapter is wrong on the base as it was published. */
const CHANGED_BASE = /^(pissa|olora|corda|loftq|lora_ga)/;

/**
 * Reads adapter_config.json. Throws `BadInput` for everything that would be silently wrong if it were ignored.
 * Source of fields and defaults: checkpoint-formats.md §7.1.
 */
export function parsePeftConfig(text: string): PeftConfig {
  let json: Json;
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw new Error("it is no object");
    json = parsed as Json;
  } catch (cause) {
    throw bad(`it is not a JSON object (${cause instanceof Error ? cause.message : cause}). Save the adapter again.`);
  }
  if (json.peft_type !== "LORA") throw bad(`peft_type: expected "LORA", found ${show(json.peft_type)}.`);
  refuse(json);
  const number = (field: string, fallback: number) => {
    const value = json[field] ?? fallback;
    if (typeof value === "number" && Number.isFinite(value) && value >= 0) return value;
    throw bad(`${field}: expected a number, found ${show(value)}.`);
  };
  const [r, alpha] = [number("r", 8), number("lora_alpha", 8)];
  if (r < 1 || !Number.isInteger(r)) throw bad(`r: expected a whole number above 0, found ${r}.`);
  const [ranks, alphas] = [patterns(json, "rank_pattern"), patterns(json, "alpha_pattern")];
  const ofModule = (list: [RegExp, number][], module: string, fallback: number) =>
    list.find(([pattern]) => pattern.test(module))?.[1] ?? fallback;
  return {
    base: typeof json.base_model_name_or_path === "string" ? json.base_model_name_or_path : "",
    r,
    alpha,
    rslora: json.use_rslora === true,
    dropout: number("lora_dropout", 0),
    alphaOf: (module) => ofModule(alphas, module, alpha),
    rankOf: (module) => ofModule(ranks, module, r),
    targets: (module) => isTarget(json.target_modules, module),
  };
}

function refuse(json: Json): void {
  const isSet = (value: unknown) =>
    value !== undefined &&
    value !== null &&
    value !== false &&
    value !== 0 &&
    (!Array.isArray(value) || value.length > 0);
  const why: Record<string, string> = {
    use_dora: "DoRA's magnitudes",
    fan_in_fan_out: "transposed layers",
    lora_bias: "biases in the adapter",
    modules_to_save: "whole layers that were trained",
    target_parameters: "adapters on single parameters",
    trainable_token_indices: "trained token embeddings",
    layer_replication: "copied layers",
    use_qalora: "QA-LoRA",
    use_bdlora: "BD-LoRA",
    arrow_config: "arrow routing",
    alora_invocation_tokens: "activated LoRA",
  };
  for (const [field, what] of Object.entries(why)) {
    if (isSet(json[field]))
      throw bad(`${field} is ${show(json[field])}: ${what} are not supported, only plain LoRA is.`);
  }
  if ((json.bias ?? "none") !== "none") {
    throw bad(`bias is ${show(json.bias)}: trained biases are not supported. Train with bias "none".`);
  }
  const start = json.init_lora_weights;
  if (typeof start === "string" && CHANGED_BASE.test(start)) {
    throw bad(
      `init_lora_weights is ${show(start)}: it changes the base model, so the adapter is wrong on the published one. Convert it to plain LoRA when saving.`,
    );
  }
}

/** PEFT tries the keys in order against the end of a module's path. */
function patterns(json: Json, field: string): [RegExp, number][] {
  const value = json[field] ?? {};
  if (typeof value !== "object") throw bad(`${field}: expected an object, found ${show(value)}.`);
  return Object.entries(value as Json).map(([pattern, n]) => {
    if (typeof n !== "number") throw bad(`${field}: expected numbers, found ${show(n)}.`);
    return [regex(`^(?:.*\\.)?(?:${pattern})$`, field), n];
  });
}

function isTarget(targets: unknown, module: string): boolean | undefined {
  if (Array.isArray(targets)) {
    return targets.some((name) => typeof name === "string" && (module === name || module.endsWith(`.${name}`)));
  }
  if (typeof targets !== "string" || targets === "all-linear") return undefined;
  return regex(`^(?:${targets})$`, "target_modules").test(module);
}

function regex(source: string, field: string): RegExp {
  try {
    return new RegExp(source);
  } catch {
    throw bad(`${field}: ${show(source)} is not a pattern that can be read.`);
  }
}

const show = (value: unknown) => (value === undefined ? "nothing" : shown(value, 100));

function bad(message: string): TabTuneError {
  return new TabTuneError("BadInput", `adapter_config.json: ${message}`);
}
