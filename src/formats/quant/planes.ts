import { bf16ToF32, f16ToF32 } from "../dtype.ts";
import {
  type GroupedScheme,
  type Grouping,
  grouping,
  type MetaKind,
  metaWords,
  rowLayout,
  type SlotScheme,
} from "../weight_slot.ts";
import { CODE_VALUES } from "./codes.ts";

/** Bit position of element j of a word of 4-bit codes: byte j mod 4, low half for the first four. */
export const NIBBLE_SHIFT: readonly number[] = [0, 8, 16, 24, 4, 12, 20, 28];

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** f32 from its bits. */
function f32OfBits(bits: number): number {
  word[0] = bits;
  return float[0]!;
}

/** Bits of the nearest f32. */
export function bitsOfF32(value: number): number {
  float[0] = value;
  return word[0]!;
}

/**
 * The metadata word of kind `zero`. `scale` must be an f16 or bf16 value, so that its f32 has 13 zero bits to spare; `zero` is 0…16.
 * For example (0.5, 7) is 0x3f000007.
 */
export function zeroWord(scale: number, zero: number): number {
  return (bitsOfF32(scale) | zero) >>> 0;
}

/** Scale and offset of the group whose metadata begins at byte `at`. */
function openMeta(kind: MetaKind, meta: DataView, at: number): [scale: number, offset: number] {
  const bits = meta.getUint32(at, true);
  switch (kind) {
    case "f16_pair":
      return [f16ToF32(bits & 0xffff), f16ToF32(bits >>> 16)];
    case "bf16_pair":
      return [bf16ToF32(bits & 0xffff), bf16ToF32(bits >>> 16)];
    case "zero": {
      const scale = f32OfBits(bits & 0xffffe000);
      return [scale, -(bits & 31) * scale];
    }
    case "f32":
      return [f32OfBits(bits), 0];
    case "f32_pair":
      return [f32OfBits(bits), meta.getFloat32(at + 4, true)];
  }
}

/**
 * The values of one stored row: value(code) * scale + offset in f32, which is what the GPU computes up to the rounding of that sum.
 * `out` gets the first `cols`. Returns the index of the first that is not finite, or -1.
 */
export function openRow(
  scheme: SlotScheme,
  codes: Uint8Array,
  meta: Uint8Array,
  cols: number,
  out: Float32Array,
): number {
  const view = new DataView(codes.buffer, codes.byteOffset, codes.byteLength);
  const grouped = grouping(scheme);
  if (grouped) return openGroups(grouped, view, meta, cols, out);
  for (let k = 0; k < cols; k++) {
    out[k] = scheme === "f32" ? view.getFloat32(4 * k, true) : bf16ToF32(view.getUint16(2 * k, true));
  }
  return firstBad(out, cols);
}

function openGroups(grouped: Grouping, codes: DataView, meta: Uint8Array, cols: number, out: Float32Array): number {
  const { bits, group, code: kind } = grouped;
  const metaView = new DataView(meta.buffer, meta.byteOffset, meta.byteLength);
  const values = CODE_VALUES[kind];
  const metaBytes = 4 * metaWords(grouped.meta);
  for (let start = 0, g = 0; start < cols; start += group, g++) {
    const [scale, offset] = openMeta(grouped.meta, metaView, g * metaBytes);
    const end = Math.min(start + group, cols);
    for (let k = start; k < end; k++) {
      const code = bits === 8 ? codes.getUint8(k) : (codes.getUint32(4 * (k >> 3), true) >>> NIBBLE_SHIFT[k & 7]!) & 15;
      out[k] = values[code]! * scale + offset;
    }
  }
  return firstBad(out, cols);
}

function firstBad(values: Float32Array, count: number): number {
  for (let i = 0; i < count; i++) if (!Number.isFinite(values[i]!)) return i;
  return -1;
}

/** The first column of a group of one row that holds a NaN or an infinity, or -1: a look at the metadata, and at codes that are floats. */
export function firstBadGroup(scheme: GroupedScheme, codes: Uint8Array, meta: Uint8Array, cols: number): number {
  const { group, code, meta: kind } = grouping(scheme)!;
  const view = new DataView(meta.buffer, meta.byteOffset, meta.byteLength);
  const largest = LARGEST_CODE[code];
  for (let start = 0, at = 0; start < cols; start += group, at += 4 * metaWords(kind)) {
    const [scale, offset] = openMeta(kind, view, at);
    if (!Number.isFinite(Math.fround(Math.abs(scale) * largest + Math.abs(offset)))) return start;
  }
  return code === "e4m3" ? codes.findIndex((byte) => (byte & 0x7f) === 0x7f) : -1;
}

const LARGEST_CODE = { unsigned: 255, signed: 128, nf4: 1, fp4: 1, e4m3: 448 } as const;

/** The values of rows of planes as `encodeRows` gives them. */
export function dequantizeRows(
  scheme: SlotScheme,
  planes: { codes: Uint8Array; meta: Uint8Array },
  rows: number,
  cols: number,
): Float32Array {
  const out = new Float32Array(rows * cols);
  const { codesBytes, metaBytes } = rowLayout(scheme, cols);
  for (let r = 0; r < rows; r++) {
    openRow(
      scheme,
      planes.codes.subarray(r * codesBytes, (r + 1) * codesBytes),
      planes.meta.subarray(r * metaBytes, (r + 1) * metaBytes),
      cols,
      out.subarray(r * cols, (r + 1) * cols),
    );
  }
  return out;
}
