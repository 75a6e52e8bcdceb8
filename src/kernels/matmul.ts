import loraNone from "../../shaders/lib/lora_none.wgsl?raw";
import loraPairs from "../../shaders/lib/lora_pairs.wgsl?raw";
import unitF32 from "../../shaders/lib/unit_f32.wgsl?raw";
import vecShader from "../../shaders/matmul_vec.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { type Activation, activate, biasOf, matmulTiles } from "./matmul_tile.ts";
import type { FloatMatrix, Matrix } from "./matrix.ts";
import { compose, fold, type Gpu, type Kernel, type Slice } from "./source.ts";
import { weightLibrary } from "./weight_library.ts";

/** One LoRA pair on rows of a matrix: y[:, row0 … row0 + rows] += scale · u[:, aRow … aRow + r] Bᵀ, B [rows, r] from element `b` on. */
export interface MatmulPair {
  row0: number;
  rows: number;
  r: number;
  scale: number;
  /** Where its A begins among the stacked rows, which is also its first column of u. */
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

/** A of LoRA pairs has so few rows that only a workgroup for each keeps a large device busy. */
const FLOAT_SHAPE: VecShape = { rows: 1, moreRounds: 0, unorm: false };

/** The name under which a device keeps its choice for a matrix. */
export function vecChoice(weight: Matrix | FloatMatrix, glu = false): string {
  return `matmul_vec ${weight.scheme} ${weight.rows}×${weight.cols}${glu ? " glu" : ""}`;
}

function vecShape(gpu: Gpu, o: MatmulOptions): VecShape & { threads: number } {
  const { weight } = o;
  const chosen = gpu.choices.get(vecChoice(weight, o.glu));
  // A run that an earlier version began may name a shape that is no longer among them.
  const shape = weight.scheme === "f32" ? FLOAT_SHAPE : (VEC_SHAPES[chosen ?? 0] ?? VEC_SHAPES[0]!);
  // A workgroup of W threads keeps (rows + 1) · (W + 24) words in its 16 KiB.
  const most = Math.min(256, Math.floor((4096 / (shape.rows + 1) - 24) / 32) * 32);
  const units = Math.ceil(weight.cols / 16);
  const rounds = Math.ceil(units / most) + shape.moreRounds;
  return { ...shape, threads: Math.max(32, Math.ceil(units / rounds / 32) * 32) };
}

function vecKernel(gpu: Gpu, o: MatmulOptions, { threads, rows, unorm }: VecShape & { threads: number }): Kernel {
  const { scheme } = o.weight;
  const library = scheme === "f32" ? undefined : weightLibrary(scheme);
  const pairs = o.lora?.pairs.length ?? 0;
  const constants = {
    ...library?.constants,
    BIAS: o.bias !== undefined,
    ACCUMULATE: o.accumulate ?? false,
    W: threads,
    ROWS: rows,
    UNORM: unorm,
    NORM: o.norm !== undefined,
    GLU: o.glu ?? false,
    PAIRS: pairs,
  };
  const act = activate(o.activation);
  const code = compose(constants, library?.unit ?? unitF32, act, pairs ? loraPairs : loraNone, vecShader);
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
  matmulTiles(program, { ...o, weight });
}

function recordVec(program: Program, o: MatmulOptions): void {
  const { weight, m, norm, lora } = o;
  if (lora && lora.pairs.length > MOST_PAIRS) {
    throw new Error(`${weight.label}: at most ${MOST_PAIRS} LoRA pairs, not ${lora.pairs.length}`);
  }
  if (o.glu && !canGlu(weight)) throw new Error(`${weight.label}: glu takes a matrix of one block`);
  const shape = vecShape(program.gpu, o);
  const kernel = vecKernel(program.gpu, o, shape);
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
