import reduceShader from "../../shaders/gemm_reduce.wgsl?raw";
import tileShader from "../../shaders/gemm_tile.wgsl?raw";
import vecShader from "../../shaders/gemm_vec.wgsl?raw";
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

/** Tile and split of a product. Depends on the shape alone, so that a run can be repeated bit for bit. */
function plan(m: number, n: number, k: number) {
  const [tm, tn] = n <= 32 ? [64, 16] : m <= 32 ? [16, 64] : [64, 64];
  const tiles = Math.ceil(m / tm) * Math.ceil(n / tn);
  const wanted = Math.max(1, Math.min(Math.floor(GROUPS / tiles), Math.ceil(k / LEAST)));
  const kSlice = Math.ceil(k / wanted / 16) * 16;
  return { tm, tn, kSlice, slices: Math.ceil(k / kSlice) };
}

/** Bytes of the scratch with which products of this shape, of up to m rows, run split. */
export function gemmScratchBytes(m: number, n: number, k: number): number {
  const { tm, tn } = plan(m, n, k);
  return 4 * Math.min(m * n * Math.ceil(k / LEAST), tm * tn * GROUPS);
}

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
  const { tm, tn, ...split } = plan(m, n, k);
  const isSplit = partial !== undefined && split.slices > 1;
  const [slices, kSlice] = isSplit ? [split.slices, split.kSlice] : [1, Math.ceil(k / 16) * 16];
  const constants = {
    TM: tm,
    TN: tn,
    TRANSPOSE_A: a.transposed ?? false,
    TRANSPOSE_B: b.transposed ?? false,
    ACCUMULATE: accumulate && !isSplit,
    SPLIT: isSplit,
  };
  program.dispatch(program.gpu.kernel(`gemm_tile ${tm}×${tn}`, compose(constants, tileShader), "rrw"), {
    params: [m, n, k, kSlice, ...strides, ...offsets, scale],
    buffers: [a.slice, b.slice, isSplit ? partial : c.slice],
    grid: [Math.ceil(n / tn), Math.ceil(m / tm), slices],
    work,
  });
  if (!isSplit) return;
  program.dispatch(program.gpu.kernel("gemm_reduce", compose({ ACCUMULATE: accumulate }, reduceShader), "rw"), {
    params: [m, n, slices, c.stride, c.offset ?? 0, scale],
    buffers: [partial, c.slice],
    grid: fold(Math.ceil((m * n) / 64)),
    work: m * n * slices,
  });
}
