import { GROUPED_SCHEMES, rowLayout } from "../formats/index.ts";
import type { Gpu, Program } from "../gpu/index.ts";
import type { CacheType } from "./cache.ts";
import type { Matrix } from "./matrix.ts";
import { fillBf16, fillGroups } from "./random_matrix.cases.ts";
import type { Slice } from "./source.ts";

/** The schemes that only checkpoints bring along which were published in them; `PUBLISHED_KINDS` has no two that differ in the group alone. */
export const PUBLISHED_SCHEMES = GROUPED_SCHEMES.filter((scheme) => scheme !== "q4a32" && scheme !== "q4a64");
export const PUBLISHED_KINDS = ["q4b64", "q4z32", "q4p32", "nf4g64", "fp4g32", "q8s16", "q8p16", "f8s64"] as const;

/** Bytes of a matrix [rows, cols] in both planes. */
export function matrixBytes(scheme: Matrix["scheme"], rows: number, cols: number): number {
  const { codesBytes, metaBytes } = rowLayout(scheme, cols);
  return rows * (codesBytes + metaBytes);
}

/** One row of the self-test: inputs, the dispatches under test, and what a plain float64 reference expects. */
export interface KernelCase {
  /** The binding's stem with its variant, for example "matmul q4a32". */
  kernel: string;
  shape: string;
  /** Largest relative L2 error ‖a−b‖/‖b‖ of any output. */
  tolerance: number;
  /** The same where matrix units take the case, or products in f16. */
  onMatrixUnits?: number;
  inHalf?: number;
  /** Left out where the device has none, and nothing stands in for it. */
  needs?: "matrix" | "half";
  /** Least bytes moved and arithmetic of one run, for the share of the ceiling. */
  bytes: number;
  flops: number;
  build(bench: Bench): BuiltCase;
}

/** Whether a device has what a case needs. Where there is no f16, f32 stands in for it, so that what a shader computes is still checked. */
export const canRun = ({ variants, device }: Gpu, { needs }: KernelCase): boolean =>
  !needs || !!variants[needs] || (needs === "half" && !device.features.has("shader-f16"));

export interface BuiltCase {
  record(program: Program): void;
  /** What lies in `slice`: f32 unless it says otherwise, or rows of a cache of heads of size d. */
  outputs: {
    name: string;
    slice: Slice;
    expected: Float64Array;
    type?: "u32";
    cache?: { type: CacheType; d: number };
  }[];
}

/** Deterministic inputs and buffers of a case; `free` releases them. */
export class Bench {
  readonly gpu: Gpu;
  #slices: Slice[] = [];
  #state = 0x2545f491;

  constructor(gpu: Gpu) {
    this.gpu = gpu;
  }

  /** Uniform in [0, 1): mulberry32. */
  random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  /** Uniform in [-scale, scale), in f32. */
  values(count: number, scale = 1): Float32Array<ArrayBuffer> {
    return Float32Array.from({ length: count }, () => (2 * this.random() - 1) * scale);
  }

  upload(data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>): Slice {
    return this.#keep(this.gpu.upload("self-test", "input", data));
  }

  /** Zeroed floats or words. */
  empty(count: number): Slice {
    return this.#keep(this.gpu.storage("self-test", "output", count * 4));
  }

  /** A random matrix in a scheme, with the values that its bits stand for. Blocks of at most `blockRows` rows. */
  matrix(
    scheme: Matrix["scheme"],
    rows: number,
    cols: number,
    blockRows = rows,
  ): { matrix: Matrix; values: Float64Array } {
    const { codesBytes, metaBytes, paddedCols } = rowLayout(scheme, cols);
    const rowWords = codesBytes / 4;
    const codes = new Uint32Array(rows * rowWords);
    const scales = new Uint32Array((rows * metaBytes) / 4);
    const random = () => this.random();
    const values =
      scheme === "bf16"
        ? fillBf16(random, new DataView(codes.buffer), rows, cols, paddedCols)
        : fillGroups(random, scheme, codes, scales, rows, cols, paddedCols);
    const blocks = [];
    for (let row0 = 0; row0 < rows; row0 += blockRows) {
      const here = Math.min(blockRows, rows - row0);
      const part = this.upload(codes.slice(row0 * rowWords, (row0 + here) * rowWords));
      const perRow = scales.length / rows;
      const meta = scales.length ? this.upload(scales.slice(row0 * perRow, (row0 + here) * perRow)) : part;
      blocks.push({ row0, rows: here, codes: part, scales: meta });
    }
    return { matrix: { label: `${scheme} [${rows}, ${cols}]`, scheme, rows, cols, rowWords, blocks }, values };
  }

  free(): void {
    for (const slice of this.#slices) this.gpu.free(slice);
    this.#slices = [];
  }

  #keep(slice: Slice): Slice {
    this.#slices.push(slice);
    return slice;
  }
}
