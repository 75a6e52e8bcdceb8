// What a full-size checkpoint of random weights consists of, form by form, without holding it: each tensor is cut from a pool of
// random numbers that was quantized once.
import { encodeFloats, type WeightDtype } from "../src/formats/index.ts";
import { configOf, type Shape, type TensorOf, tensorList } from "./checkpoint_shapes.ts";
import { bytesOfType, type MetaValue, type TensorEntry } from "./gguf_file.ts";
import { ggufName, isPlain, languageMetadata, mixedType, type PairSource, visionMetadata } from "./gguf_pair.ts";
import { fittingType, quantize, TYPES, type TypeName } from "./gguf_quantize.ts";
import { pythonJson, toInt4, type WrittenTensor, writeAwq, writeBnb } from "./write_formats.ts";

/** Bytes that a tensor is cut from, beginning anywhere between two units. */
export interface Pool {
  bytes: Uint8Array;
  unit: number;
}

export interface PlannedTensor {
  name: string;
  dtype: string;
  shape: number[];
  size: number;
  from: Pool;
}

export const FORMS = ["bf16", "nf4", "awq", "gguf"] as const;
export type SafetensorsForm = Exclude<(typeof FORMS)[number], "gguf">;

/** Standard deviation of weights, which Qwen's config calls initializer_range. */
const DEVIATION = 0.02;
/** Random numbers that a checkpoint is made of: so many times COLS. */
const ROWS = 4096;
const COLS = 1024;
const LINEAR = /\.layers\.(\d+)\.((self_attn)\.[qkvo]_proj|(mlp)\.(gate|up|down)_proj)\.weight$/;

export interface Randomness {
  seed: number;
  /** Fewer for tests of small checkpoints. */
  sampleRows?: number;
}

/** Pools of the same random numbers in several encodings, made when they are asked for. */
class Pools {
  readonly #values: Float32Array;
  readonly #made = new Map<string, Pool>();

  constructor({ seed, sampleRows = ROWS }: Randomness) {
    this.#values = normalValues(seed, sampleRows * COLS);
  }

  /** The numbers as a matrix. */
  get dense() {
    return { module: "", out: this.#values.length / COLS, cols: COLS, values: this.#values };
  }

  get(key: string, make: (values: Float32Array) => Pool): Pool {
    const pool = this.#made.get(key) ?? make(this.#values);
    this.#made.set(key, pool);
    return pool;
  }

  floats(dtype: WeightDtype, centre: 0 | 1): Pool {
    const unit = dtype === "F32" ? 4 : 2;
    return this.get(`${dtype} ${centre}`, (values) => ({
      bytes: encodeFloats(dtype, centre === 0 ? values : values.map((value) => value + centre)),
      unit,
    }));
  }

  blocks(type: TypeName, centre: 0 | 1): Pool {
    if (TYPES[type][1] === 1) return this.floats(type as WeightDtype, centre);
    return this.get(type, (values) => ({ bytes: quantize(type, values).bytes, unit: TYPES[type][2] }));
  }
}

/** Box and Muller's way from uniform to normal numbers. */
function normalValues(seed: number, count: number): Float32Array {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = DEVIATION * Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    out[i] = radius * Math.cos(angle);
    out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const always = (bytes: Uint8Array): Pool => ({ bytes, unit: bytes.length });

/** Tensors of a safetensors form in the order in which the reference writer has them, and what its config says of the form. */
export function planSafetensors(
  form: SafetensorsForm,
  shape: Shape,
  randomness: Randomness,
): { tensors: PlannedTensor[]; quantization: Record<string, unknown> } {
  const pools = new Pools(randomness);
  const dtype = form === "awq" ? "F16" : "BF16";
  const dense = ([name, dims, centre]: TensorOf): PlannedTensor => {
    return { name, dtype, shape: dims, size: 2 * product(dims), from: pools.floats(dtype, centre) };
  };
  const { write, quantization } = { bf16: () => ({ write: undefined, quantization: {} }), nf4, awq }[form](
    pools,
    shape,
  );
  const tensors = tensorList(shape).flatMap((tensor) => write?.(tensor) ?? [dense(tensor)]);
  // Largest elements first, then by name.
  const element = ({ dtype }: PlannedTensor) => (/32/.test(dtype) ? 4 : /16/.test(dtype) ? 2 : 1);
  tensors.sort((a, b) => element(b) - element(a) || (a.name < b.name ? -1 : 1));
  return { tensors, quantization };
}

/** The parts of a weight; undefined for tensors that stay dense. */
type WriteParts = (tensor: TensorOf) => PlannedTensor[] | undefined;

/** Pools of the parts of a quantized matrix, by their names behind its own. */
function partsOf(written: WrittenTensor[]): (suffix: string) => Pool {
  const found = (suffix: string) => written.find(({ name }) => name.endsWith(suffix))!;
  return (suffix) => ({ bytes: found(suffix).bytes, unit: /32/.test(found(suffix).dtype) ? 4 : 1 });
}

/** As Unsloth's dynamic checkpoints: nested absmax, and a few modules left in 16 bits. */
function nf4(pools: Pools): { write: WriteParts; quantization: Record<string, unknown> } {
  const { tensors } = writeBnb(pools.dense);
  const pool = partsOf(tensors);
  const [codes, inner, outer, table, map, blob] = [
    ...["weight", "weight.absmax", "nested_absmax"].map(pool),
    ...["weight.quant_map", "nested_quant_map", "bitsandbytes__nf4"].map((suffix) => always(pool(suffix).bytes)),
  ] as [Pool, Pool, Pool, Pool, Pool, Pool];
  const state = JSON.parse(new TextDecoder().decode(blob.bytes)) as Record<string, unknown>;
  const skipped = ["layers.0.mlp", "layers.11.self_attn"];
  const write: WriteParts = ([name, shape]) => {
    const [, layer, , attention, mlp] = LINEAR.exec(name) ?? [];
    if (layer === undefined || skipped.includes(`layers.${layer}.${attention ?? mlp}`)) return undefined;
    const blocks = Math.ceil(product(shape) / 64);
    const json = pythonJson({ ...state, shape });
    const tensor = (suffix: string, dtype: string, dims: number[], from: Pool, each = 1): PlannedTensor => {
      return { name: name + suffix, dtype, shape: dims, size: product(dims) * each, from };
    };
    return [
      tensor("", "U8", [product(shape) / 2, 1], codes),
      tensor(".absmax", "U8", [blocks], inner),
      tensor(".quant_map", "F32", [16], table, 4),
      tensor(".nested_absmax", "F32", [Math.ceil(blocks / 256)], outer, 4),
      tensor(".nested_quant_map", "F32", [256], map, 4),
      tensor(".quant_state.bitsandbytes__nf4", "U8", [json.length], always(json)),
    ];
  };
  const quantization_config = {
    quant_method: "bitsandbytes",
    ...{ load_in_4bit: true, _load_in_4bit: true, load_in_8bit: false, _load_in_8bit: false },
    bnb_4bit_quant_type: "nf4",
    bnb_4bit_use_double_quant: true,
    bnb_4bit_compute_dtype: "bfloat16",
    bnb_4bit_quant_storage: "uint8",
    llm_int8_skip_modules: ["lm_head", "visual", ...skipped.map((name) => `model.language_model.${name}`)],
    llm_int8_threshold: 6.0,
  };
  return { write, quantization: { quantization_config } };
}

/** AutoAWQ's GEMM version in groups of 128, the rest in f16. */
function awq(pools: Pools, { hidden, ffn }: Shape): { write: WriteParts; quantization: Record<string, unknown> } {
  // The tiny preset is narrower than a group.
  const group = hidden % 128 === 0 && ffn % 128 === 0 ? 128 : 64;
  const pool = partsOf(writeAwq(toInt4(pools.dense, group)).tensors);
  const [codes, zeros, scales] = [pool(".qweight"), pool(".qzeros"), { ...pool(".scales"), unit: 2 }];
  const write: WriteParts = ([name, [out, cols]]) => {
    if (!LINEAR.test(name)) return undefined;
    const tensor = (suffix: string, dtype: string, dims: number[], from: Pool): PlannedTensor => {
      return { name: name.replace(/weight$/, suffix), dtype, shape: dims, size: product(dims) * from.unit, from };
    };
    return [
      tensor("qweight", "I32", [cols!, out! / 8], codes),
      tensor("qzeros", "I32", [cols! / group, out! / 8], zeros),
      tensor("scales", "F16", [cols! / group, out!], scales),
    ];
  };
  const quantization_config = {
    ...{ quant_method: "awq", bits: 4, group_size: group, version: "gemm", zero_point: true },
    modules_to_not_convert: ["visual"],
  };
  return { write, quantization: { quantization_config } };
}

export interface PlannedGguf {
  metadata: Record<string, MetaValue>;
  tensors: (TensorEntry & { size: number; from: Pool })[];
}

/** llama.cpp's number for files in Q4_K_M, and for those in F16. */
const FILE_TYPES = { language: 15, vision: 1 };

/** A language file in Q4_K_M and a vision tower in F16, as Qwen publishes them. */
export function planGguf(
  shape: Shape,
  { tokenizer, template }: Pick<PairSource, "tokenizer" | "template">,
  randomness: Randomness,
): Record<"language" | "vision", PlannedGguf> {
  const pools = new Pools(randomness);
  const config = configOf(shape);
  const tensors: Record<"language" | "vision", PlannedGguf["tensors"]> = { language: [], vision: [] };
  for (const [name, dims, centre] of tensorList(shape)) {
    const isVision = name.startsWith("model.visual.");
    const wished = isPlain(name, dims) ? "F32" : isVision ? "F16" : mixedType(name, shape, "Q4_K");
    const type = fittingType(wished, dims.at(-1)!);
    const add = (to: string, shape: number[]) => {
      const size = bytesOfType({ name: to, shape, type });
      tensors[isVision ? "vision" : "language"].push({ name: to, shape, type, size, from: pools.blocks(type, centre) });
    };
    const to = ggufName(name, shape.vision.taps);
    const [width, channels, times, ...places] = dims;
    if (times === undefined) add(to, dims);
    // One tensor for each of the frames of a patch.
    else for (let t = 0; t < times; t++) add(t === 0 ? to : `${to}.${t}`, [width!, channels!, ...places]);
  }
  const more = (kind: "language" | "vision"): Record<string, MetaValue> => ({
    "general.file_type": ["u32", FILE_TYPES[kind]],
    "general.quantization_version": ["u32", 2],
  });
  const language = { ...languageMetadata({ config, tokenizer, template }), ...more("language") };
  return {
    language: { metadata: language, tensors: tensors.language },
    vision: { metadata: { ...visionMetadata(config), ...more("vision") }, tensors: tensors.vision },
  };
}
