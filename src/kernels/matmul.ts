import activation from "../../shaders/lib/activation.wgsl?raw";
import loraNone from "../../shaders/lib/lora_none.wgsl?raw";
import loraPairs from "../../shaders/lib/lora_pairs.wgsl?raw";
import unitF32 from "../../shaders/lib/unit_f32.wgsl?raw";
import tileShader from "../../shaders/matmul_tile.wgsl?raw";
import vecShader from "../../shaders/matmul_vec.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { compose, fold, type Gpu, type Kernel, type Slice } from "./source.ts";
import { type MatrixScheme, weightLibrary } from "./weight_library.ts";

/** Rows `row0 … row0 + rows` of a matrix, small enough to be bound. */
export interface MatrixBlock {
  row0: number;
  rows: number;
  codes: Slice;
  /** Metadata words of schemes with groups; the codes again for bf16. */
  scales: Slice;
}

/** A weight matrix [rows, cols] on the GPU, cut into blocks of whole rows that each fit a binding. */
export interface Matrix {
  label: string;
  scheme: MatrixScheme;
  rows: number;
  cols: number;
  /** 32-bit words of a row's codes; a multiple of 4. */
  rowWords: number;
  blocks: MatrixBlock[];
}

/** An f32 matrix, for products with few rows only: the A of LoRA pairs. */
export type FloatMatrix = Omit<Matrix, "scheme"> & { scheme: "f32" };

export type Activation = "none" | "gelu_tanh" | "gelu_erf";

/** One LoRA pair on rows of a matrix: y[:, row0 … row0 + rows] += scale · u[:, aRow … aRow + r] Bᵀ, B [rows, r] from element `b` on. */
export interface MatmulPair {
  row0: number;
  rows: number;
  r: number;
  scale: number;
  aRow: number;
  b: number;
}

/** Pairs that one product with few rows can add. */
export const MOST_PAIRS = 3;

export interface MatmulOptions {
  x: Slice;
  y: Slice;
  /** Rows of X. */
  m: number;
  weight: Matrix | FloatMatrix;
  bias?: Slice;
  /** Y += … instead of Y = …: the residual stream. */
  accumulate?: boolean;
  activation?: Activation;
  /** Elements between rows of X; the matrix's columns by default. */
  ldx?: number;
  /** Few rows only: X is RMS-normed on its way in, with these gains [cols] f32. */
  norm?: { gain: Slice; eps: number };
  /** Few rows only: the upper half of the matrix is up, the lower one gate, and Y [m, rows / 2] = silu(gate) ⊙ up. */
  glu?: boolean;
  /** Few rows only: at most MOST_PAIRS LoRA pairs; u [m, rank] f32 = x Aᵀ, B in `values`. */
  lora?: { u: Slice; rank: number; values: Slice; pairs: readonly MatmulPair[] };
}

/** Largest number of rows for which every weight is better read once, row by row of X. */
const VEC_ROWS = 4;

/** True when `matmul` can take this matrix's upper half as up and its lower half as gate: both must be bound at once. */
export function canGlu(weight: Matrix | FloatMatrix): boolean {
  return weight.blocks.length === 1;
}

/** One way of running a product with few rows; which is best depends on the device (see `Gpu.choices`). */
interface VecShape {
  /** Rows of W that a workgroup makes. */
  rows: number;
  /** How often a thread goes along K beyond the least that a workgroup of 256 allows. */
  moreRounds: number;
  unorm: boolean;
}

/** What a device may choose from, the default first. All are right on every device. */
export const VEC_SHAPES: readonly VecShape[] = [
  { rows: 8, moreRounds: 0, unorm: false },
  { rows: 16, moreRounds: 0, unorm: false },
  { rows: 8, moreRounds: 1, unorm: false },
  { rows: 4, moreRounds: 1, unorm: false },
  { rows: 8, moreRounds: 0, unorm: true },
];

/** The name under which a device keeps its choice for a matrix. */
export function vecChoice(weight: Matrix | FloatMatrix, glu = false): string {
  return `matmul_vec ${weight.scheme} ${weight.rows}×${weight.cols}${glu ? " glu" : ""}`;
}

function vecShape(gpu: Gpu, o: MatmulOptions): VecShape & { threads: number } {
  const { weight } = o;
  const chosen = gpu.choices.get(vecChoice(weight, o.glu));
  const shape = VEC_SHAPES[chosen ?? 0]!;
  // A workgroup of W threads keeps (rows + 1) · (W + 24) words in its 16 KiB.
  const most = Math.min(256, Math.floor((4096 / (shape.rows + 1) - 24) / 32) * 32);
  const units = Math.ceil(weight.cols / 16);
  const rounds = Math.ceil(units / most) + shape.moreRounds;
  return { ...shape, threads: Math.max(32, Math.ceil(units / rounds / 32) * 32) };
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
export function tileChoice(weight: Matrix | FloatMatrix, m: number): string {
  return `matmul_tile ${weight.scheme} ${weight.rows}×${weight.cols} ${2 ** Math.ceil(Math.log2(m))}`;
}

/** Workgroups from which on a large device stays busy with large tiles, and with small ones. */
const MANY_LARGE = 384;
const MANY_SMALL = 512;

/** The choice of the device, or the largest tile if there are many of them; with few small tiles, two teams share each. */
function tileShape(gpu: Gpu, weight: Matrix | FloatMatrix, m: number): TileShape {
  const [large, , small, shared] = TILE_SHAPES as [TileShape, TileShape, TileShape, TileShape];
  const chosen = gpu.choices.get(tileChoice(weight, m));
  if (chosen !== undefined) return TILE_SHAPES[chosen]!;
  const tiles = ({ bm, bn }: TileShape) => Math.ceil(m / bm) * Math.ceil(weight.rows / bn);
  if (tiles(large) >= MANY_LARGE) return large;
  return tiles(small) >= MANY_SMALL ? small : shared;
}

function matmulKernel(gpu: Gpu, o: MatmulOptions, how: (VecShape & { threads: number }) | TileShape): Kernel {
  const { scheme } = o.weight;
  const library = scheme === "f32" ? undefined : weightLibrary(scheme);
  const act = o.activation ?? "none";
  const apply = `fn activate(v: f32) -> f32 {\n  return ${act === "none" ? "v" : `${act}(v)`};\n}\n`;
  const flags = { ...library?.constants, BIAS: o.bias !== undefined, ACCUMULATE: o.accumulate ?? false };
  if ("bm" in how) {
    const { bm, bn, bk, split } = how;
    const shape = { BM: bm, BN: bn, BK: bk, SPLIT: split };
    const code = compose({ ...flags, ...shape }, library!.raw, activation, apply, tileShader);
    return gpu.kernel(`matmul_tile ${scheme}`, code, "rrrrw");
  }
  const { threads, rows, unorm } = how;
  const pairs = o.lora?.pairs.length ?? 0;
  const shape = { W: threads, ROWS: rows, UNORM: unorm, NORM: o.norm !== undefined, GLU: o.glu ?? false, PAIRS: pairs };
  const unit = library?.unit ?? unitF32;
  const code = compose({ ...flags, ...shape }, unit, activation, apply, pairs ? loraPairs : loraNone, vecShader);
  return gpu.kernel(`matmul_vec ${scheme}`, code, pairs ? "rrrrwrrr" : "rrrrwr");
}

/**
 * Records Y = act(X · Wᵀ + bias) or Y += X · Wᵀ + bias.
 * X [m, cols] f32 with rows `ldx` apart, Y [m, rows] f32. `cols` is a multiple of 4.
 */
export function matmul(program: Program, o: MatmulOptions): void {
  const { weight, m } = o;
  if (weight.cols % 4 !== 0) throw new Error(`${weight.label}: ${weight.cols} columns are not a multiple of 4`);
  if (m <= VEC_ROWS) {
    recordVec(program, o);
    return;
  }
  if (o.norm || o.glu || o.lora || weight.scheme === "f32") {
    throw new Error(`${weight.label}: norm, glu, lora and f32 weights are for at most ${VEC_ROWS} rows, not ${m}`);
  }
  const shape = tileShape(program.gpu, weight, m);
  const kernel = matmulKernel(program.gpu, o, shape);
  const ldx = o.ldx ?? weight.cols;
  for (const block of weight.blocks) {
    const { rows } = block;
    // A dispatch on a slow device is cut by rows of X, so that none runs long.
    const workPerRow = 2 * rows * weight.cols;
    const step = Math.ceil(program.gpu.governor.rows(workPerRow, 64, m) / 64) * 64;
    for (let row = 0; row < m; row += step) {
      const here = Math.min(step, m - row);
      program.dispatch(kernel, {
        params: [here, rows, weight.cols, weight.rowWords, ldx, weight.rows, block.row0],
        buffers: [
          block.codes,
          block.scales,
          biasOf(o, block),
          rowsFrom(o.x, row * ldx),
          rowsFrom(o.y, row * weight.rows),
        ],
        grid: [Math.ceil(rows / shape.bn), Math.ceil(here / shape.bm)],
        work: workPerRow * here,
      });
    }
  }
}

function recordVec(program: Program, o: MatmulOptions): void {
  const { weight, m, norm, lora } = o;
  if (lora && lora.pairs.length > MOST_PAIRS) {
    throw new Error(`${weight.label}: at most ${MOST_PAIRS} LoRA pairs, not ${lora.pairs.length}`);
  }
  if (o.glu && !canGlu(weight)) throw new Error(`${weight.label}: glu takes a matrix of one block`);
  const shape = vecShape(program.gpu, o);
  const kernel = matmulKernel(program.gpu, o, shape);
  for (const block of weight.blocks) {
    const { rows } = block;
    program.dispatch(kernel, {
      params: [
        rows,
        weight.cols,
        weight.rowWords,
        o.ldx ?? weight.cols,
        o.glu ? weight.rows / 2 : weight.rows,
        block.row0,
        f32(norm?.eps ?? 0),
        lora?.rank ?? 0,
        ...(lora?.pairs ?? []).flatMap((q) => [q.row0, q.rows, q.r, q.aRow, q.b, f32(q.scale), 0, 0]),
      ],
      buffers: [
        block.codes,
        block.scales,
        biasOf(o, block),
        o.x,
        o.y,
        norm?.gain ?? block.scales,
        ...(lora ? [lora.u, lora.values] : []),
      ],
      grid: [...fold(Math.ceil(rows / shape.rows)), m],
      work: 2 * rows * weight.cols * m,
    });
  }
}

/** The bias of a block's rows; another buffer, never read, when there is none. */
function biasOf(o: MatmulOptions, block: MatrixBlock): Slice {
  if (!o.bias) return block.scales;
  return { buffer: o.bias.buffer, offset: o.bias.offset + block.row0 * 4, size: block.rows * 4 };
}

/** `row` is a multiple of 64, so the byte offset is one of 256. */
function rowsFrom(slice: Slice, elements: number): Slice {
  if (elements === 0) return slice;
  return { buffer: slice.buffer, offset: slice.offset + elements * 4, size: slice.size - elements * 4 };
}
