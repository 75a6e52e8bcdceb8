import loraNone from "../../shaders/lib/lora_none.wgsl?raw";
import loraPairs from "../../shaders/lib/lora_pairs.wgsl?raw";
import vecShader from "../../shaders/matmul_vec.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { type Activation, activate, biasOf, matmulTiles } from "./matmul_tile.ts";
import type { Matrix } from "./matrix.ts";
import { compose, fold, type Gpu, type Kernel, type Slice } from "./source.ts";
import { weightLibrary } from "./weight_library.ts";

/**
 * One LoRA pair on rows of a matrix, which no other pair owns: y[:, row0 … row0 + rows] += scale · u[:, aRow … aRow + r] Bᵀ with
 * u = x Aᵀ, B [rows, r] from element `b` on.
 */
export interface MatmulPair {
  row0: number;
  rows: number;
  r: number;
  scale: number;
  /** Where its A begins among the stacked rows, which is also its first column of u. */
  aRow: number;
  b: number;
}

/** Pairs that a product with one row can add, and the sum of their ranks. */
const MOST_PAIRS = 3;
const MOST_RANK = 256;

/** How often a workgroup asks for an element of u before it makes it itself. */
const PATIENCE = 256;

/** Pairs for a product with one row. */
export interface SingleLora {
  /** A of all pairs stacked, [rank, cols] f32, then each B. */
  values: Slice;
  /** Sum of the ranks. */
  rank: number;
  /** By `row0`, ascending. */
  pairs: readonly MatmulPair[];
  /** Scratch of `handoverBytes(rank)` at least, which products of one model share. */
  handover: Slice;
  /** For tests: PATIENCE by default. */
  patience?: number;
}

/** Bytes through which workgroups hand over up to `rank` numbers: two halves that take turns. */
export function handoverBytes(rank: number): number {
  return 8 * rank;
}

/** True when `matmul` can add these pairs to a product with one row. */
export function canAddPairs(pairs: readonly MatmulPair[], rank: number): boolean {
  return pairs.length <= MOST_PAIRS && rank <= MOST_RANK;
}

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
  /** Few rows only: X is RMS-normed on its way in, with these gains [cols] f32. */
  norm?: { gain: Slice; eps: number };
  /** Few rows only: the upper half of the matrix is up, the lower one gate, and Y [m, rows / 2] = silu(gate) ⊙ up. */
  glu?: boolean;
  /** One row only: LoRA pairs that `canAddPairs` takes. */
  lora?: SingleLora;
}

/** Largest number of rows for which every weight is better read once, row by row of X. */
const VEC_ROWS = 4;

/** True when `matmul` can take this matrix's upper half as up and its lower half as gate: both must be bound at once. */
export function canGlu(weight: Matrix): boolean {
  return weight.blocks.length === 1;
}

/** One way of running a product with few rows; which is best depends on the device (see `Gpu.choices`). */
interface VecShape {
  /** Rows of W that a workgroup makes. */
  rows: number;
  /** How often a thread goes along K beyond the least that a workgroup of 256 allows. */
  moreRounds: number;
  unorm: boolean;
  /** The first weights are loaded before anything else. */
  ahead: boolean;
  /** Threads of a workgroup where they do not go by the columns: matrices of other columns share a shader then. */
  threads?: number;
}

/** What a device may choose from, the default first. All are right on every device. */
export const VEC_SHAPES: readonly VecShape[] = [
  { rows: 8, moreRounds: 0, unorm: false, ahead: false },
  { rows: 16, moreRounds: 0, unorm: false, ahead: false },
  { rows: 8, moreRounds: 1, unorm: false, ahead: true },
  { rows: 4, moreRounds: 1, unorm: false, ahead: true, threads: 128 },
  { rows: 8, moreRounds: 0, unorm: true, ahead: false },
];

/** The name under which a device keeps its choice for a matrix. */
export function vecChoice(weight: Matrix, glu = false): string {
  return `matmul_vec ${weight.scheme} ${weight.rows}×${weight.cols}${glu ? " glu" : ""}`;
}

function vecShape(gpu: Gpu, o: MatmulOptions): VecShape & { threads: number } {
  const { weight } = o;
  const chosen = gpu.choices.get(vecChoice(weight, o.glu));
  // A run that an earlier version began may name a shape that is no longer among them.
  const shape = VEC_SHAPES[chosen ?? 0] ?? VEC_SHAPES[0]!;
  // A workgroup of W threads keeps (rows + 1) · (W + 16) words and u in its 16 KiB.
  const room = 4096 - (o.lora?.rank ?? 0);
  const most = Math.min(256, Math.floor((room / (shape.rows + 1) - 16) / 32) * 32);
  const units = Math.ceil(weight.cols / 16);
  const rounds = Math.ceil(units / most) + shape.moreRounds;
  return { threads: Math.max(32, Math.ceil(units / rounds / 32) * 32), ...shape };
}

function vecKernel(
  gpu: Gpu,
  o: MatmulOptions,
  { threads, rows, unorm, ahead }: VecShape & { threads: number },
): Kernel {
  const { scheme } = o.weight;
  const library = weightLibrary(scheme);
  const { lora } = o;
  const constants = {
    ...library.constants,
    BIAS: o.bias !== undefined,
    ACCUMULATE: o.accumulate ?? false,
    W: threads,
    ROWS: rows,
    UNORM: unorm,
    AHEAD: ahead,
    NORM: o.norm !== undefined,
    GLU: o.glu ?? false,
    PAIRS: lora?.pairs.length ?? 0,
    ...(lora && {
      RANK: lora.rank,
      PATIENCE: lora.patience ?? PATIENCE,
      ALIGNED: lora.pairs.every(({ r, b }) => r % 4 === 0 && b % 4 === 0),
    }),
  };
  const code = compose(constants, library.unit, activate(o.activation), lora ? loraPairs : loraNone, vecShader);
  return gpu.kernel(`matmul_vec ${scheme}${lora ? " lora" : ""}`, code, lora ? "rrrrwrwr" : "rrrrwr");
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
  if (o.norm || o.glu || o.lora) {
    throw new Error(`${weight.label}: norm, glu and lora are for at most ${VEC_ROWS} rows, not ${m}`);
  }
  matmulTiles(program, o);
}

/** Which half of a handover was used last, and in which program. */
const turns = new WeakMap<GPUBuffer, { program: Program; turn: number }>();

/** Zeroes a handover for the products of a program. By itself before the first of them, which then stands in a compute pass of its own. */
export function startHandover(program: Program, handover: Slice): void {
  if (turns.get(handover.buffer)?.program === program) return;
  program.clear(handover);
  turns.set(handover.buffer, { program, turn: 1 });
}

/** The half that the next product of a program uses; each zeroes the other half. */
function takeTurn(program: Program, handover: Slice): number {
  startHandover(program, handover);
  const turn = 1 - turns.get(handover.buffer)!.turn;
  turns.set(handover.buffer, { program, turn });
  return turn;
}

function recordVec(program: Program, o: MatmulOptions): void {
  const { weight, m, norm, lora } = o;
  if (lora && (m > 1 || !canAddPairs(lora.pairs, lora.rank))) {
    throw new Error(`${weight.label}: cannot add ${lora.pairs.length} LoRA pairs of rank ${lora.rank} to ${m} rows`);
  }
  if (o.glu && !canGlu(weight)) throw new Error(`${weight.label}: glu takes a matrix of one block`);
  const shape = vecShape(program.gpu, o);
  const kernel = vecKernel(program.gpu, o, shape);
  const most = lora ? lora.handover.size / 8 : 0;
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
        most,
        lora ? most * takeTurn(program, lora.handover) : 0,
        ...[0, 0, 0],
        ...(lora?.pairs ?? []).flatMap((q) => [q.row0, q.rows, q.r, q.aRow, q.b, f32(q.scale), 0, 0]),
      ],
      buffers: [
        block.codes,
        block.scales,
        biasOf(o, block),
        o.x,
        o.y,
        norm?.gain ?? block.scales,
        ...(lora ? [lora.handover, lora.values] : []),
      ],
      grid: [...fold((lora?.rank ?? 0) + Math.ceil(rows / shape.rows)), m],
      work: 2 * (rows + (lora?.rank ?? 0)) * weight.cols * m,
    });
  }
}
