// ggml's block types written by code that shares nothing with the reader: bytes, and the values that these bytes stand for.
import { bf16ToF32, encodeFloats, f16ToF32, f32ToBf16, f32ToF16 } from "../src/formats/dtype.ts";

export interface Quantized {
  bytes: Uint8Array<ArrayBuffer>;
  values: Float32Array;
}

/** ggml's number of each type, elements of a block, and its bytes. */
export const TYPES = {
  F32: [0, 1, 4],
  F16: [1, 1, 2],
  BF16: [30, 1, 2],
  Q4_0: [2, 32, 18],
  Q4_1: [3, 32, 20],
  Q5_0: [6, 32, 22],
  Q5_1: [7, 32, 24],
  Q8_0: [8, 32, 34],
  Q4_K: [12, 256, 144],
  Q5_K: [13, 256, 176],
  Q6_K: [14, 256, 210],
  IQ4_NL: [20, 32, 18],
  IQ4_XS: [23, 256, 136],
} as const satisfies Record<string, [id: number, block: number, bytes: number]>;

export type TypeName = keyof typeof TYPES;

const half = (value: number) => f16ToF32(f32ToF16(value));
const clamp = (value: number, low: number, high: number) => Math.min(Math.max(Math.round(value), low), high) + 0;

/** A writer of one block: `x` are its elements; fills `bytes` (zeros before) and `values`. */
type WriteBlock = (x: Float32Array, bytes: DataView, values: Float32Array) => void;

const largest = (x: Float32Array) => x.reduce((max, value) => (Math.abs(value) > Math.abs(max) ? value : max), 0);

/** Writes the bits of a code at bit `shift` of a byte. */
const put = (view: DataView, at: number, code: number, shift: number) =>
  view.setUint8(at, view.getUint8(at) | (code << shift));

/** Affine or symmetric groups of 32 with codes of 4 or 5 bits. */
function small(bits: 4 | 5, hasMin: boolean): WriteBlock {
  const top = 2 ** bits - 1;
  const middle = (top + 1) / 2;
  return (x, view, values) => {
    const [low, high] = [Math.min(...x), Math.max(...x)];
    const d = half(hasMin ? (high - low) / top : largest(x) / -middle);
    const m = hasMin ? half(low) : -middle * d;
    view.setUint16(0, f32ToF16(d), true);
    if (hasMin) view.setUint16(2, f32ToF16(m), true);
    const highBits = hasMin ? 4 : 2;
    const nibbles = highBits + (bits === 5 ? 4 : 0);
    x.forEach((value, i) => {
      const code = d === 0 ? 0 : clamp((value - m) / d, 0, top);
      put(view, nibbles + (i % 16), code & 15, i < 16 ? 0 : 4);
      if (bits === 5) put(view, highBits + (i >> 3), code >> 4, i & 7);
      values[i] = code * d + m;
    });
  };
}

/** Eight groups of 32 with scales and mins of six bits: the first four plainly, the others in the top bits and the last four bytes. */
function superblock(bits: 4 | 5): WriteBlock {
  const top = 2 ** bits - 1;
  return (x, view, values) => {
    const groups = Array.from({ length: 8 }, (_, s) => x.subarray(32 * s, 32 * s + 32));
    const lows = groups.map((group) => Math.min(0, ...group));
    const ranges = groups.map((group, s) => Math.max(...group) - lows[s]!);
    const d = half(Math.max(...ranges) / top / 63);
    const dmin = half(-Math.min(...lows) / 63);
    view.setUint16(0, f32ToF16(d), true);
    view.setUint16(2, f32ToF16(dmin), true);
    const scales = ranges.map((range) => (d === 0 ? 0 : clamp(range / top / d, 0, 63)));
    const mins = lows.map((low) => (dmin === 0 ? 0 : clamp(-low / dmin, 0, 63)));
    for (let j = 0; j < 4; j++) {
      view.setUint8(4 + j, scales[j]! | ((scales[j + 4]! >> 4) << 6));
      view.setUint8(8 + j, mins[j]! | ((mins[j + 4]! >> 4) << 6));
      view.setUint8(12 + j, (scales[j + 4]! & 15) | ((mins[j + 4]! & 15) << 4));
    }
    const codesAt = bits === 5 ? 48 : 16;
    x.forEach((value, k) => {
      const s = k >> 5;
      const scale = d * scales[s]!;
      const min = dmin * mins[s]!;
      const code = scale === 0 ? 0 : clamp((value + min) / scale, 0, top);
      put(view, codesAt + 32 * (k >> 6) + (k & 31), code & 15, 4 * (s & 1));
      if (bits === 5) put(view, 16 + (k & 31), code >> 4, s);
      values[k] = code * scale - min;
    });
  };
}

const q8: WriteBlock = (x, view, values) => {
  const d = half(Math.abs(largest(x)) / 127);
  view.setUint16(0, f32ToF16(d), true);
  x.forEach((value, i) => {
    const code = d === 0 ? 0 : clamp(value / d, -128, 127);
    view.setInt8(2 + i, code);
    values[i] = code * d;
  });
};

const q6k: WriteBlock = (x, view, values) => {
  const peaks = Array.from({ length: 16 }, (_, s) => largest(x.subarray(16 * s, 16 * s + 16)) / -32);
  const d = half(Math.max(...peaks.map(Math.abs)) / 127);
  view.setUint16(208, f32ToF16(d), true);
  x.forEach((value, k) => {
    const s = k >> 4;
    const part = d === 0 ? 0 : clamp(peaks[s]! / d, -128, 127);
    view.setInt8(192 + s, part);
    const scale = d * part;
    const code = scale === 0 ? 32 : clamp(value / scale + 32, 0, 63);
    const [h, g, l] = [k >> 7, (k & 127) >> 5, k & 31];
    put(view, 64 * h + 32 * (g & 1) + l, code & 15, 4 * (g >> 1));
    put(view, 128 + 32 * h + l, code >> 4, 2 * g);
    values[k] = scale * (code - 32);
  });
};

const CURVE = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const nearest = (value: number) =>
  CURVE.reduce((best, y, i) => (Math.abs(y - value) < Math.abs(CURVE[best]! - value) ? i : best), 0);

const iq4nl: WriteBlock = (x, view, values) => {
  const d = half(largest(x) / -127);
  view.setUint16(0, f32ToF16(d), true);
  x.forEach((value, i) => {
    const code = d === 0 ? 8 : nearest(value / d);
    put(view, 2 + (i % 16), code, i < 16 ? 0 : 4);
    values[i] = d * CURVE[code]!;
  });
};

const iq4xs: WriteBlock = (x, view, values) => {
  const peaks = Array.from({ length: 8 }, (_, s) => largest(x.subarray(32 * s, 32 * s + 32)) / -127);
  const d = half(Math.max(...peaks.map(Math.abs)) / 31);
  view.setUint16(0, f32ToF16(d), true);
  let high = 0;
  peaks.forEach((peak, s) => {
    const ls = (d === 0 ? 0 : clamp(peak / d, -32, 31)) + 32;
    high |= (ls >> 4) << (2 * s);
    put(view, 4 + (s >> 1), ls & 15, 4 * (s & 1));
    for (let i = 0; i < 32; i++) {
      const scale = d * (ls - 32);
      const code = scale === 0 ? 8 : nearest(x[32 * s + i]! / scale);
      put(view, 8 + 16 * s + (i % 16), code, i < 16 ? 0 : 4);
      values[32 * s + i] = scale * CURVE[code]!;
    }
  });
  view.setUint16(2, high, true);
};

const BLOCKS: Partial<Record<TypeName, WriteBlock>> = {
  Q4_0: small(4, false),
  Q4_1: small(4, true),
  Q5_0: small(5, false),
  Q5_1: small(5, true),
  Q8_0: q8,
  Q4_K: superblock(4),
  Q5_K: superblock(5),
  Q6_K: q6k,
  IQ4_NL: iq4nl,
  IQ4_XS: iq4xs,
};

/** Writes whole blocks; throws when `x` is not a multiple of the type's block. */
export function quantize(type: TypeName, x: Float32Array): Quantized {
  const [, block, size] = TYPES[type];
  if (x.length % block) throw new Error(`${type}: ${x.length} values do not fill blocks of ${block}`);
  const write = BLOCKS[type];
  if (!write) {
    const dtype = type as "F32" | "F16" | "BF16";
    const round = { F32: (v: number) => v, F16: half, BF16: (v: number) => bf16ToF32(f32ToBf16(v)) }[dtype];
    return { bytes: encodeFloats(dtype, x), values: x.map(round) };
  }
  const bytes = new Uint8Array((x.length / block) * size);
  const values = new Float32Array(x.length);
  for (let b = 0; b < x.length / block; b++) {
    const at = b * block;
    write(x.subarray(at, at + block), new DataView(bytes.buffer, b * size, size), values.subarray(at, at + block));
  }
  // A reader may give either zero.
  return { bytes, values: values.map((value) => value + 0) };
}

/** What llama.cpp's quantizer takes instead where rows do not fill the type's blocks. */
export function fittingType(type: TypeName, cols: number): TypeName {
  if (cols % TYPES[type][1] === 0) return type;
  const smaller: Partial<Record<TypeName, TypeName>> = { Q4_K: "Q5_0", Q5_K: "Q5_1", Q6_K: "Q8_0", IQ4_XS: "IQ4_NL" };
  return fittingType(smaller[type] ?? "F16", cols);
}
