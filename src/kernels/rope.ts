import cacheF16 from "../../shaders/lib/cache_f16.wgsl?raw";
import cacheF32 from "../../shaders/lib/cache_f32.wgsl?raw";
import storeF16 from "../../shaders/lib/cache_store_f16.wgsl?raw";
import storeF32 from "../../shaders/lib/cache_store_f32.wgsl?raw";
import ropeShader from "../../shaders/rope.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { composeReduce, type Slice } from "./source.ts";

/** Type of the cached keys and values. */
export type CacheType = "f32" | "f16";

/** The head that opens cached keys and values: `CacheWord`, `CacheVec`, `open_cache`. */
export function cacheLibrary(type: CacheType): string {
  return type === "f16" ? cacheF16 : cacheF32;
}

export interface RopeOptions {
  /** [tokens, (heads + 2·kvHeads)·d] f32. */
  qkv: Slice;
  tokens: number;
  heads: number;
  kvHeads: number;
  d: number;
  /** Slots of a cache row: keys and values are [kvHeads, capacity, d]. */
  capacity: number;
  cacheType: CacheType;
  /** [positions, d/2] pairs of cos and sin. */
  table: Slice;
  /** [tokens, 4] u32: t, h, w (row, column, – for vision) and the slot. */
  positions: Slice;
  q: Slice;
  k: Slice;
  v: Slice;
  /** RMSNorm weights of q's heads followed by k's, [2, d] f32; none in the vision tower. */
  norms?: Slice;
  eps?: number;
  /** Sections of M-RoPE [t, h, w]; absent for the vision tower's row/column rotation. */
  sections?: readonly number[];
}

/** Records: split a fused QKV projection into heads, norm and rotate q and k, store k and v. Source: qwen3-vl.md §5.3, §6.2, §6.3. */
export function rope(program: Program, o: RopeOptions): void {
  const norm = o.norms !== undefined;
  const vision = o.sections === undefined;
  const code = composeReduce(
    program.gpu,
    64,
    { NORM: norm, VISION: vision },
    cacheLibrary(o.cacheType),
    ropeShader,
    o.cacheType === "f16" ? storeF16 : storeF32,
  );
  const kernel = program.gpu.kernel(`rope ${vision ? "vision" : "m-rope"} ${o.cacheType}`, code, "rrrrwww");
  const [, h = 0, w = 0] = o.sections ?? [];
  const slots = o.heads + 2 * o.kvHeads;
  program.dispatch(kernel, {
    params: [
      o.tokens,
      o.heads,
      o.kvHeads,
      o.d,
      o.capacity,
      vision ? o.d / 4 : 3 * h,
      vision ? 0 : 3 * w,
      f32(o.eps ?? 0),
    ],
    buffers: [o.qkv, o.norms ?? o.table, o.table, o.positions, o.q, o.k, o.v],
    grid: [slots, o.tokens],
    work: o.tokens * slots * o.d * 12,
  });
}
