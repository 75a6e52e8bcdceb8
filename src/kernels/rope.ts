import rotary from "../../shaders/lib/rotary.wgsl?raw";
import ropeShader from "../../shaders/rope.wgsl?raw";
import backwardShader from "../../shaders/rope_backward.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { type CacheType, cacheStore } from "./cache.ts";
import { composeReduce, type Slice } from "./source.ts";

export interface RopeShape {
  /** [tokens, (heads + 2·kvHeads)·d] f32. */
  qkv: Slice;
  tokens: number;
  heads: number;
  kvHeads: number;
  d: number;
  /** Slots of a cache row: keys and values are [kvHeads, capacity, d]. */
  capacity: number;
  /** [positions, d/2] pairs of cos and sin. */
  table: Slice;
  /** [tokens, 4] u32: t, h, w (row, column, – for vision) and the slot. */
  positions: Slice;
  /** RMSNorm weights of q's heads followed by k's, [2, d] f32; none in the vision tower. */
  norms?: Slice;
  eps?: number;
  /** Sections of M-RoPE [t, h, w]; absent for the vision tower's row/column rotation. */
  sections?: readonly number[];
}

export interface RopeOptions extends RopeShape {
  cacheType: CacheType;
  q: Slice;
  k: Slice;
  v: Slice;
}

/** Records: split a fused QKV projection into heads, norm and rotate q and k, store k and v. Source: qwen3-vl.md §5.3, §6.2, §6.3. */
export function rope(program: Program, o: RopeOptions): void {
  const norm = o.norms !== undefined;
  const vision = o.sections === undefined;
  const libraries = [cacheStore(o.cacheType, o.d), rotary];
  const code = composeReduce(program.gpu, 64, { NORM: norm, VISION: vision }, ...libraries, ropeShader);
  const kernel = program.gpu.kernel(`rope ${vision ? "vision" : "m-rope"} ${o.cacheType}`, code, "rrrrwww");
  const slots = o.heads + 2 * o.kvHeads;
  program.dispatch(kernel, {
    params: ropeParams(o),
    buffers: [o.qkv, o.norms ?? o.table, o.table, o.positions, o.q, o.k, o.v],
    grid: [slots, o.tokens],
    work: o.tokens * slots * o.d * 12,
  });
}

/** The parameters that rope and attention_decode have in common. */
export function ropeParams(o: RopeShape): number[] {
  const [, h = 0, w = 0] = o.sections ?? [];
  const [sectionH, sectionW] = o.sections ? [3 * h, 3 * w] : [o.d / 4, 0];
  return [o.tokens, o.heads, o.kvHeads, o.d, o.capacity, sectionH, sectionW, f32(o.eps ?? 0)];
}

export interface RopeBackwardOptions extends RopeShape {
  /** [tokens, heads, d] f32. */
  dq: Slice;
  /** [heads, capacity, d] f32: shares of the query heads, which are added up. */
  dk: Slice;
  dv: Slice;
  /** As qkv. */
  dqkv: Slice;
}

/** Records the gradient of `rope` by the fused projection. Source: qwen3-vl.md §9.7. */
export function ropeBackward(program: Program, o: RopeBackwardOptions): void {
  const constants = { NORM: o.norms !== undefined, VISION: o.sections === undefined };
  const code = composeReduce(program.gpu, 64, constants, rotary, backwardShader);
  const slots = o.heads + 2 * o.kvHeads;
  program.dispatch(program.gpu.kernel("rope_backward", code, "rrrrrrrw"), {
    params: ropeParams(o),
    buffers: [o.qkv, o.norms ?? o.table, o.table, o.positions, o.dq, o.dk, o.dv, o.dqkv],
    grid: [slots, o.tokens],
    work: o.tokens * slots * o.d * 20,
  });
}
