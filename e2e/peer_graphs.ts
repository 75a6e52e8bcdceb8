// ONNX graphs of the shapes of a preset with made-up 4-bit weights, for measuring other runtimes.
import type { Qwen3VLConfig } from "../src/models/index.ts";
import { type Graph, type Initializer, type Node, TYPES, type Type } from "./onnx_writer.ts";

type Text = Qwen3VLConfig["text"];
/** The type of activations and scales. */
export type Float = "f16" | "f32";

const BLOCK = 32;
const BYTES = { u8: 1, f16: 2, f32: 4 };
/** Weights begin at different places of the file, so that no two matrices are the same. */
const STRIDE = 4096;
const PLACES = 64;

/** What a weight file holds: random 4-bit codes, scales of 2⁻⁸, gains of 1. */
type Kind = "codes" | "scales" | "gains";
const VALUES = { scales: { f16: 0x1c00, f32: 2 ** -8 }, gains: { f16: 0x3c00, f32: 1 } };

/**
 * The file that all weights are read from. They overlap there: a runtime makes a buffer of its own of each, and the file stays as large as
 * the largest of each kind.
 */
export class WeightFile {
  readonly name: string;
  readonly float: Float;
  #sizes: Record<Kind, number> = { codes: 0, scales: 0, gains: 0 };
  #added: { kind: Kind; data: { file: string; offset: number; bytes: number } }[] = [];

  constructor(name: string, float: Float) {
    this.name = name;
    this.float = float;
  }

  add(kind: Kind, name: string, shape: number[]): Initializer {
    const type = kind === "codes" ? "u8" : this.float;
    const bytes = shape.reduce((product, size) => product * size, BYTES[type]);
    const offset = kind === "codes" ? (this.#added.length % PLACES) * STRIDE : 0;
    this.#sizes[kind] = Math.max(this.#sizes[kind], Math.ceil((offset + bytes) / STRIDE) * STRIDE);
    const data = { file: this.name, offset, bytes };
    this.#added.push({ kind, data });
    return { name, type, shape, data };
  }

  /** Closes the file: where a weight lies is known from now on. */
  close(): Uint8Array {
    const { codes, scales, gains } = this.#sizes;
    const starts = { codes: 0, scales: codes, gains: codes + scales };
    for (const { kind, data } of this.#added) data.offset += starts[kind];
    const all = new Uint8Array(codes + scales + gains);
    let state = 0x2545f491;
    new Uint32Array(all.buffer, 0, codes / 4).forEach((_, i, words) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[i] = state;
    });
    const floats = this.float === "f16" ? new Uint16Array(all.buffer) : new Float32Array(all.buffer);
    for (const kind of ["scales", "gains"] as const) {
      const start = starts[kind] / BYTES[this.float];
      floats.fill(VALUES[kind][this.float], start, start + this.#sizes[kind] / BYTES[this.float]);
    }
    return all;
  }
}

/** Puts nodes and weights into a graph. Each method returns the name of its result. */
class Builder {
  readonly graph: Graph = { nodes: [], initializers: [], inputs: [], outputs: [] };
  #file: WeightFile;
  #int8: boolean;

  constructor(file: WeightFile, int8 = false) {
    this.#file = file;
    this.#int8 = int8;
  }

  node(name: string, op: string, inputs: string[], more: Partial<Node> = {}): string {
    this.graph.nodes.push({ op, inputs, outputs: [name], ...more });
    return name;
  }

  weight(kind: Kind, name: string, shape: number[]): string {
    this.graph.initializers.push(this.#file.add(kind, name, shape));
    return name;
  }

  constant(name: string, type: Type, shape: number[], values: ArrayBufferView<ArrayBuffer>): string {
    const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.graph.initializers.push({ name, type, shape, data });
    return name;
  }

  ints(name: string, ...values: number[]): string {
    return this.constant(name, "i64", [values.length], BigInt64Array.from(values, BigInt));
  }

  /** The 4-bit product of `x` with a matrix [rows, cols]. */
  linear(name: string, x: string, rows: number, cols: number): string {
    const groups = cols / BLOCK;
    const codes = this.weight("codes", `${name}.codes`, [rows, groups, BLOCK / 2]);
    const scales = this.weight("scales", `${name}.scales`, [rows, groups]);
    return this.node(name, "MatMulNBits", [x, codes, scales], {
      domain: "com.microsoft",
      attributes: {
        K: { int: cols },
        N: { int: rows },
        bits: { int: 4 },
        block_size: { int: BLOCK },
        // 4 allows sums over activations that are rounded to int8.
        accuracy_level: { int: this.#int8 ? 4 : 0 },
      },
    });
  }

  norm(name: string, x: string, gain: string, epsilon: number): string {
    const attributes = { epsilon: { float: epsilon }, axis: { int: -1 }, stash_type: { int: 1 } };
    return this.node(name, "SimplifiedLayerNormalization", [x, gain], { attributes });
  }
}

const ofText = ({ hiddenSize, numAttentionHeads, numKeyValueHeads, headDim, intermediateSize }: Text) => ({
  c: hiddenSize,
  f: intermediateSize,
  heads: numAttentionHeads,
  kvHeads: numKeyValueHeads,
  d: headDim,
});

/** The linears of `layers` decoder layers behind one another. What of q, k, v and of gate and up does not go on is cut off. */
export function linearChain(text: Text, layers: number, file: WeightFile, int8 = false): Graph {
  const { c, f, heads, kvHeads, d } = ofText(text);
  const b = new Builder(file, int8);
  const axes = b.ints("last axis", 1);
  const zero = b.ints("zero", 0);
  const ends = { q: b.ints("q end", heads * d), gate: b.ints("gate end", f) };
  let x = "x";
  for (let i = 0; i < layers; i++) {
    const qkv = b.linear(`${i}.qkv`, x, (heads + 2 * kvHeads) * d, c);
    const q = b.node(`${i}.q`, "Slice", [qkv, zero, ends.q, axes]);
    const o = b.linear(`${i}.o`, q, c, heads * d);
    const gateUp = b.linear(`${i}.gate_up`, o, 2 * f, c);
    const gate = b.node(`${i}.gate`, "Slice", [gateUp, zero, ends.gate, axes]);
    x = b.linear(`${i}.down`, gate, c, f);
  }
  b.graph.inputs.push({ name: "x", type: file.float, shape: ["rows", c] });
  b.graph.outputs.push({ name: x, type: file.float, shape: ["rows", c] });
  return b.graph;
}

/** Cosines or sines of the rotary embedding, [positions, headDim / 2]. */
function rotary(of: (angle: number) => number, positions: number, d: number, theta: number): Float32Array<ArrayBuffer> {
  const half = d / 2;
  return Float32Array.from({ length: positions * half }, (_, i) =>
    of(Math.floor(i / half) * theta ** (-(i % half) / half)),
  );
}

/** Positions that the tables of the rotation are made for. */
const POSITIONS = 1024;

/**
 * The whole language model as onnxruntime-genai's builder writes Qwen3: grouped-query attention with the rotation in it, norms that add the
 * residual, logits of the last token alone.
 */
export function decoder(text: Text, file: WeightFile): Graph {
  const { c, f, heads, kvHeads, d } = ofText(text);
  const { float } = file;
  const { rmsNormEps: epsilon, vocabSize, numHiddenLayers, ropeTheta } = text;
  const microsoft = "com.microsoft";
  const b = new Builder(file);

  const table = b.weight("codes", "embed.codes", [vocabSize, c / 2]);
  const tableScales = b.weight("scales", "embed.scales", [vocabSize, c / BLOCK]);
  let x = b.node("embed", "GatherBlockQuantized", [table, "input_ids", tableScales], {
    domain: microsoft,
    attributes: { bits: { int: 4 }, block_size: { int: BLOCK }, gather_axis: { int: 0 }, quantize_axis: { int: 1 } },
  });

  // What attention asks for, from the mask: the last position of each row, and how many there are in all.
  const one = b.ints("one", 1);
  const count = b.node("mask sum", "ReduceSum", ["attention_mask", one], { attributes: { keepdims: { int: 0 } } });
  const toInt = { attributes: { to: { int: TYPES.i32 } } };
  const last = b.node("last position", "Cast", [b.node("mask sum - 1", "Sub", [count, one])], toInt);
  const shape = b.node("mask shape", "Shape", ["attention_mask"]);
  const index = b.constant("index 1", "i64", [], BigInt64Array.of(1n));
  const total = b.node("total", "Cast", [b.node("total 64", "Gather", [shape, index])], toInt);

  const cosine = b.constant("cos f32", "f32", [POSITIONS, d / 2], rotary(Math.cos, POSITIONS, d, ropeTheta));
  const sine = b.constant("sin f32", "f32", [POSITIONS, d / 2], rotary(Math.sin, POSITIONS, d, ropeTheta));
  const toFloat = { attributes: { to: { int: TYPES[float] } } };
  const [cos, sin] = [b.node("cos", "Cast", [cosine], toFloat), b.node("sin", "Cast", [sine], toFloat)];
  const perHead = (n: number) => b.ints(`per head ${n}`, 0, -1, n, d);
  const flat = (n: number) => b.ints(`flat ${n}`, 0, -1, n * d);
  const shapes = new Map([heads, kvHeads].map((n) => [n, { perHead: perHead(n), flat: flat(n) }]));
  const headNorm = (name: string, y: string, n: number) => {
    const { perHead, flat } = shapes.get(n)!;
    const split = b.node(`${name} heads`, "Reshape", [y, perHead]);
    const normed = b.norm(`${name} norm`, split, b.weight("gains", `${name} gain`, [d]), epsilon);
    return b.node(`${name} flat`, "Reshape", [normed, flat]);
  };

  let y = b.norm("0.norm", x, b.weight("gains", "0.norm gain", [c]), epsilon);
  /** Adds `sum` to the residual and norms it. */
  const skipNorm = (name: string, sum: string) => {
    b.node(name, "SkipSimplifiedLayerNormalization", [x, sum, b.weight("gains", `${name} gain`, [c])], {
      domain: microsoft,
      outputs: [name, "", "", `${name} residual`],
      attributes: { epsilon: { float: epsilon } },
    });
    x = `${name} residual`;
    y = name;
  };
  const cache = (name: string, time: string) => ({ name, type: float, shape: ["batch_size", kvHeads, time, d] });
  for (let i = 0; i < numHiddenLayers; i++) {
    const q = headNorm(`${i}.q`, b.linear(`${i}.q_proj`, y, heads * d, c), heads);
    const k = headNorm(`${i}.k`, b.linear(`${i}.k_proj`, y, kvHeads * d, c), kvHeads);
    const v = b.linear(`${i}.v_proj`, y, kvHeads * d, c);
    const past = ["key", "value"].map((kind) => `past_key_values.${i}.${kind}`);
    const present = ["key", "value"].map((kind) => `present.${i}.${kind}`);
    b.node(`${i}.attention`, "GroupQueryAttention", [q, k, v, ...past, last, total, cos, sin], {
      domain: microsoft,
      outputs: [`${i}.attention`, ...present],
      attributes: {
        num_heads: { int: heads },
        kv_num_heads: { int: kvHeads },
        scale: { float: d ** -0.5 },
        do_rotary: { int: 1 },
        rotary_interleaved: { int: 0 },
      },
    });
    b.graph.inputs.push(...past.map((name) => cache(name, "past")));
    b.graph.outputs.push(...present.map((name) => cache(name, "total")));
    skipNorm(`${i}.post norm`, b.linear(`${i}.o_proj`, `${i}.attention`, c, heads * d));
    const gate = b.linear(`${i}.gate_proj`, y, f, c);
    const up = b.linear(`${i}.up_proj`, y, f, c);
    const silu = b.node(`${i}.silu`, "Mul", [gate, b.node(`${i}.sigmoid`, "Sigmoid", [gate])]);
    skipNorm(`${i + 1}.norm`, b.linear(`${i}.down_proj`, b.node(`${i}.gated`, "Mul", [silu, up]), c, f));
  }
  // One row of the head's product, whatever the prompt's length.
  const final = b.node("last row", "Gather", [y, b.ints("last index", -1)], { attributes: { axis: { int: 1 } } });
  const head = b.linear("head", final, vocabSize, c);
  b.node("logits", "Cast", [head], { attributes: { to: { int: TYPES.f32 } } });
  b.graph.inputs.unshift(
    { name: "input_ids", type: "i64", shape: ["batch_size", "tokens"] },
    { name: "attention_mask", type: "i64", shape: ["batch_size", "total"] },
  );
  b.graph.outputs.unshift({ name: "logits", type: "f32", shape: ["batch_size", 1, vocabSize] });
  return b.graph;
}
