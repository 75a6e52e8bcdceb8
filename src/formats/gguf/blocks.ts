import { f16ToF32 } from "../dtype.ts";

/** How one ggml type keeps its elements: `block` of them in `bytes`. */
export interface GgmlType {
  /** ggml's own word; F32, F16 and BF16 are spelled as in safetensors. */
  name: string;
  block: number;
  bytes: number;
}

const type = (name: string, block: number, bytes: number): GgmlType => ({ name, block, bytes });

/** The types that weights are read from, by ggml's number. Source: checkpoint-formats.md §4.3. */
export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map([
  [0, type("F32", 1, 4)],
  [1, type("F16", 1, 2)],
  [2, type("Q4_0", 32, 18)],
  [3, type("Q4_1", 32, 20)],
  [6, type("Q5_0", 32, 22)],
  [7, type("Q5_1", 32, 24)],
  [8, type("Q8_0", 32, 34)],
  [12, type("Q4_K", 256, 144)],
  [13, type("Q5_K", 256, 176)],
  [14, type("Q6_K", 256, 210)],
  [20, type("IQ4_NL", 32, 18)],
  [23, type("IQ4_XS", 256, 136)],
  [30, type("BF16", 1, 2)],
]);

/** Names of types that are refused, for messages. */
export const OTHER_GGML_TYPES: ReadonlyMap<number, string> = new Map([
  [9, "Q8_1"],
  [10, "Q2_K"],
  [11, "Q3_K"],
  [15, "Q8_K"],
  [16, "IQ2_XXS"],
  [17, "IQ2_XS"],
  [18, "IQ3_XXS"],
  [19, "IQ1_S"],
  [21, "IQ3_S"],
  [22, "IQ2_S"],
  [24, "I8"],
  [25, "I16"],
  [26, "I32"],
  [27, "I64"],
  [28, "F64"],
  [29, "IQ1_M"],
  [34, "TQ1_0"],
  [35, "TQ2_0"],
  [39, "MXFP4"],
  [40, "NVFP4"],
]);

/** Value of each code of IQ4_NL and IQ4_XS. */
export const IQ4_VALUES: readonly number[] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/** Opens the block that begins at q[at] to out[to…]. All arithmetic is exact but for one rounding to f32 at the end. */
type OpenBlock = (q: Uint8Array, at: number, out: Float32Array, to: number) => void;

const f16 = (q: Uint8Array, at: number) => f16ToF32(q[at]! | (q[at + 1]! << 8));

/** Low halves of 16 bytes are elements 0 to 15, high halves 16 to 31. */
function openNibbles(q: Uint8Array, at: number, scale: number, offset: number, out: Float32Array, to: number): void {
  for (let j = 0; j < 16; j++) {
    const byte = q[at + j]!;
    out[to + j] = (byte & 15) * scale + offset;
    out[to + j + 16] = (byte >> 4) * scale + offset;
  }
}

function openFives(
  q: Uint8Array,
  at: { high: number; low: number },
  d: number,
  offset: number,
  out: Float32Array,
  to: number,
): void {
  for (let i = 0; i < 32; i++) {
    const fifth = (q[at.high + (i >> 3)]! >> (i & 7)) & 1;
    const byte = q[at.low + (i & 15)]!;
    out[to + i] = ((i < 16 ? byte & 15 : byte >> 4) + 16 * fifth) * d + offset;
  }
}

/**
 * The 12 bytes at q[at] that hold eight 6-bit scales and eight 6-bit mins of Q4_K and Q5_K: scales to parts[0…7], mins to parts[8…15].
 */
export function openScales(q: Uint8Array, at: number, parts: Uint8Array): void {
  for (let j = 0; j < 4; j++) {
    const [scale, min, low] = [q[at + j]!, q[at + j + 4]!, q[at + j + 8]!];
    parts[j] = scale & 63;
    parts[j + 8] = min & 63;
    parts[j + 4] = (low & 15) | ((scale >> 6) << 4);
    parts[j + 12] = (low >> 4) | ((min >> 6) << 4);
  }
}

const parts = new Uint8Array(16);

const openQ4K: OpenBlock = (q, at, out, to) => {
  const d = f16(q, at);
  const dmin = f16(q, at + 2);
  openScales(q, at + 4, parts);
  for (let s = 0; s < 8; s++) {
    const scale = d * parts[s]!;
    const min = dmin * parts[s + 8]!;
    const codes = at + 16 + 32 * (s >> 1);
    const shift = 4 * (s & 1);
    for (let i = 0; i < 32; i++) out[to + 32 * s + i] = ((q[codes + i]! >> shift) & 15) * scale - min;
  }
};

const openQ5K: OpenBlock = (q, at, out, to) => {
  const d = f16(q, at);
  const dmin = f16(q, at + 2);
  openScales(q, at + 4, parts);
  for (let s = 0; s < 8; s++) {
    const scale = d * parts[s]!;
    const min = dmin * parts[s + 8]!;
    const codes = at + 48 + 32 * (s >> 1);
    const shift = 4 * (s & 1);
    for (let i = 0; i < 32; i++) {
      const fifth = (q[at + 16 + i]! >> s) & 1;
      out[to + 32 * s + i] = (((q[codes + i]! >> shift) & 15) + 16 * fifth) * scale - min;
    }
  }
};

/** Code 0 … 63 of element k of a Q6_K block at q[at]; its value is d · scale[k >> 4] · (code − 32). */
export function codeQ6K(q: Uint8Array, at: number, k: number): number {
  const half = k >> 7;
  const g = (k & 127) >> 5;
  const l = k & 31;
  const low = (q[at + 64 * half + 32 * (g & 1) + l]! >> (4 * (g >> 1))) & 15;
  return low | (((q[at + 128 + 32 * half + l]! >> (2 * g)) & 3) << 4);
}

const openQ6K: OpenBlock = (q, at, out, to) => {
  const d = f16(q, at + 208);
  for (let k = 0; k < 256; k++) {
    const scale = d * ((q[at + 192 + (k >> 4)]! << 24) >> 24);
    out[to + k] = scale * (codeQ6K(q, at, k) - 32);
  }
};

/** The scale 0 … 63, less 32, of sub-block s of an IQ4_XS block. */
export function scaleIQ4XS(q: Uint8Array, at: number, s: number): number {
  const high = (q[at + 2]! | (q[at + 3]! << 8)) >> (2 * s);
  return (((q[at + 4 + (s >> 1)]! >> (4 * (s & 1))) & 15) | ((high & 3) << 4)) - 32;
}

function openIQ4(q: Uint8Array, at: number, d: number, out: Float32Array, to: number): void {
  for (let j = 0; j < 16; j++) {
    out[to + j] = d * IQ4_VALUES[q[at + j]! & 15]!;
    out[to + j + 16] = d * IQ4_VALUES[q[at + j]! >> 4]!;
  }
}

/** Formulas: checkpoint-formats.md §4.4. */
const OPEN: Readonly<Record<string, OpenBlock>> = {
  Q4_0: (q, at, out, to) => {
    const d = f16(q, at);
    openNibbles(q, at + 2, d, -8 * d, out, to);
  },
  Q4_1: (q, at, out, to) => openNibbles(q, at + 4, f16(q, at), f16(q, at + 2), out, to),
  Q5_0: (q, at, out, to) => {
    const d = f16(q, at);
    openFives(q, { high: at + 2, low: at + 6 }, d, -16 * d, out, to);
  },
  Q5_1: (q, at, out, to) => openFives(q, { high: at + 4, low: at + 8 }, f16(q, at), f16(q, at + 2), out, to),
  Q8_0: (q, at, out, to) => {
    const d = f16(q, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * ((q[at + 2 + i]! << 24) >> 24);
  },
  Q4_K: openQ4K,
  Q5_K: openQ5K,
  Q6_K: openQ6K,
  IQ4_NL: (q, at, out, to) => openIQ4(q, at + 2, f16(q, at), out, to),
  IQ4_XS: (q, at, out, to) => {
    const d = f16(q, at);
    for (let s = 0; s < 8; s++) openIQ4(q, at + 8 + 16 * s, d * scaleIQ4XS(q, at, s), out, to + 32 * s);
  },
};

const BLOCK_TYPES = new Map([...GGML_TYPES.values()].filter(({ block }) => block > 1).map((t) => [t.name, t]));

/** The block type of this name, such as Q4_K; undefined for F16 and for anything else that is not kept in blocks. */
export function ggmlBlockType(name: string): GgmlType | undefined {
  return BLOCK_TYPES.get(name);
}

/**
 * Whole blocks to floats; `count` is a multiple of the block. Returns the index of the first NaN or infinity, or -1: a block's f16
 * scale can be one.
 */
export function decodeBlocks(name: string, raw: Uint8Array, count: number, out: Float32Array): number {
  const { block, bytes } = BLOCK_TYPES.get(name)!;
  const open = OPEN[name]!;
  for (let i = 0, at = 0; i < count; i += block, at += bytes) {
    open(raw, at, out, i);
    // Sums of finite products are finite here, so one bad element means a bad scale, which spoils a whole group of 16 or 32.
    for (let k = i; k < i + block; k += 16) if (!Number.isFinite(out[k]!)) return k;
  }
  return -1;
}
