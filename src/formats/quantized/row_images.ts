import { f32ToBf16, f32ToF16 } from "../dtype.ts";
import { bitsOfF32, zeroWord } from "../quant/planes.ts";
import { type GroupedScheme, grouping, metaWords, rowLayout } from "../weight_slot.ts";

/** Rows in a scheme's row format (row_format.ts), written piece by piece: each row its codes, then its metadata. */
export class RowImages {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #words: Uint32Array;
  readonly #rowWords: number;
  readonly #codeWords: number;
  readonly #groups: number;
  readonly #group: number;
  readonly #scheme: GroupedScheme;

  constructor(scheme: GroupedScheme, rows: number, cols: number) {
    const { codesBytes, metaBytes, paddedCols } = rowLayout(scheme, cols);
    this.bytes = new Uint8Array(rows * (codesBytes + metaBytes));
    this.#words = new Uint32Array(this.bytes.buffer);
    this.#rowWords = (codesBytes + metaBytes) / 4;
    this.#codeWords = codesBytes / 4;
    this.#scheme = scheme;
    this.#group = grouping(scheme)!.group;
    this.#groups = paddedCols / this.#group;
  }

  /** Eight 4-bit codes, column 8·i … 8·i + 7 from the lowest bits up. */
  setNibbles(row: number, i: number, word: number): void {
    this.#words[row * this.#rowWords + i] = spread(word & 0xffff) | (spread(word >>> 16) << 4);
  }

  /** All 8-bit codes of a row. */
  setBytes(row: number, codes: Uint8Array): void {
    this.bytes.set(codes, row * this.#rowWords * 4);
  }

  /**
   * Metadata of a row from groups of `sourceGroup` columns, a multiple of the scheme's: what is `scale` and `second` in the source's
   * group g? `second` is the zero point, the offset, or nothing, as the scheme has it.
   */
  setMeta(row: number, sourceGroup: number, scale: (g: number) => number, second: (g: number) => number): void {
    const { meta } = grouping(this.#scheme)!;
    const step = metaWords(meta);
    let at = row * this.#rowWords + this.#codeWords;
    for (let t = 0; t < this.#groups; t++, at += step) {
      const g = Math.floor((t * this.#group) / sourceGroup);
      const [a, b] = [scale(g), second(g)];
      if (meta === "zero") this.#words[at] = zeroWord(a, b);
      else if (meta === "f16_pair") this.#words[at] = f32ToF16(a) | (f32ToF16(b) << 16);
      else if (meta === "bf16_pair") this.#words[at] = f32ToBf16(a) | (f32ToBf16(b) << 16);
      else {
        this.#words[at] = bitsOfF32(a);
        if (meta === "f32_pair") this.#words[at + 1] = bitsOfF32(b);
      }
    }
  }
}

/** Four nibbles, each into the low half of a byte of its own. */
function spread(nibbles: number): number {
  const pairs = (nibbles | (nibbles << 8)) & 0x00ff00ff;
  return (pairs | (pairs << 4)) & 0x0f0f0f0f;
}
