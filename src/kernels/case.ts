import { f16ToF32 } from "../formats/index.ts";
import type { Gpu, Program } from "../gpu/index.ts";
import type { Matrix } from "./matmul.ts";
import type { Slice } from "./source.ts";

/** One row of the self-test: inputs, the dispatches under test, and what a plain float64 reference expects. */
export interface KernelCase {
  /** The binding's stem with its variant, for example "matmul q4a32". */
  kernel: string;
  shape: string;
  /** Largest relative L2 error ‖a−b‖/‖b‖ of any output. */
  tolerance: number;
  /** Least bytes moved and arithmetic of one run, for the share of the ceiling. */
  bytes: number;
  flops: number;
  build(bench: Bench): BuiltCase;
}

export interface BuiltCase {
  record(program: Program): void;
  outputs: { name: string; slice: Slice; expected: Float64Array; type?: "f32" | "u32" | "f16" }[];
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
    const group = scheme === "q4a64" ? 64 : scheme === "q4a32" ? 32 : 8;
    const padded = Math.ceil(cols / group) * group;
    const rowWords = scheme === "bf16" ? padded / 2 : padded / 8;
    const values = new Float64Array(rows * cols);
    const codes = new Uint32Array(rows * rowWords);
    const scales = new Uint32Array(scheme === "bf16" ? 0 : (rows * padded) / group);
    const view = new DataView(codes.buffer);
    for (let r = 0; r < rows; r++) {
      for (let k = 0; k < padded; k++) {
        if (scheme === "bf16") {
          const bits = k < cols ? bf16Bits((2 * this.random() - 1) * 0.1) : 0;
          view.setUint16((r * padded + k) * 2, bits, true);
          if (k < cols) values[r * cols + k] = bf16Value(bits);
          continue;
        }
        const g = (r * padded + k) / group;
        if (Number.isInteger(g)) {
          // Scales near 0.01 and offsets near -0.08 as exact f16 bit patterns.
          const scale = 0x2000 + Math.floor(this.random() * 0x200);
          const offset = 0xac00 + Math.floor(this.random() * 0x300);
          scales[g] = scale | (offset << 16);
        }
        const word = scales[Math.floor(g)]!;
        const code = Math.floor(this.random() * 16);
        // Byte j of a word: element j low, element j + 4 high.
        const at = (r * padded + k) >> 3;
        const e = k % 8;
        codes[at]! |= code << ((e % 4) * 8 + (e >= 4 ? 4 : 0));
        if (k < cols) values[r * cols + k] = code * f16ToF32(word & 0xffff) + f16ToF32(word >>> 16);
      }
    }
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

const scratch = new DataView(new ArrayBuffer(4));

function bf16Bits(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint16(0);
}

function bf16Value(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}
