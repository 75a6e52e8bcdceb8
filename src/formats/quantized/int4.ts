import type { TensorInfo } from "../checkpoint.ts";
import { RecentReads } from "../recent_reads.ts";
import type { GroupedScheme } from "../weight_slot.ts";
import { badPart, floatsOf, type RawTensors } from "./raw_tensors.ts";
import { RowImages } from "./row_images.ts";

/** Rows of 4-bit codes with integer zero points: weight = (code - zero) * scale of the group. What AWQ, GPTQ and compressed-tensors share. */
export interface Int4Rows {
  /** Columns of one group; `cols` when a row has but one. */
  group: number;
  /** Puts the codes of the rows asked for into the images. */
  codes(images: Pick<RowImages, "setNibbles">): void;
  /** Of row r among those asked for, in group g. */
  scale(r: number, g: number): number;
  zero(r: number, g: number): number;
}

/**
 * The scheme that holds such rows exactly: f16 and bf16 scales leave room for a zero point in their word, f32 scales become scale and
 * offset. Undefined when the groups are no multiple of 32 columns.
 */
export function int4Scheme(scales: TensorInfo, group: number, cols: number): GroupedScheme | undefined {
  const isWhole = group >= cols;
  if (scales.dtype === "F32") return isWhole || group % 32 === 0 ? "q4p32" : undefined;
  if (scales.dtype !== "F16" && scales.dtype !== "BF16") {
    throw badPart(scales.name, `expected BF16, F16 or F32, found ${scales.dtype}`);
  }
  if (isWhole || group % 64 === 0) return "q4z64";
  return group % 32 === 0 ? "q4z32" : undefined;
}

/** The rows in the scheme's form, or as f32 where there is none. */
export function int4Rows(
  scheme: GroupedScheme | undefined,
  rows: number,
  cols: number,
  source: Int4Rows,
): Uint8Array<ArrayBuffer> {
  if (scheme) {
    const images = new RowImages(scheme, rows, cols);
    source.codes(images);
    for (let r = 0; r < rows; r++) {
      const second = (g: number) => (scheme === "q4p32" ? -source.zero(r, g) * source.scale(r, g) : source.zero(r, g));
      images.setMeta(r, source.group, (g) => source.scale(r, g), second);
    }
    return images.bytes;
  }
  const values = new Float32Array(rows * cols);
  const put = (r: number, k: number, code: number) => {
    const g = Math.floor(k / source.group);
    values[r * cols + k] = (code - source.zero(r, g)) * source.scale(r, g);
  };
  source.codes({
    setNibbles(r, i, word) {
      for (let j = 0; j < 8 && 8 * i + j < cols; j++) put(r, 8 * i + j, (word >>> (4 * j)) & 15);
    },
  });
  return new Uint8Array(values.buffer);
}

/** Columns of a group, from how many there are of them in a row of `cols`. */
export function groupOf(cols: number, groups: number, name: string, wanted: unknown): number {
  const group = typeof wanted === "number" && wanted > 0 ? wanted : Math.ceil(cols / groups);
  if (groups < 1 || Math.ceil(cols / group) !== groups) {
    throw badPart(name, `expected the scales of groups of ${group} among ${cols} columns, found ${groups} in a row`);
  }
  return groups === 1 ? cols : group;
}

/** Little-endian words, copied where their address is odd. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  if (bytes.byteOffset % 4 === 0) return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  return new Uint32Array(bytes.slice().buffer);
}

/** Whole tensors of modules that cannot be read by rows; the last ones that were used are kept. */
export class ModuleCache {
  readonly #raw: RawTensors;
  readonly #recent = new RecentReads<LoadedParts>();

  constructor(raw: RawTensors) {
    this.#raw = raw;
  }

  /** Words of the first tensors, floats of the scales. */
  async load(module: string, words: TensorInfo[], scales: TensorInfo, signal?: AbortSignal): Promise<LoadedParts> {
    const bytes = words.reduce((sum, tensor) => sum + tensor.bytes, scales.bytes);
    return await this.#recent.get(module, bytes, () => this.#read(words, scales, signal));
  }

  async #read(words: TensorInfo[], scales: TensorInfo, signal?: AbortSignal): Promise<LoadedParts> {
    const [scaleBytes, ...wordBytes] = await Promise.all(
      [scales, ...words].map((tensor) => this.#raw.read(tensor, 0, undefined, signal)),
    );
    return { words: wordBytes.map(wordsOf), scales: floatsOf(scales, scaleBytes!) };
  }
}

interface LoadedParts {
  words: Uint32Array[];
  scales: Float32Array;
}
