import activation from "../../shaders/lib/activation.wgsl?raw";
import weightBf16 from "../../shaders/lib/weight_bf16.wgsl?raw";
import weightQ4 from "../../shaders/lib/weight_q4.wgsl?raw";
import tile from "../../shaders/matmul_tile.wgsl?raw";
import vec from "../../shaders/matmul_vec.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import { compose, type Gpu, type Kernel, type Scheme, type Slice } from "./source.ts";

/** Rows `row0 … row0 + rows` of a matrix, small enough to be bound. */
export interface MatrixBlock {
  row0: number;
  rows: number;
  codes: Slice;
  /** Metadata words of the 4-bit schemes; the codes again for bf16. */
  scales: Slice;
}

/** A weight matrix [rows, cols] on the GPU, cut into blocks of whole rows that each fit a binding. */
export interface Matrix {
  label: string;
  scheme: Exclude<Scheme, "f32">;
  rows: number;
  cols: number;
  /** 32-bit words of a row's codes; a multiple of 4. */
  rowWords: number;
  blocks: MatrixBlock[];
}

export type Activation = "none" | "gelu_tanh" | "gelu_erf";

export interface MatmulOptions {
  x: Slice;
  y: Slice;
  /** Rows of X. */
  m: number;
  weight: Matrix;
  bias?: Slice;
  /** Y += … instead of Y = …: the residual stream. */
  accumulate?: boolean;
  activation?: Activation;
  /** Elements between rows of X; the matrix's columns by default. */
  ldx?: number;
}

/** Largest number of rows for which every weight is better read once, row by row of X. */
const VEC_ROWS = 4;

/** The head that opens weights of a scheme: `weight4` and `chunk_dot`. */
export function weightLibrary(scheme: Matrix["scheme"]): { constants: Record<string, number>; lib: string } {
  if (scheme === "bf16") return { constants: {}, lib: weightBf16 };
  return { constants: { GROUP: scheme === "q4a64" ? 64 : 32 }, lib: weightQ4 };
}

function matmulKernel(gpu: Gpu, shape: "tile" | "vec", o: MatmulOptions): Kernel {
  const { constants, lib } = weightLibrary(o.weight.scheme);
  const act = o.activation ?? "none";
  const apply = `fn activate(v: f32) -> f32 {\n  return ${act === "none" ? "v" : `${act}(v)`};\n}\n`;
  const flags = { ...constants, BIAS: o.bias !== undefined, ACCUMULATE: o.accumulate ?? false };
  const code = compose(flags, lib, activation, apply, shape === "tile" ? tile : vec);
  return gpu.kernel(`matmul_${shape} ${o.weight.scheme}`, code, "rrrrw");
}

/**
 * Records Y = act(X · Wᵀ + bias) or Y += X · Wᵀ + bias.
 * X [m, cols] f32 with rows `ldx` apart, Y [m, rows] f32. `cols` is a multiple of 4.
 */
export function matmul(program: Program, o: MatmulOptions): void {
  const { weight, m } = o;
  if (weight.cols % 4 !== 0) throw new Error(`${weight.label}: ${weight.cols} columns are not a multiple of 4`);
  const shape = m <= VEC_ROWS ? "vec" : "tile";
  const kernel = matmulKernel(program.gpu, shape, o);
  const ldx = o.ldx ?? weight.cols;
  for (const block of weight.blocks) {
    const { rows } = block;
    // A tile dispatch on a slow device is cut by rows of X, so that none runs long.
    const workPerRow = 2 * rows * weight.cols;
    const step = shape === "vec" ? m : Math.ceil(program.gpu.governor.rows(workPerRow, 64, m) / 64) * 64;
    const bias = o.bias && weight.blocks.length > 1 ? offsetBias(o.bias, block) : o.bias;
    for (let row = 0; row < m; row += step) {
      const here = Math.min(step, m - row);
      const groups = Math.ceil(rows / 16);
      program.dispatch(kernel, {
        params: [here, rows, weight.cols, weight.rowWords, ldx, weight.rows, block.row0],
        buffers: [
          block.codes,
          block.scales,
          bias ?? block.scales,
          rowsFrom(o.x, row * ldx),
          rowsFrom(o.y, row * weight.rows),
        ],
        grid:
          shape === "tile"
            ? [Math.ceil(rows / 64), Math.ceil(here / 64)]
            : groups > 65535
              ? [Math.ceil(groups / 2), 2]
              : [groups],
        work: workPerRow * here,
      });
    }
  }
}

/** `row` is a multiple of 64, so the byte offset is one of 256. */
function rowsFrom(slice: Slice, elements: number): Slice {
  if (elements === 0) return slice;
  return { buffer: slice.buffer, offset: slice.offset + elements * 4, size: slice.size - elements * 4 };
}

function offsetBias(bias: Slice, block: MatrixBlock): Slice {
  const bytes = block.row0 * 4;
  return { buffer: bias.buffer, offset: bias.offset + bytes, size: block.rows * 4 };
}
