import reduceShader from "../../shaders/gemm_reduce.wgsl?raw";
import tileShader from "../../shaders/gemm_tile.wgsl?raw";
import vecShader from "../../shaders/gemm_vec.wgsl?raw";
import scalar from "../../shaders/lib/gemm_scalar.wgsl?raw";
import vec4 from "../../shaders/lib/gemm_vec4.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { compose, fold, type Slice } from "./source.ts";

/** A row-major f32 matrix inside a buffer. */
export interface Operand {
  slice: Slice;
  /** Elements between two stored rows. */
  stride: number;
  /** First element. */
  offset?: number;
  /** The stored matrix is the transpose of the operand. */
  transposed?: boolean;
}

export interface GemmOptions {
  /** [m, k], or stored as [k, m]. */
  a: Operand;
  /** [k, n], or stored as [n, k]. */
  b: Operand;
  /** [m, n]; never transposed. */
  c: Operand;
  m: number;
  n: number;
  k: number;
  scale?: number;
  /** C += … instead of C = …. */
  accumulate?: boolean;
  /** Scratch of `gemmScratchBytes`: lets few outputs with long sums use the whole device. */
  partial?: Slice;
}

/** Rows of A below which each column of C is better summed by a team of threads. */
const VEC_ROWS = 4;
/** Workgroups that a product is split into where its sums are long. A constant: the order of sums must not depend on the device. */
const GROUPS = 512;
/** Shortest part of a long sum: loading and adding wait for each other, so a workgroup goes few rounds. */
const LEAST = 64;

/** Longest short side that one tile spans whole, so that the long matrix is read once. */
const SPAN = 48;
/** Multiples of 16 up to the widest tile. */
const span = (side: number) => (side <= SPAN ? Math.ceil(side / 16) * 16 : 64);

/** Tile and split of a product. Depends on the shape alone, so that a run can be repeated bit for bit. */
function plan({ m, n, k, a }: Pick<GemmOptions, "m" | "n" | "k" | "a">) {
  // As measured on an H100 for the products of a training step; all within 16 KiB of shared memory.
  const [tm, tn, bk] = n <= SPAN ? [a.transposed ? 64 : 32, span(n), 32] : [span(m), 64, 16];
  const tiles = Math.ceil(m / tm) * Math.ceil(n / tn);
  const wanted = Math.max(1, Math.min(Math.floor(GROUPS / tiles), Math.ceil(k / LEAST)));
  const kSlice = Math.ceil(k / wanted / bk) * bk;
  return { tm, tn, bk, kSlice, slices: Math.ceil(k / kSlice) };
}

/** Bytes of the scratch with which products of this shape, of up to m rows, run split. */
export function gemmScratchBytes(m: number, n: number, k: number): number {
  // A tile has at most 64 rows.
  return 4 * Math.min(m * n * Math.ceil(k / LEAST), 64 * span(n) * GROUPS);
}

/** Threads that share a sum over slices. */
const teamsFor = (slices: number) => (slices >= 32 ? 8 : slices >= 12 ? 4 : 1);

/** Records C = scale · op(A) · op(B), or C +=, in f32. Made for LoRA, whose factors have one short side. */
export function gemm(program: Program, o: GemmOptions): void {
  const { a, b, c, m, n, k, partial } = o;
  const accumulate = o.accumulate ?? false;
  const scale = f32(o.scale ?? 1);
  const offsets = [a.offset ?? 0, b.offset ?? 0, c.offset ?? 0];
  const strides = [a.stride, b.stride, c.stride];
  const work = 2 * m * n * k;
  if (m <= VEC_ROWS && !a.transposed && b.transposed) {
    const lanes = k >= 256 ? 64 : k >= 64 ? 8 : 1;
    const code = compose({ LANES: lanes, ACCUMULATE: accumulate }, vecShader);
    program.dispatch(program.gpu.kernel("gemm_vec", code, "rrw"), {
      params: [m, n, k, ...strides, ...offsets, scale],
      buffers: [a.slice, b.slice, c.slice],
      grid: fold(Math.ceil(n / (64 / lanes))),
      work,
    });
    return;
  }
  const { tm, tn, bk, ...split } = plan(o);
  const isSplit = partial !== undefined && split.slices > 1;
  const [slices, kSlice] = isSplit ? [split.slices, split.kSlice] : [1, Math.ceil(k / bk) * bk];
  // Slices are plain products below each other, which gemm_reduce adds.
  const into = isSplit ? { slice: partial, stride: n, offset: 0, scale: f32(1) } : { ...c, scale };
  const whole = [n, a.transposed ? m : k, b.transposed ? k : n, ...strides, ...offsets].every((v) => v % 4 === 0);
  const constants = {
    TM: tm,
    TN: tn,
    BK: bk,
    TRANSPOSE_A: a.transposed ?? false,
    TRANSPOSE_B: b.transposed ?? false,
    ACCUMULATE: accumulate && !isSplit,
  };
  const code = compose(constants, whole ? vec4 : scalar, tileShader);
  program.dispatch(program.gpu.kernel(`gemm_tile ${tm}×${tn}`, code, "rrw"), {
    params: [m, n, k, kSlice, a.stride, b.stride, into.stride, offsets[0]!, offsets[1]!, into.offset ?? 0, into.scale],
    buffers: [a.slice, b.slice, into.slice],
    grid: [Math.ceil(n / tn), Math.ceil(m / tm), slices],
    work,
  });
  if (!isSplit) return;
  const [width, type] = whole ? [4, "alias Value = vec4<f32>;"] : [1, "alias Value = f32;"];
  const teams = teamsFor(slices);
  const sum = compose({ WIDTH: width, TEAMS: teams, ACCUMULATE: accumulate }, type, reduceShader);
  program.dispatch(program.gpu.kernel("gemm_reduce", sum, "rw"), {
    params: [m, n, slices, c.stride, c.offset ?? 0, scale],
    buffers: [partial, c.slice],
    grid: fold(Math.ceil((m * n * teams) / width / 64)),
    work: m * n * slices,
  });
}
