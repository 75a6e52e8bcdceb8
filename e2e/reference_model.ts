import { f16ToF32, f32ToF16 } from "../src/formats/dtype.ts";
import type { Qwen3VLConfig } from "../src/models/qwen3_vl/config.ts";
import { ropePositions, visionPositions } from "../src/models/qwen3_vl/positions.ts";

/**
 * The whole model in float64 and plain loops: the oracle for arithmetic that transformers has no reference of, such as ours in 4 bits.
 * It has no path of its own for speed; small models only. Formulas: qwen3-vl.md §5 and §6.
 */

/** Checkpoint tensors by their stored names (qwen3-vl.md §2), row-major. */
export type ReferenceWeights = ReadonlyMap<
  string,
  { readonly shape: readonly number[]; readonly data: Float32Array | Float64Array }
>;

type Grid = readonly [t: number, h: number, w: number];

/** What the tower makes of pictures, concatenated in prompt order. */
export interface ReferenceVision {
  /** After each block: [patches, vision hidden]. */
  blocks: Float64Array[];
  /** DeepStack features in the order of the taps: [tokens, text hidden]. */
  deepstack: Float64Array[];
  /** What stands in for the placeholders' embeddings: [tokens, text hidden]. */
  embeddings: Float64Array;
}

/** Keys (after rotary) and values of the tokens so far, per layer: [tokens, kv heads × headDim]. */
export interface ReferenceCache {
  keys: number[][];
  values: number[][];
}

interface Matrix {
  data: Float64Array;
  rows: number;
  cols: number;
}

const add = (x: Float64Array, y: Float64Array) => {
  for (let i = 0; i < x.length; i++) x[i]! += y[i]!;
};

/** mean² or variance based norm of each row; `bias` and `center` make it a layer norm, else it is an RMS norm. */
function norm(x: Matrix, weight: Float64Array, eps: number, bias?: Float64Array): Matrix {
  const data = new Float64Array(x.data.length);
  for (let r = 0; r < x.rows; r++) {
    const row = x.data.subarray(r * x.cols, (r + 1) * x.cols);
    let mean = 0;
    if (bias) for (const v of row) mean += v / x.cols;
    let square = 0;
    for (const v of row) square += (v - mean) ** 2 / x.cols;
    const scale = 1 / Math.sqrt(square + eps);
    for (let c = 0; c < x.cols; c++) data[r * x.cols + c] = (row[c]! - mean) * scale * weight[c]! + (bias?.[c] ?? 0);
  }
  return { ...x, data };
}

/** Scores of one query over `count` keys to weights, in place. */
function softmax(scores: Float64Array, count: number): void {
  let most = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < count; i++) most = Math.max(most, scores[i]!);
  let sum = 0;
  for (let i = 0; i < count; i++) sum += scores[i] = Math.exp(scores[i]! - most);
  for (let i = 0; i < count; i++) scores[i]! /= sum;
}

/** Weights as the loops read them, so that those see one kind of array. Models that differ in one weight share the others. */
const opened = new WeakMap<Float32Array, Float64Array>();
function inFloat64(data: Float32Array | Float64Array): Float64Array {
  if (data instanceof Float64Array) return data;
  const copy = opened.get(data) ?? Float64Array.from(data);
  opened.set(data, copy);
  return copy;
}

/** x Wᵀ + b. Four rows of x share each weight that is read; every sum is made in the order of its terms. */
function product({ data: x, rows, cols }: Matrix, weight: Float64Array, bias: Float64Array): Float64Array {
  const outputs = bias.length;
  const y = new Float64Array(rows * outputs);
  for (let o = 0; o < outputs; o++) {
    const first = o * cols;
    let r = 0;
    for (; r + 4 <= rows; r += 4) {
      let a = bias[o]!;
      let b = a;
      let c = a;
      let d = a;
      for (let i = 0, at = r * cols; i < cols; i++, at++) {
        const w = weight[first + i]!;
        a += x[at]! * w;
        b += x[at + cols]! * w;
        c += x[at + 2 * cols]! * w;
        d += x[at + 3 * cols]! * w;
      }
      y[r * outputs + o] = a;
      y[(r + 1) * outputs + o] = b;
      y[(r + 2) * outputs + o] = c;
      y[(r + 3) * outputs + o] = d;
    }
    for (; r < rows; r++) {
      let sum = bias[o]!;
      for (let i = 0, at = r * cols; i < cols; i++, at++) sum += x[at]! * weight[first + i]!;
      y[r * outputs + o] = sum;
    }
  }
  return y;
}

const geluTanh = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const geluErf = (x: number) => 0.5 * x * (1 + erf(x / Math.SQRT2));
const silu = (x: number) => x / (1 + Math.exp(-x));

/** Error function to float64: Taylor's series near 0, a continued fraction of the complement further out. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum) && n < 200; n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 120; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction));
}

/** Rotates pairs (j, j + half) of one head by `angles`, in place. */
function rotate(x: Float64Array, at: number, angles: readonly number[]): void {
  const half = angles.length;
  for (let j = 0; j < half; j++) {
    const [cos, sin] = [Math.cos(angles[j]!), Math.sin(angles[j]!)];
    const [a, b] = [x[at + j]!, x[at + j + half]!];
    x[at + j] = a * cos - b * sin;
    x[at + j + half] = b * cos + a * sin;
  }
}

/** The axis (0 t, 1 h, 2 w) that turns frequency `j`: interleaved M-RoPE, qwen3-vl.md §6.3. */
function mropeAxis(j: number, [, h, w]: readonly [number, number, number]): 0 | 1 | 2 {
  if (j % 3 === 1 && j < 3 * h) return 1;
  if (j % 3 === 2 && j < 3 * w) return 2;
  return 0;
}

/** Heads of size d as an 8-bit cache keeps them: 16 channels share a magnitude in f16, of which each is a whole number of 127ths. */
function inEightBits(x: Float64Array, d: number): Float64Array {
  const out = new Float64Array(x.length);
  for (let head = 0; head < x.length; head += d) {
    for (let from = head; from < head + d; from += 16) {
      const group = x.subarray(from, Math.min(from + 16, head + d));
      const most = f16ToF32(f32ToF16(group.reduce((a, b) => Math.max(a, Math.abs(b)), 0)));
      group.forEach((v, i) => {
        out[from + i] = (Math.round(127 * Math.max(-1, Math.min(1, v / (most || 1)))) / 127) * most;
      });
    }
  }
  return out;
}

export class ReferenceModel {
  readonly config: Qwen3VLConfig;
  /** Whether keys and values are kept in 8 bits. */
  cacheInEightBits = false;
  #weights: ReferenceWeights;
  #loraScale: number;

  /** @param loraScale of pairs `….lora_A.weight`, `….lora_B.weight` among the weights */
  constructor(config: Qwen3VLConfig, weights: ReferenceWeights, loraScale = 0) {
    this.config = config;
    this.#weights = weights;
    this.#loraScale = loraScale;
  }

  #data(name: string): Float64Array {
    const data = this.#optional(name);
    if (!data) throw new Error(`the reference model has no tensor ${name}`);
    return data;
  }

  #optional(name: string): Float64Array | undefined {
    const tensor = this.#weights.get(name);
    return tensor && inFloat64(tensor.data);
  }

  /** x Wᵀ + b. A bias is added when there is one. */
  #linear(x: Matrix, name: string): Matrix {
    const weight = this.#data(`${name}.weight`);
    const rows = weight.length / x.cols;
    const data = product(x, weight, this.#optional(`${name}.bias`) ?? new Float64Array(rows));
    if (!this.#loraScale || !this.#weights.has(`${name}.lora_A.weight`)) return { data, rows: x.rows, cols: rows };
    const pair = this.#linear(this.#linear(x, `${name}.lora_A`), `${name}.lora_B`).data;
    for (let i = 0; i < data.length; i++) data[i]! += this.#loraScale * pair[i]!;
    return { data, rows: x.rows, cols: rows };
  }

  #layerNorm(x: Matrix, name: string): Matrix {
    return norm(x, this.#data(`${name}.weight`), 1e-6, this.#data(`${name}.bias`));
  }

  /**
   * @param pixels [patches, features], pictures and temporal groups one after another
   * @param grids  in patches
   */
  vision(pixels: ArrayLike<number>, grids: readonly Grid[]): ReferenceVision {
    const { vision } = this.config;
    const groups = grids.flatMap(([t, h, w]) => Array.from({ length: t }, () => [h, w] as const));
    const patches = groups.reduce((sum, [h, w]) => sum + h * w, 0);
    const features = pixels.length / patches;
    let h = this.#linear(
      { data: Float64Array.from(pixels), rows: patches, cols: features },
      "model.visual.patch_embed.proj",
    );
    const places = groups.map(([gh, gw]) => visionPositions(gh, gw, vision.spatialMergeSize));
    add(h.data, this.#visionPositions(groups, places));
    const blocks: Float64Array[] = [];
    const deepstack: Float64Array[] = [];
    for (let i = 0; i < vision.depth; i++) {
      h = this.#visionBlock(h, `model.visual.blocks.${i}.`, groups, places);
      blocks.push(h.data.slice());
      const tap = vision.deepstackVisualIndexes.indexOf(i);
      if (tap >= 0) deepstack[tap] = this.#merge(h, `model.visual.deepstack_merger_list.${tap}.`, true);
    }
    return { blocks, deepstack, embeddings: this.#merge(h, "model.visual.merger.", false) };
  }

  /** The learned position table at every patch, corners aligned. */
  #visionPositions(groups: readonly (readonly [number, number])[], places: readonly Uint32Array[]): Float64Array {
    const width = this.config.vision.hiddenSize;
    const table = this.#data("model.visual.pos_embed.weight");
    const side = Math.sqrt(table.length / width);
    const out: number[] = [];
    for (const [g, [gh, gw]] of groups.entries()) {
      for (let p = 0; p < gh * gw; p++) {
        const sy = gh > 1 ? (places[g]![2 * p]! * (side - 1)) / (gh - 1) : 0;
        const sx = gw > 1 ? (places[g]![2 * p + 1]! * (side - 1)) / (gw - 1) : 0;
        const [y, x] = [Math.floor(sy), Math.floor(sx)];
        const [y1, x1] = [Math.min(y + 1, side - 1), Math.min(x + 1, side - 1)];
        const at = (row: number, col: number, c: number) => table[(row * side + col) * width + c]!;
        for (let c = 0; c < width; c++) {
          const above = at(y, x, c) * (1 - sx + x) + at(y, x1, c) * (sx - x);
          const below = at(y1, x, c) * (1 - sx + x) + at(y1, x1, c) * (sx - x);
          out.push(above * (1 - sy + y) + below * (sy - y));
        }
      }
    }
    return Float64Array.from(out);
  }

  #visionBlock(
    x: Matrix,
    name: string,
    groups: readonly (readonly [number, number])[],
    places: readonly Uint32Array[],
  ): Matrix {
    const { numHeads, ropeTheta, hiddenSize } = this.config.vision;
    const d = hiddenSize / numHeads;
    const qkv = this.#linear(this.#layerNorm(x, `${name}norm1`), `${name}attn.qkv`).data;
    const mixed = new Float64Array(x.rows * hiddenSize);
    let first = 0;
    for (const [g, [gh, gw]] of groups.entries()) {
      const count = gh * gw;
      for (let p = 0; p < count; p++) {
        const angles = Array.from({ length: d / 2 }, (_, j) => {
          const position = places[g]![2 * p + (j < d / 4 ? 0 : 1)]!;
          return position * ropeTheta ** ((-4 * (j % (d / 4))) / d);
        });
        for (let head = 0; head < 2 * numHeads; head++) rotate(qkv, 3 * hiddenSize * (first + p) + head * d, angles);
      }
      const scores = new Float64Array(count);
      for (let head = 0; head < numHeads; head++) {
        for (let i = 0; i < count; i++) {
          const q = 3 * hiddenSize * (first + i) + head * d;
          for (let j = 0; j < count; j++) {
            const k = 3 * hiddenSize * (first + j) + hiddenSize + head * d;
            let dot = 0;
            for (let c = 0; c < d; c++) dot += qkv[q + c]! * qkv[k + c]!;
            scores[j] = dot / Math.sqrt(d);
          }
          softmax(scores, count);
          const out = hiddenSize * (first + i) + head * d;
          for (let j = 0; j < count; j++) {
            const v = 3 * hiddenSize * (first + j) + 2 * hiddenSize + head * d;
            for (let c = 0; c < d; c++) mixed[out + c]! += scores[j]! * qkv[v + c]!;
          }
        }
      }
      first += count;
    }
    const h = { ...x, data: x.data.slice() };
    add(h.data, this.#linear({ data: mixed, rows: x.rows, cols: hiddenSize }, `${name}attn.proj`).data);
    const inner = this.#linear(this.#layerNorm(h, `${name}norm2`), `${name}mlp.linear_fc1`);
    add(h.data, this.#linear({ ...inner, data: inner.data.map(geluTanh) }, `${name}mlp.linear_fc2`).data);
    return h;
  }

  /** Four patches to one token. DeepStack's mergers normalise after the four are joined, the final one before. */
  #merge(h: Matrix, name: string, isDeepstack: boolean): Float64Array {
    const four = this.config.vision.spatialMergeSize ** 2;
    const joined = (x: Matrix): Matrix => ({ data: x.data, rows: x.rows / four, cols: x.cols * four });
    const z = isDeepstack ? this.#layerNorm(joined(h), `${name}norm`) : joined(this.#layerNorm(h, `${name}norm`));
    const inner = this.#linear(z, `${name}linear_fc1`);
    return this.#linear({ ...inner, data: inner.data.map(geluErf) }, `${name}linear_fc2`).data;
  }

  /**
   * Runs a whole prompt, or the next tokens of one when `past` holds what came before.
   * @param ids  the new tokens
   * @returns hidden: after each layer, before a DeepStack addition, [tokens, hidden]; logits [tokens, vocab]; delta for `decode`
   */
  prefill(ids: readonly number[], grids: readonly Grid[], vision?: ReferenceVision, past?: ReferenceCache) {
    const { positions, delta } = ropePositions(ids, grids, this.config);
    return { ...this.#run(ids, positions, vision, past), positions, delta };
  }

  /** One token after `past`, whose prompt had `delta`. */
  decode(id: number, delta: number, past: ReferenceCache) {
    const width = this.config.text.numKeyValueHeads * this.config.text.headDim;
    const position = past.keys[0]!.length / width + delta;
    return this.#run([id], [position, position, position], undefined, past);
  }

  #run(
    ids: readonly number[],
    positions: ArrayLike<number>,
    vision: ReferenceVision | undefined,
    past: ReferenceCache = { keys: [], values: [] },
  ) {
    const { text, imageTokenId, videoTokenId } = this.config;
    const width = text.hiddenSize;
    const table = this.#data("model.language_model.embed_tokens.weight");
    const x = { data: new Float64Array(ids.length * width), rows: ids.length, cols: width };
    const pads = [...ids.keys()].filter((i) => ids[i] === imageTokenId || ids[i] === videoTokenId);
    ids.forEach((id, i) => {
      x.data.set(table.subarray(id * width, (id + 1) * width), i * width);
    });
    pads.forEach((at, row) => {
      x.data.set(vision!.embeddings.subarray(row * width, (row + 1) * width), at * width);
    });
    const hidden: Float64Array[] = [];
    for (let i = 0; i < text.numHiddenLayers; i++) {
      this.#layer(x, i, positions, past);
      hidden.push(x.data.slice());
      const features = vision?.deepstack[i];
      if (features) {
        pads.forEach((at, row) => {
          for (let c = 0; c < width; c++) x.data[at * width + c]! += features[row * width + c]!;
        });
      }
    }
    const last = norm(x, this.#data("model.language_model.norm.weight"), text.rmsNormEps);
    const head = text.tieWordEmbeddings ? "model.language_model.embed_tokens" : "lm_head";
    return { hidden, logits: this.#linear(last, head).data, past };
  }

  /** One decoder layer, in place; its keys and values go to `past`. */
  #layer(x: Matrix, i: number, positions: ArrayLike<number>, past: ReferenceCache): void {
    const { text } = this.config;
    const d = text.headDim;
    const name = `model.language_model.layers.${i}.`;
    const rms = (m: Matrix, n: string) => norm(m, this.#data(`${name}${n}.weight`), text.rmsNormEps);
    const perHead = (m: Matrix, n: string) =>
      rms({ data: m.data, rows: (m.rows * m.cols) / d, cols: d }, `self_attn.${n}`).data;
    const a = rms(x, "input_layernorm");
    const q = perHead(this.#linear(a, `${name}self_attn.q_proj`), "q_norm");
    const k = perHead(this.#linear(a, `${name}self_attn.k_proj`), "k_norm");
    const v = this.#linear(a, `${name}self_attn.v_proj`).data;
    const [heads, kvHeads] = [text.numAttentionHeads, text.numKeyValueHeads];
    for (let r = 0; r < x.rows; r++) {
      const angles = Array.from({ length: d / 2 }, (_, j) => {
        return positions[3 * r + mropeAxis(j, text.mropeSection)]! * text.ropeTheta ** ((-2 * j) / d);
      });
      for (let head = 0; head < heads; head++) rotate(q, (r * heads + head) * d, angles);
      for (let head = 0; head < kvHeads; head++) rotate(k, (r * kvHeads + head) * d, angles);
    }
    past.keys[i] ??= [];
    past.values[i] ??= [];
    const [keys, values] = [past.keys[i], past.values[i]];
    const before = keys.length / (kvHeads * d);
    const kept = (x: Float64Array) => (this.cacheInEightBits ? inEightBits(x, d) : x);
    for (const value of kept(k)) keys.push(value);
    for (const value of kept(v)) values.push(value);
    const mixed = new Float64Array(x.rows * heads * d);
    const scores = new Float64Array(before + x.rows);
    for (let r = 0; r < x.rows; r++) {
      const seen = before + r + 1;
      for (let head = 0; head < heads; head++) {
        const at = (r * heads + head) * d;
        const kv = Math.floor(head / (heads / kvHeads)) * d;
        for (let j = 0; j < seen; j++) {
          let dot = 0;
          for (let c = 0; c < d; c++) dot += q[at + c]! * keys[j * kvHeads * d + kv + c]!;
          scores[j] = dot / Math.sqrt(d);
        }
        softmax(scores, seen);
        for (let j = 0; j < seen; j++) {
          for (let c = 0; c < d; c++) mixed[at + c]! += scores[j]! * values[j * kvHeads * d + kv + c]!;
        }
      }
    }
    add(x.data, this.#linear({ data: mixed, rows: x.rows, cols: heads * d }, `${name}self_attn.o_proj`).data);
    const b = rms(x, "post_attention_layernorm");
    const gate = this.#linear(b, `${name}mlp.gate_proj`);
    const up = this.#linear(b, `${name}mlp.up_proj`).data;
    add(
      x.data,
      this.#linear({ ...gate, data: gate.data.map((g, n) => silu(g) * up[n]!) }, `${name}mlp.down_proj`).data,
    );
  }
}
