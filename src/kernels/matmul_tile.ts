import activation from "../../shaders/lib/activation.wgsl?raw";
import inputScalar from "../../shaders/lib/input_scalar.wgsl?raw";
import inputVec4 from "../../shaders/lib/input_vec4.wgsl?raw";
import tileShader from "../../shaders/matmul_tile.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import type { FloatMatrix, Matrix, MatrixBlock } from "./matrix.ts";
import { compose, type Gpu, type Slice, sliceFrom } from "./source.ts";
import { weightLibrary } from "./weight_library.ts";

export type Activation = "none" | "gelu_tanh" | "gelu_erf";

/** What a tile product reads and makes; `cols` of the weight is a multiple of 4. */
export interface TileOptions {
  /** [m, cols] f32; backward [m, rows]. */
  x: Slice;
  /** [m, rows] f32; backward [m, cols]. */
  y: Slice;
  m: number;
  weight: Matrix;
  /** Y = X · W instead of X · Wᵀ: the gradient of a product by its input. Without bias and activation. */
  backward?: boolean;
  bias?: Slice;
  accumulate?: boolean;
  activation?: Activation;
  /** Elements between rows of X; as wide as X by default. */
  ldx?: number;
}

/** One way of running a product with many rows: tiles of bm × bn outputs in steps of bk, by `split` teams of threads each. */
interface TileShape {
  bm: number;
  bn: number;
  bk: number;
  split: number;
}

/** What a device may choose from: each fits 256 threads and 16 KiB of workgroup memory. */
export const TILE_SHAPES: readonly TileShape[] = [
  { bm: 128, bn: 128, bk: 16, split: 1 },
  { bm: 128, bn: 64, bk: 16, split: 1 },
  { bm: 64, bn: 64, bk: 16, split: 1 },
  { bm: 64, bn: 64, bk: 16, split: 2 },
  { bm: 64, bn: 64, bk: 8, split: 4 },
];

/** The name under which a device keeps its choice for a product of m rows, rounded to a power of two. */
export function tileChoice(weight: Matrix | FloatMatrix, m: number, backward = false): string {
  const rows = 2 ** Math.ceil(Math.log2(m));
  return `matmul_tile ${weight.scheme} ${weight.rows}×${weight.cols} ${rows}${backward ? " backward" : ""}`;
}

/** Workgroups from which on a large device stays busy with large tiles, and with small ones. */
const MANY_LARGE = 384;
const MANY_SMALL = 512;

/** The choice of the device, or the largest tile if there are many of them; with few small tiles, two teams share each. */
function tileShape(gpu: Gpu, { weight, m, backward }: TileOptions): TileShape {
  const [large, , small, shared] = TILE_SHAPES as [TileShape, TileShape, TileShape, TileShape];
  const chosen = gpu.choices.get(tileChoice(weight, m, backward));
  if (chosen !== undefined) return TILE_SHAPES[chosen]!;
  const columns = backward ? weight.cols : weight.rows;
  const tiles = ({ bm, bn }: TileShape) => Math.ceil(m / bm) * Math.ceil(columns / bn);
  if (tiles(large) >= MANY_LARGE) return large;
  return tiles(small) >= MANY_SMALL ? small : shared;
}

/** The function that a product applies to what it stores. */
export function activate(kind: Activation = "none"): string {
  return `${activation}\nfn activate(v: f32) -> f32 {\n  return ${kind === "none" ? "v" : `${kind}(v)`};\n}\n`;
}

/** The bias of a block's rows; another buffer, never read, when there is none. */
export function biasOf({ bias }: { bias?: Slice }, block: MatrixBlock): Slice {
  if (!bias) return block.scales;
  return { buffer: bias.buffer, offset: bias.offset + block.row0 * 4, size: block.rows * 4 };
}

/** Records a product with many rows of X, block after block of the weight. */
export function matmulTiles(program: Program, o: TileOptions): void {
  const { gpu } = program;
  const { weight, m, backward = false } = o;
  const { constants, raw } = weightLibrary(weight.scheme);
  const { bm, bn, bk, split } = tileShape(gpu, o);
  const shape = { BM: bm, BN: bn, BK: bk, SPLIT: split };
  const ldx = o.ldx ?? (backward ? weight.rows : weight.cols);
  const ldy = backward ? weight.cols : weight.rows;
  for (const [index, block] of weight.blocks.entries()) {
    const { row0, rows } = block;
    // Backward, every block of rows adds its share.
    const accumulate = (o.accumulate ?? false) || (backward && index > 0);
    const flags = { ...constants, ...shape, BIAS: o.bias !== undefined, ACCUMULATE: accumulate, BACKWARD: backward };
    const isAligned = !backward || (ldx % 4 === 0 && row0 % 4 === 0 && rows % 4 === 0 && o.x.offset % 16 === 0);
    const code = compose(flags, raw, isAligned ? inputVec4 : inputScalar, activate(o.activation), tileShader);
    const kernel = gpu.kernel(`matmul_tile ${weight.scheme}${backward ? " backward" : ""}`, code, "rrrrw");
    const [n, k] = backward ? [weight.cols, rows] : [rows, weight.cols];
    const [xColumn, yColumn] = backward ? [row0, 0] : [0, row0];
    // A dispatch on a slow device is cut by rows of X, so that none runs long; offsets stay multiples of 256 bytes.
    const workPerRow = 2 * rows * weight.cols;
    const step = Math.ceil(gpu.governor.rows(workPerRow, 64, m) / 64) * 64;
    for (let row = 0; row < m; row += step) {
      const here = Math.min(step, m - row);
      program.dispatch(kernel, {
        params: [here, n, k, weight.rowWords, ldx, ldy, xColumn, yColumn],
        buffers: [
          block.codes,
          block.scales,
          biasOf(o, block),
          sliceFrom(o.x, row * ldx * 4),
          sliceFrom(o.y, row * ldy * 4),
        ],
        grid: [Math.ceil(n / bn), Math.ceil(here / bm)],
        work: workPerRow * here,
      });
    }
  }
}
