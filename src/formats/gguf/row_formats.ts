import { f32ToF16 } from "../dtype.ts";
import { NIBBLE_SHIFT, zeroWord } from "../quant/planes.ts";
import { type GroupedScheme, grouping } from "../weight_slot.ts";
import { BLOCK_TYPES, type OpenRow, openBlocks, PART } from "./blocks.ts";

/** Rows of a block type as row_format.ts wants them. */
interface BlockRows {
  rowBytes(cols: number): number;
  decode(raw: Uint8Array, cols: number, out: Float32Array): number;
  exact: {
    scheme: GroupedScheme;
    repack(raw: Uint8Array, cols: number, codes: Uint8Array, meta: Uint8Array): number;
  }[];
}

/** Every scheme that can hold codes of this range with scales of this kind, the smallest first. */
const EIGHT: readonly GroupedScheme[] = ["q8s32", "q8p32", "q8s16", "q8p16"];
const EXACT: Readonly<Record<string, readonly GroupedScheme[]>> = {
  Q4_0: ["q4z32", "q4p32", ...EIGHT],
  Q4_1: ["q4a32", "q4p32", "q8p32", "q8p16"],
  Q5_0: EIGHT,
  Q5_1: ["q8p32", "q8p16"],
  Q8_0: EIGHT,
  Q4_K: ["q4p32", "q8p32", "q8p16"],
  Q5_K: ["q8p32", "q8p16"],
  Q6_K: ["q8s16", "q8p16"],
  IQ4_NL: EIGHT,
  IQ4_XS: EIGHT,
};

/** The row formats of GGUF's block types, by name. */
export const GGUF_ROWS: readonly (readonly [string, BlockRows])[] = [...BLOCK_TYPES].map(([name, type]) => [
  name,
  {
    rowBytes: (cols) => (cols / type.block) * type.bytes,
    decode(raw, cols, out) {
      const { row, bad } = openBlocks(type, raw, cols);
      for (let k = 0; k < cols; k++) out[k] = row.codes[k]! * row.scales[k >> 4]! + row.offsets[k >> 4]!;
      return bad;
    },
    exact: EXACT[name]!.map((scheme) => ({
      scheme,
      repack(raw, cols, codes, meta) {
        const { row, bad } = openBlocks(type, raw, cols);
        const isSigned = grouping(scheme)!.code === "signed";
        pack(scheme, row, cols, isSigned ? 0 : type.low, codes, meta);
        return bad;
      },
    })),
  },
]);

/** Writes a row into the planes of a scheme; `low` is taken off every code, and put back by the offset. */
function pack(
  scheme: GroupedScheme,
  row: OpenRow,
  cols: number,
  low: number,
  codes: Uint8Array,
  meta: Uint8Array,
): void {
  const { bits, group, meta: kind } = grouping(scheme)!;
  if (bits === 8) for (let k = 0; k < cols; k++) codes[k] = row.codes[k]! - low;
  else {
    const words = new DataView(codes.buffer, codes.byteOffset, codes.byteLength);
    for (let k = 0; k < cols; k += 8) {
      let word = 0;
      for (let j = 0; j < 8; j++) word |= (row.codes[k + j]! - low) << NIBBLE_SHIFT[j]!;
      words.setUint32(k / 2, word, true);
    }
  }
  const view = new DataView(meta.buffer, meta.byteOffset, meta.byteLength);
  for (let k = 0, at = 0; k < cols; k += group) {
    const scale = row.scales[k / PART]!;
    const offset = row.offsets[k / PART]! + low * scale;
    if (kind === "zero") view.setUint32(at, zeroWord(scale, -low), true);
    else if (kind === "f16_pair") view.setUint32(at, f32ToF16(scale) | (f32ToF16(offset) << 16), true);
    else view.setFloat32(at, scale, true);
    at += 4;
    if (kind === "f32_pair") {
      view.setFloat32(at, offset, true);
      at += 4;
    }
  }
}
