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
const IQ4_VALUES: readonly number[] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/**
 * One row of whole numbers with a scale and an offset for every 16 of them: what all block types come down to, without loss.
 * value[k] = code[k] · scale[k >> 4] + offset[k >> 4], where the product is exact in f32.
 */
export interface OpenRow {
  codes: Int16Array;
  scales: Float32Array;
  offsets: Float32Array;
}

/** Elements that share a scale in `OpenRow`. */
export const PART = 16;

/** Opens the block at q[at] to elements from k on. */
type OpenBlock = (q: Uint8Array, at: number, row: OpenRow, k: number) => void;

const f16 = (q: Uint8Array, at: number) => f16ToF32(q[at]! | (q[at + 1]! << 8));
const int8 = (byte: number) => (byte << 24) >> 24;

/** The same scale and offset for `count` elements. */
function fill(row: OpenRow, k: number, count: number, scale: number, offset: number): void {
  row.scales.fill(scale, k / PART, (k + count) / PART);
  row.offsets.fill(offset, k / PART, (k + count) / PART);
}

/** Low halves of the 16 bytes at q[at] are elements 0 to 15, high halves 16 to 31; `plus` is added to each. */
function nibbles(q: Uint8Array, at: number, codes: Int16Array, k: number, plus: number): void {
  for (let j = 0; j < 16; j++) {
    const byte = q[at + j]!;
    codes[k + j] = (byte & 15) + plus;
    codes[k + j + 16] = (byte >> 4) + plus;
  }
}

/** Adds the fifth bits of 32 elements, bit i of the 4 bytes at q[at]. */
function fifths(q: Uint8Array, at: number, codes: Int16Array, k: number): void {
  for (let i = 0; i < 32; i++) codes[k + i]! += ((q[at + (i >> 3)]! >> (i & 7)) & 1) << 4;
}

/** Codes to the values that IQ4_NL and IQ4_XS give them. */
function curve(codes: Int16Array, k: number): void {
  for (let i = k; i < k + 32; i++) codes[i] = IQ4_VALUES[codes[i]!]!;
}

/** The 12 bytes at q[at] that hold eight 6-bit scales and eight 6-bit mins: scales to parts[0…7], mins to parts[8…15]. @internal */
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

/** Q4_K and Q5_K: eight groups of 32. Of each 32 bytes at `low`, the low halves are one group, the high halves the next. */
function superblock(q: Uint8Array, at: number, low: number, row: OpenRow, k: number): void {
  const d = f16(q, at);
  const dmin = f16(q, at + 2);
  openScales(q, at + 4, parts);
  for (let s = 0; s < 8; s++) {
    fill(row, k + 32 * s, 32, d * parts[s]!, -dmin * parts[s + 8]!);
    const from = low + 32 * (s >> 1);
    const shift = 4 * (s & 1);
    for (let i = 0; i < 32; i++) row.codes[k + 32 * s + i] = (q[from + i]! >> shift) & 15;
  }
}

const openQ6K: OpenBlock = (q, at, row, k) => {
  const d = f16(q, at + 208);
  for (let s = 0; s < 16; s++) fill(row, k + 16 * s, 16, d * int8(q[at + 192 + s]!), 0);
  for (let half = 0; half < 2; half++) {
    for (let g = 0; g < 4; g++) {
      const low = at + 64 * half + 32 * (g & 1);
      const high = at + 128 + 32 * half;
      const to = k + 128 * half + 32 * g;
      for (let l = 0; l < 32; l++) {
        const top = ((q[high + l]! >> (2 * g)) & 3) << 4;
        row.codes[to + l] = (((q[low + l]! >> (4 * (g >> 1))) & 15) | top) - 32;
      }
    }
  }
};

const openIQ4XS: OpenBlock = (q, at, row, k) => {
  const d = f16(q, at);
  for (let s = 0; s < 8; s++) {
    const high = (q[at + 2]! | (q[at + 3]! << 8)) >> (2 * s);
    const scale = (((q[at + 4 + (s >> 1)]! >> (4 * (s & 1))) & 15) | ((high & 3) << 4)) - 32;
    fill(row, k + 32 * s, 32, d * scale, 0);
    nibbles(q, at + 8 + 16 * s, row.codes, k + 32 * s, 0);
    curve(row.codes, k + 32 * s);
  }
};

interface BlockType extends GgmlType {
  open: OpenBlock;
  /** The least code. */
  low: number;
}

/** Formulas: checkpoint-formats.md §4.4. */
const BLOCKS: Readonly<Record<string, { open: OpenBlock; low: number }>> = {
  Q4_0: {
    low: -8,
    open: (q, at, row, k) => {
      fill(row, k, 32, f16(q, at), 0);
      nibbles(q, at + 2, row.codes, k, -8);
    },
  },
  Q4_1: {
    low: 0,
    open: (q, at, row, k) => {
      fill(row, k, 32, f16(q, at), f16(q, at + 2));
      nibbles(q, at + 4, row.codes, k, 0);
    },
  },
  Q5_0: {
    low: -16,
    open: (q, at, row, k) => {
      fill(row, k, 32, f16(q, at), 0);
      nibbles(q, at + 6, row.codes, k, -16);
      fifths(q, at + 2, row.codes, k);
    },
  },
  Q5_1: {
    low: 0,
    open: (q, at, row, k) => {
      fill(row, k, 32, f16(q, at), f16(q, at + 2));
      nibbles(q, at + 8, row.codes, k, 0);
      fifths(q, at + 4, row.codes, k);
    },
  },
  Q8_0: {
    low: -128,
    open: (q, at, row, k) => {
      fill(row, k, 32, f16(q, at), 0);
      for (let i = 0; i < 32; i++) row.codes[k + i] = int8(q[at + 2 + i]!);
    },
  },
  Q4_K: { low: 0, open: (q, at, row, k) => superblock(q, at, at + 16, row, k) },
  Q5_K: {
    low: 0,
    open: (q, at, row, k) => {
      superblock(q, at, at + 48, row, k);
      for (let i = 0; i < 256; i++) row.codes[k + i]! += ((q[at + 16 + (i & 31)]! >> (i >> 5)) & 1) << 4;
    },
  },
  Q6_K: { low: -32, open: openQ6K },
  IQ4_NL: {
    low: -127,
    open: (q, at, row, k) => {
      fill(row, k, 32, f16(q, at), 0);
      nibbles(q, at + 2, row.codes, k, 0);
      curve(row.codes, k);
    },
  },
  IQ4_XS: { low: -127, open: openIQ4XS },
};

/** The types that keep their elements in blocks, by name. */
export const BLOCK_TYPES: ReadonlyMap<string, BlockType> = new Map(
  [...GGML_TYPES.values()].flatMap((t) => (t.block > 1 ? [[t.name, { ...t, ...BLOCKS[t.name]! }]] : [])),
);

/**
 * Opens a row of `cols` elements, a multiple of the type's block. Returns the index of the first element whose scale or offset is NaN or
 * infinite, or -1. The row is good until the next call.
 */
export function openBlocks(type: BlockType, raw: Uint8Array, cols: number): { row: OpenRow; bad: number } {
  if (shared.codes.length < cols) {
    shared = {
      codes: new Int16Array(cols),
      scales: new Float32Array(cols / PART),
      offsets: new Float32Array(cols / PART),
    };
  }
  for (let k = 0, at = 0; k < cols; k += type.block, at += type.bytes) type.open(raw, at, shared, k);
  for (let p = 0; p < cols / PART; p++) {
    // Codes are bounded, so a finite f16 scale never gives anything infinite.
    if (!Number.isFinite(shared.scales[p]! + shared.offsets[p]!)) return { row: shared, bad: p * PART };
  }
  return { row: shared, bad: -1 };
}

let shared: OpenRow = { codes: new Int16Array(), scales: new Float32Array(), offsets: new Float32Array() };
