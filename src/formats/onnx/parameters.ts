import { TabTuneError } from "../../errors.ts";

type Json = Record<string, unknown>;

/** The numbers of a Qwen3-VL's config that say which weights there are. The engine checks the config as a whole. */
export interface ModelShape {
  /** config.json, with what `untie` and `dropDeepstack` change. */
  config: Json;
  layers: number;
  depth: number;
  taps: number;
  isTied: boolean;
  /** Rows of q, k and v, and of gate and up. */
  q: number;
  kv: number;
  feedForward: number;
  untie(): void;
  dropDeepstack(): void;
}

/** A weight under its Hugging Face name, and where it stands in a matrix that is stacked of several. */
interface NamedParameter {
  name: string;
  fused?: { name: string; row0: number; rows: number; total: number };
}

const MOST_LAYERS = 1024;

export function modelShape(json: unknown): ModelShape {
  const config = object(json);
  const [text, vision] = [object(config.text_config), object(config.vision_config)];
  const count = (section: Json, field: string, most: number) => {
    const value = section[field];
    if (Number.isInteger(value) && (value as number) > 0 && (value as number) <= most) return value as number;
    throw new TabTuneError(
      "BadCheckpoint",
      `config.json: ${field}: expected a whole number from 1 to ${most}, found ${String(value).slice(0, 40)}.`,
    );
  };
  const headDim = count(text, "head_dim", 1 << 12);
  const taps = Array.isArray(vision.deepstack_visual_indexes) ? vision.deepstack_visual_indexes.length : 0;
  const shape: ModelShape = {
    config,
    layers: count(text, "num_hidden_layers", MOST_LAYERS),
    depth: count(vision, "depth", MOST_LAYERS),
    taps: Math.min(taps, MOST_LAYERS),
    isTied: (config.tie_word_embeddings ?? text.tie_word_embeddings ?? false) === true,
    q: headDim * count(text, "num_attention_heads", 1 << 12),
    kv: headDim * count(text, "num_key_value_heads", 1 << 12),
    feedForward: count(text, "intermediate_size", 1 << 24),
    untie() {
      shape.isTied = false;
      shape.config = { ...shape.config, tie_word_embeddings: false };
    },
    dropDeepstack() {
      shape.taps = 0;
      shape.config = { ...shape.config, vision_config: { ...vision, deepstack_visual_indexes: [] } };
    },
  };
  return shape;
}

/** Every weight of such a model. Source of names: qwen3-vl.md §2. */
export function parametersOf({ layers, depth, taps, isTied, q, kv, feedForward }: ModelShape): NamedParameter[] {
  const found: NamedParameter[] = [];
  const plain = (module: string, ...roles: string[]) =>
    found.push(...roles.map((role) => ({ name: `${module}.${role}` })));
  const stacked = (module: string, fused: string, parts: readonly (readonly [name: string, rows: number])[]) => {
    const total = parts.reduce((sum, [, rows]) => sum + rows, 0);
    let row0 = 0;
    for (const [name, rows] of parts) {
      found.push({ name: `${module}.${name}.weight`, fused: { name: `${module}.${fused}.weight`, row0, rows, total } });
      row0 += rows;
    }
  };
  const text = "model.language_model.";
  plain(`${text}embed_tokens`, "weight");
  for (let i = 0; i < layers; i++) {
    const layer = `${text}layers.${i}.`;
    stacked(`${layer}self_attn`, "qkv_proj", [
      ["q_proj", q],
      ["k_proj", kv],
      ["v_proj", kv],
    ]);
    stacked(`${layer}mlp`, "gate_up_proj", [
      ["gate_proj", feedForward],
      ["up_proj", feedForward],
    ]);
    const others = ["self_attn.o_proj", "self_attn.q_norm", "self_attn.k_norm", "mlp.down_proj"];
    for (const name of [...others, "input_layernorm", "post_attention_layernorm"]) plain(layer + name, "weight");
  }
  plain(`${text}norm`, "weight");
  if (!isTied) plain("lm_head", "weight");
  const vision = "model.visual.";
  const both = (module: string) => plain(vision + module, "weight", "bias");
  both("patch_embed.proj");
  plain(`${vision}pos_embed`, "weight");
  for (let i = 0; i < depth; i++) {
    for (const name of ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.linear_fc1", "mlp.linear_fc2"])
      both(`blocks.${i}.${name}`);
  }
  const mergers = ["merger", ...Array.from({ length: taps }, (_, j) => `deepstack_merger_list.${j}`)];
  for (const merger of mergers) for (const name of ["norm", "linear_fc1", "linear_fc2"]) both(`${merger}.${name}`);
  return found;
}

function object(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}
