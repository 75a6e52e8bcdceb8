import attentionShader from "../../shaders/attention.wgsl?raw";
import decodeShader from "../../shaders/attention_decode.wgsl?raw";
import decodeReduceShader from "../../shaders/attention_decode_reduce.wgsl?raw";
import lseStore from "../../shaders/lib/lse.wgsl?raw";
import lseNone from "../../shaders/lib/lse_none.wgsl?raw";
import scoreTile from "../../shaders/lib/score_tile.wgsl?raw";
import spanLibrary from "../../shaders/lib/span.wgsl?raw";
import { f32, type GridHandle, type Program } from "../gpu/index.ts";
import { type CacheType, cacheLibrary } from "./rope.ts";
import { compose, type Slice, sliceFrom } from "./source.ts";

interface AttentionShape {
  heads: number;
  kvHeads: number;
  /** Head size: a multiple of 4, at most 128. */
  d: number;
  capacity: number;
  cacheType: CacheType;
}

export interface AttentionOptions extends AttentionShape {
  /** [tokens, heads, d] f32. */
  q: Slice;
  /** [kvHeads, capacity, d]. */
  k: Slice;
  v: Slice;
  /** [tokens, 2] u32: first key and one past the last. */
  ranges: Slice;
  /** [tokens, heads, d] f32. */
  o: Slice;
  /** [tokens, heads] f32: receives the log-sum-exp of each softmax, which the backward pass needs. */
  lse?: Slice;
  tokens: number;
  /** Keys that a query sees on average, for the cost estimate. */
  keys: number;
}

/** Records softmax(q kᵀ / √d) v for every query over its own range of keys. Source: qwen3-vl.md §5.4, §6.2. */
export function attention(program: Program, a: AttentionOptions): void {
  const columns = Math.ceil(a.d / 32);
  const constants = { CV: columns };
  const code = compose(constants, cacheLibrary(a.cacheType), a.lse ? lseStore : lseNone, scoreTile, spanLibrary, attentionShader);
  const kernel = program.gpu.kernel(`attention ${a.cacheType} d${a.d}`, code, a.lse ? "rrrrww" : "rrrrw");
  const workPerRow = 4 * a.heads * a.d * Math.max(1, a.keys);
  // 64 rows keep the byte offsets of q, ranges and o at multiples of 256.
  const step = Math.ceil(program.gpu.governor.rows(workPerRow, 64, a.tokens) / 64) * 64;
  for (let row = 0; row < a.tokens; row += step) {
    const tokens = Math.min(step, a.tokens - row);
    const width = a.heads * a.d * 4;
    program.dispatch(kernel, {
      params: [tokens, a.heads, a.heads / a.kvHeads, a.d, a.capacity, f32(a.d ** -0.5)],
      buffers: [
        sliceFrom(a.q, row * width),
        a.k,
        a.v,
        sliceFrom(a.ranges, row * 8),
        sliceFrom(a.o, row * width),
        ...(a.lse ? [sliceFrom(a.lse, row * a.heads * 4)] : []),
      ],
      grid: [Math.ceil(tokens / 64), a.heads],
      work: workPerRow * tokens,
    });
  }
}

/** Keys of one slice of the split decode attention. */
export const DECODE_SLICE = 64;

export interface DecodeAttentionOptions extends AttentionShape {
  /** [heads, d] f32. */
  q: Slice;
  k: Slice;
  v: Slice;
  /** [1, 4] u32; the last word is the query's slot. */
  positions: Slice;
  /** Scratch of `decodeScratchBytes`. */
  partial: Slice;
  o: Slice;
  /** Slices to launch; more than the context needs leave at once. */
  slices: number;
}

export function decodeScratchBytes(shape: { heads: number; d: number; capacity: number }): number {
  return Math.ceil(shape.capacity / DECODE_SLICE) * shape.heads * (shape.d + 4) * 4;
}

/** Records the attention of one new token over the whole cache. The handle sets how many slices are launched. */
export function decodeAttention(program: Program, a: DecodeAttentionOptions): { slices(count: number): void } {
  const group = a.heads / a.kvHeads;
  // Heads that share a workgroup: their sums must fit its 16 KiB.
  const together = group % 4 === 0 ? 4 : group % 2 === 0 ? 2 : 1;
  const split = program.gpu.kernel(
    `attention_decode ${a.cacheType} d${a.d}`,
    compose({ HEADS: together, SLICE: DECODE_SLICE }, cacheLibrary(a.cacheType), decodeShader),
    "rrrrw",
  );
  const handle: GridHandle = program.dispatch(split, {
    params: [a.heads, group, a.d, a.capacity, f32(a.d ** -0.5)],
    buffers: [a.q, a.k, a.v, a.positions, a.partial],
    grid: [a.slices, a.heads / together],
    work: a.slices * DECODE_SLICE * a.heads * a.d * 4,
  });
  const reduce = program.gpu.kernel(
    "attention_decode_reduce",
    compose({ SLICE: DECODE_SLICE }, decodeReduceShader),
    "rrw",
  );
  program.dispatch(reduce, {
    params: [a.heads, a.d],
    buffers: [a.partial, a.positions, a.o],
    grid: [a.heads],
    work: a.slices * a.heads * a.d * 4,
  });
  return { slices: (count) => handle.set(count, a.heads / together) };
}
