import decodeShader from "../../shaders/attention_decode.wgsl?raw";
import reduceShader from "../../shaders/attention_decode_reduce.wgsl?raw";
import rotary from "../../shaders/lib/rotary.wgsl?raw";
import { f32, type GridHandle, type Program } from "../gpu/index.ts";
import { cacheStore } from "./cache.ts";
import { type RopeOptions, ropeParams } from "./rope.ts";
import { compose, type Slice } from "./source.ts";

/** Keys of one step of the split decode attention, and the most slices that it cuts a context into: more would take longer to join. */
const STEP = { KEYS: 32, SLICES: 32 };

const slicesFor = (keys: number) => Math.min(STEP.SLICES, Math.ceil(keys / STEP.KEYS));

/** As for `rope`, for one token with norms and sections: its positions are [1, 4]. */
export interface DecodeAttentionOptions extends Required<Omit<RopeOptions, "tokens" | "q">> {
  /** Scratch of `decodeScratchBytes`. */
  partial: Slice;
  /** [heads, d] f32. */
  o: Slice;
}

export function decodeScratchBytes(shape: { heads: number; d: number; capacity: number }): number {
  return slicesFor(shape.capacity) * shape.heads * (shape.d + 4) * 4;
}

/**
 * Records what `rope` and `attention` do for one new token: its key and value are stored, then attended to with all before them.
 * The handle sets how many cached keys it is launched for, at first one.
 */
export function decodeAttention(program: Program, a: DecodeAttentionOptions): { keys(count: number): void } {
  const group = a.heads / a.kvHeads;
  // Heads that share a workgroup: their queries and results must fit a thread's registers.
  const together = group % 4 === 0 ? 4 : group % 2 === 0 ? 2 : 1;
  const split = program.gpu.kernel(
    `attention_decode ${a.cacheType} d${a.d}`,
    compose({ HEADS: together, ...STEP, VISION: false }, cacheStore(a.cacheType, a.d), rotary, decodeShader),
    "rrrrwww",
  );
  const handle: GridHandle = program.dispatch(split, {
    params: [...ropeParams({ ...a, tokens: 1 }), f32(a.d ** -0.5)],
    buffers: [a.qkv, a.norms, a.table, a.positions, a.k, a.v, a.partial],
    grid: [1, a.heads / together],
    work: STEP.KEYS * a.heads * a.d * 4,
  });
  const reduce = program.gpu.kernel("attention_decode_reduce", compose(STEP, reduceShader), "rrw");
  program.dispatch(reduce, {
    params: [a.heads, a.d],
    buffers: [a.partial, a.positions, a.o],
    grid: [a.heads, Math.ceil(a.d / 64)],
    work: a.heads * a.d * 4,
  });
  return { keys: (count) => handle.set(slicesFor(count), a.heads / together) };
}
