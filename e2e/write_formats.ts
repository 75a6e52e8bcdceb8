// Writers of the published forms of quantized checkpoints, for fixtures and `npm run parity -- --format`. Plain loops after
// checkpoint-formats.md; what a weight is worth afterwards is computed here, not by the readers under test.
import { createHash } from "node:crypto";
import { f16ToF32, f32ToBf16, f32ToF16 } from "../src/formats/dtype.ts";
import { CODE_VALUES } from "../src/formats/quant/codes.ts";

export interface WrittenTensor {
  name: string;
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
}

/** A weight in some form: its tensors, and the values [out, cols] that they stand for. */
export interface Written {
  tensors: WrittenTensor[];
  values: Float32Array;
}

export interface Dense {
  /** For example "model.language_model.layers.0.mlp.up_proj": without ".weight". */
  module: string;
  out: number;
  cols: number;
  values: ArrayLike<number>;
}

const bytesOf = (data: { buffer: ArrayBufferLike; byteOffset: number; byteLength: number }) =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
const halves = (values: ArrayLike<number>) => bytesOf(Uint16Array.from(values, f32ToF16));
const bf16 = (values: ArrayLike<number>) => bytesOf(Uint16Array.from(values, f32ToBf16));
const bf16Value = (value: number) => new Float32Array(Uint32Array.of(f32ToBf16(value) << 16).buffer)[0]!;

// ---------------------------------------------------------------------------------------------------------- bitsandbytes, §2

/** The signed 8-bit map that absmax values are nested with; its hash is the library's. */
export function dynamicMap(): Float32Array {
  const values = [0, 1];
  for (let i = 0; i < 7; i++) {
    const count = 2 ** i + 1;
    // PyTorch's points in f32: from either end to the middle, each rounded once.
    const step = Math.fround(Math.fround(1 - Math.fround(0.1)) / (count - 1));
    const points = Array.from({ length: count }, (_, n) => {
      return Math.fround(n < count >> 1 ? Math.fround(0.1) + step * n : 1 - step * (count - 1 - n));
    });
    const power = Math.fround(10 ** (i - 6));
    for (let n = 0; n + 1 < count; n++) {
      const middle = Math.fround((Math.fround(points[n]! + points[n + 1]!) / 2) * power);
      values.push(middle, -middle);
    }
  }
  return Float32Array.from(values.sort((a, b) => a - b));
}

export function hashOf(data: Float32Array): string {
  return createHash("sha256").update(bytesOf(data)).digest("hex");
}

export function writeBnb(
  { module, out, cols, values }: Dense,
  { blocksize = 64, nested = true, kind = "nf4" as "nf4" | "fp4", dtype = "bfloat16" } = {},
): Written {
  const table = CODE_VALUES[kind];
  const count = out * cols;
  const blocks = Math.ceil(count / blocksize);
  const absmax = new Float32Array(blocks);
  for (let e = 0; e < count; e++) {
    const b = Math.floor(e / blocksize);
    absmax[b] = Math.max(absmax[b]!, Math.abs(values[e]!));
  }
  const packed = new Uint8Array(Math.ceil(count / 2));
  const codes = new Uint8Array(count);
  for (let e = 0; e < count; e++) {
    const inverse = Math.fround(1 / absmax[Math.floor(e / blocksize)]!);
    codes[e] = nearest(table, Number.isFinite(inverse) ? Math.fround(values[e]! * inverse) : 0);
    packed[e >> 1]! |= codes[e]! << (e % 2 === 0 ? 4 : 0);
  }
  const key = `${module}.weight`;
  const state: Record<string, unknown> = { quant_type: kind, blocksize, dtype, shape: [out, cols] };
  const tensors: WrittenTensor[] = [
    { name: key, dtype: "U8", shape: [packed.length, 1], bytes: packed },
    { name: `${key}.quant_map`, dtype: "F32", shape: [16], bytes: bytesOf(table) },
  ];
  let scales = absmax;
  if (nested) {
    const offset = Math.fround(absmax.reduce((sum, a) => sum + a, 0) / blocks);
    const map = dynamicMap();
    const outer = new Float32Array(Math.ceil(blocks / 256));
    absmax.forEach((a, b) => {
      outer[b >> 8] = Math.max(outer[b >> 8]!, Math.abs(Math.fround(a - offset)));
    });
    const inner = Uint8Array.from(absmax, (a, b) => nearest(map, outer[b >> 8]! && (a - offset) / outer[b >> 8]!));
    scales = Float32Array.from(inner, (code, b) => Math.fround(map[code]! * outer[b >> 8]!) + offset);
    tensors.push(
      { name: `${key}.absmax`, dtype: "U8", shape: [blocks], bytes: inner },
      { name: `${key}.nested_absmax`, dtype: "F32", shape: [outer.length], bytes: bytesOf(outer) },
      { name: `${key}.nested_quant_map`, dtype: "F32", shape: [256], bytes: bytesOf(map) },
    );
    Object.assign(state, { nested_blocksize: 256, nested_dtype: "float32", nested_offset: offset });
  } else tensors.push({ name: `${key}.absmax`, dtype: "F32", shape: [blocks], bytes: bytesOf(absmax) });
  const blob = pythonJson(state);
  tensors.push({ name: `${key}.quant_state.bitsandbytes__${kind}`, dtype: "U8", shape: [blob.length], bytes: blob });
  const exact = Float32Array.from({ length: count }, (_, e) => table[codes[e]!]! * scales[Math.floor(e / blocksize)]!);
  return { tensors, values: exact };
}

/** As Python's json.dumps writes it: with a blank behind "," and ":". */
export function pythonJson(state: Record<string, unknown>): Uint8Array<ArrayBuffer> {
  const json = JSON.stringify(state).replaceAll(/,(?=["\d])|:(?=["\d[])/g, (sign) => `${sign} `);
  return new TextEncoder().encode(json);
}

/** The entry next to a value; of two that are equally near the lower code. */
function nearest(table: Float32Array, value: number): number {
  let best = 0;
  for (let i = 1; i < table.length; i++) {
    if (Math.abs(table[i]! - value) < Math.abs(table[best]! - value)) best = i;
  }
  return best;
}

// ------------------------------------------------------------------------------------- 4-bit codes with integer zeros, §3

/** code, zero: [out, cols] and [out, groups]; scales are f16 values. weight = (code - zero) * scale. */
export interface Int4 {
  module: string;
  out: number;
  cols: number;
  group: number;
  codes: Uint8Array;
  zeros: Uint8Array;
  scales: Float32Array;
}

/** Rounds to groups with zeros of 1…15, or of 8 when symmetric; with 8 bits 1…255, or 128. */
export function toInt4({ module, out, cols, values }: Dense, group: number, symmetric = false, bits = 4): Int4 {
  const most = 2 ** bits - 1;
  const middle = (most + 1) / 2;
  const groups = cols / group;
  const [codes, zeros, scales] = [
    new Uint8Array(out * cols),
    new Uint8Array(out * groups),
    new Float32Array(out * groups),
  ];
  for (let at = 0; at < out * groups; at++) {
    const part = Array.from({ length: group }, (_, i) => values[at * group + i]!);
    const [low, high] = [Math.min(...part, 0), Math.max(...part, 0)];
    const scale =
      f16ToF32(f32ToF16(symmetric ? Math.max(-low / middle, high / (middle - 1)) : (high - low) / most)) || 2 ** -14;
    const zero = symmetric ? middle : Math.min(Math.max(Math.round(-low / scale), 1), most);
    zeros[at] = zero;
    scales[at] = scale;
    part.forEach((value, i) => {
      codes[at * group + i] = Math.min(Math.max(Math.round(value / scale) + zero, 0), most);
    });
  }
  return { module, out, cols, group, codes, zeros, scales };
}

/** [out, cols]; column k belongs to group gIdx[k], or to that of its place. */
export function int4Values({ out, cols, group, codes, zeros, scales }: Int4, gIdx?: ArrayLike<number>): Float32Array {
  return Float32Array.from({ length: out * cols }, (_, e) => {
    const k = e % cols;
    const g = Math.floor(e / cols) * (cols / group) + (gIdx ? gIdx[k]! : Math.floor(k / group));
    return (codes[e]! - zeros[g]!) * scales[g]!;
  });
}

/** Words [lines, ceil(length / 8)] of the nibbles that `at(line, i)` gives; nibble `place(i % 8)` of a word holds the i-th. With 8 bits, bytes. */
function packWords(
  lines: number,
  length: number,
  at: (line: number, i: number) => number,
  place = (j: number) => j,
  bits = 4,
) {
  const perWord = 32 / bits;
  const perLine = Math.ceil(length / perWord);
  const words = new Uint32Array(lines * perLine);
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < length; i++)
      words[line * perLine + Math.floor(i / perWord)]! |= at(line, i) << (bits * place(i % perWord));
  }
  return bytesOf(words);
}

/** With `gIdx` the groups are strewn, as activation ordering leaves them. */
export function writeCompressedTensors(
  q: Int4,
  symmetric = false,
  { bits = 4, gIdx }: { bits?: 4 | 8; gIdx?: readonly number[] } = {},
): Written {
  const { module, out, cols, group, codes, zeros, scales } = q;
  const groups = cols / group;
  // Zero points are packed down the rows: word [o / 8, g].
  const perWord = 32 / bits;
  const words = new Uint32Array(Math.ceil(out / perWord) * groups);
  for (let o = 0; o < out; o++) {
    for (let g = 0; g < groups; g++)
      words[Math.floor(o / perWord) * groups + g]! |= zeros[o * groups + g]! << (bits * (o % perWord));
  }
  const codeBytes = packWords(out, cols, (o, k) => codes[o * cols + k]!, undefined, bits);
  const tensors: WrittenTensor[] = [
    { name: `${module}.weight_packed`, dtype: "I32", shape: [out, Math.ceil(cols / perWord)], bytes: codeBytes },
    { name: `${module}.weight_scale`, dtype: "F16", shape: [out, groups], bytes: halves(scales) },
    {
      name: `${module}.weight_shape`,
      dtype: "I64",
      shape: [2],
      bytes: bytesOf(BigInt64Array.of(BigInt(out), BigInt(cols))),
    },
  ];
  if (!symmetric) {
    const shape = [Math.ceil(out / perWord), groups];
    tensors.push({ name: `${module}.weight_zero_point`, dtype: "I32", shape, bytes: bytesOf(words) });
  }
  if (gIdx) {
    tensors.push({
      ...{ name: `${module}.weight_g_idx`, dtype: "I32", shape: [cols], bytes: bytesOf(Int32Array.from(gIdx)) },
    });
  }
  return { tensors, values: int4Values(q, gIdx) };
}

/** [out, n] as [n, out]. */
function turned<T extends Uint8Array | Float32Array>(data: T, out: number): number[] {
  const n = data.length / out;
  return Array.from({ length: data.length }, (_, i) => data[(i % out) * n + Math.floor(i / out)]!);
}

export function writeAwq(q: Int4): Written {
  const { module, out, cols, group, codes, zeros, scales } = q;
  const groups = cols / group;
  // Nibble i of a word is column ORDER[i].
  const order = [0, 2, 4, 6, 1, 3, 5, 7];
  const place = (j: number) => order.indexOf(j);
  const qweight = packWords(cols, out, (k, o) => codes[o * cols + k]!, place);
  const qzeros = packWords(groups, out, (g, o) => zeros[o * groups + g]!, place);
  return {
    tensors: [
      { name: `${module}.qweight`, dtype: "I32", shape: [cols, out / 8], bytes: qweight },
      { name: `${module}.qzeros`, dtype: "I32", shape: [groups, out / 8], bytes: qzeros },
      { name: `${module}.scales`, dtype: "F16", shape: [groups, out], bytes: halves(turned(scales, out)) },
    ],
    values: int4Values(q),
  };
}

/** `gIdx` puts column k of the file's weight into group gIdx[k]; the codes are those of the columns as they stand. */
export function writeGptq(q: Int4, { version = 1, gIdx }: { version?: 1 | 2; gIdx?: readonly number[] } = {}): Written {
  const { module, out, cols, group, codes, zeros, scales } = q;
  const groups = cols / group;
  const words = new Uint32Array(Math.ceil(cols / 8) * out);
  for (let o = 0; o < out; o++) {
    for (let k = 0; k < cols; k++) words[(k >> 3) * out + o]! |= codes[o * cols + k]! << (4 * (k & 7));
  }
  const index = Int32Array.from({ length: cols }, (_, k) => gIdx?.[k] ?? Math.floor(k / group));
  const qzeros = packWords(groups, out, (g, o) => zeros[o * groups + g]! - (version === 1 ? 1 : 0));
  return {
    tensors: [
      { name: `${module}.qweight`, dtype: "I32", shape: [Math.ceil(cols / 8), out], bytes: bytesOf(words) },
      { name: `${module}.qzeros`, dtype: "I32", shape: [groups, Math.ceil(out / 8)], bytes: qzeros },
      { name: `${module}.scales`, dtype: "F16", shape: [groups, out], bytes: halves(turned(scales, out)) },
      { name: `${module}.g_idx`, dtype: "I32", shape: [cols], bytes: bytesOf(index) },
    ],
    values: int4Values(q, index),
  };
}

/** A weight whose groups' columns are strewn over the row, as act-order leaves them. */
export function toActOrder(dense: Dense, group: number, bits = 4): { q: Int4; gIdx: number[] } {
  const { out, cols, values } = dense;
  const groups = cols / group;
  // Column k is the (7k mod cols)-th most important; 7 divides none of the widths.
  const rank = (k: number) => (7 * k) % cols;
  const gIdx = Array.from({ length: cols }, (_, k) => Math.floor(rank(k) / group));
  const sorted = Array.from({ length: cols }, (_, k) => k).sort((a, b) => rank(a) - rank(b));
  const ordered = Float32Array.from({ length: out * cols }, (_, e) => {
    return values[Math.floor(e / cols) * cols + sorted[e % cols]!]!;
  });
  const q = toInt4({ ...dense, values: ordered }, group, false, bits);
  const codes = new Uint8Array(out * cols);
  for (let e = 0; e < out * cols; e++) codes[Math.floor(e / cols) * cols + sorted[e % cols]!] = q.codes[e]!;
  if (groups * group !== cols) throw new Error(`${cols} columns are no multiple of ${group}`);
  return { q: { ...q, codes }, gIdx };
}

export function writeActOrder(dense: Dense, group: number): Written {
  const { q, gIdx } = toActOrder(dense, group);
  return writeGptq(q, { gIdx });
}

// ------------------------------------------------------------------------------------------------------- FP8, MLX §5

export function writeFp8({ module, out, cols, values }: Dense, block = 128): Written {
  const table = CODE_VALUES.e4m3;
  const [rows, perRow] = [Math.ceil(out / block), Math.ceil(cols / block)];
  const blockOf = (e: number) => Math.floor(Math.floor(e / cols) / block) * perRow + Math.floor((e % cols) / block);
  const largest = new Float32Array(rows * perRow);
  for (let e = 0; e < out * cols; e++) largest[blockOf(e)] = Math.max(largest[blockOf(e)]!, Math.abs(values[e]!));
  const factors = largest.map((value) => bf16Value(value / 448) || 1);
  const finite = Float32Array.from(table, (value) => (Number.isNaN(value) ? Number.POSITIVE_INFINITY : value));
  const codes = Uint8Array.from({ length: out * cols }, (_, e) => nearest(finite, values[e]! / factors[blockOf(e)]!));
  return {
    tensors: [
      { name: `${module}.weight`, dtype: "F8_E4M3", shape: [out, cols], bytes: codes },
      { name: `${module}.weight_scale_inv`, dtype: "BF16", shape: [rows, perRow], bytes: bf16(factors) },
    ],
    values: Float32Array.from(codes, (code, e) => table[code]! * factors[blockOf(e)]!),
  };
}

export function writeMlx({ module, out, cols, values }: Dense, bits: 4 | 8, group = 32): Written {
  const groups = cols / group;
  const most = 2 ** bits - 1;
  const [scales, biases] = [new Float32Array(out * groups), new Float32Array(out * groups)];
  const codes = new Uint8Array(out * cols);
  for (let at = 0; at < out * groups; at++) {
    const part = Array.from({ length: group }, (_, i) => values[at * group + i]!);
    const [low, high] = [Math.min(...part), Math.max(...part)];
    // The edge of larger magnitude is met exactly, so the scale may be negative.
    const isLow = Math.abs(low) > Math.abs(high);
    scales[at] = bf16Value((isLow ? high - low : low - high) / most) || 2 ** -20;
    biases[at] = bf16Value(isLow ? low : high);
    part.forEach((value, i) => {
      codes[at * group + i] = Math.min(Math.max(Math.round((value - biases[at]!) / scales[at]!), 0), most);
    });
  }
  const packed = bits === 8 ? codes : packWords(out, cols, (o, k) => codes[o * cols + k]!);
  const meta = { dtype: "BF16", shape: [out, groups] };
  return {
    tensors: [
      { name: `${module}.weight`, dtype: "U32", shape: [out, (cols * bits) / 32], bytes: packed },
      { ...meta, name: `${module}.scales`, bytes: bf16(scales) },
      { ...meta, name: `${module}.biases`, bytes: bf16(biases) },
    ],
    values: Float32Array.from(codes, (code, e) => {
      const at = Math.floor(e / group);
      return code * scales[at]! + biases[at]!;
    }),
  };
}
