import cacheF16 from "../../shaders/lib/cache_f16.wgsl?raw";
import cacheF32 from "../../shaders/lib/cache_f32.wgsl?raw";
import cacheI8 from "../../shaders/lib/cache_i8.wgsl?raw";
import cacheRows from "../../shaders/lib/cache_rows.wgsl?raw";
import storeF16 from "../../shaders/lib/cache_store_f16.wgsl?raw";
import storeF32 from "../../shaders/lib/cache_store_f32.wgsl?raw";
import storeI8 from "../../shaders/lib/cache_store_i8.wgsl?raw";
import { joined } from "./source.ts";

/** How cached keys and values are kept: f32, f16, or 8 bits with an f16 magnitude for each 16 channels. */
export type CacheType = "f32" | "f16" | "i8";

/** Bytes of the keys, or of the values, of one head and token: [d]. */
export function cacheRowBytes(type: CacheType, d: number): number {
  return type === "i8" ? 16 * Math.ceil(d / 16) + 16 : type === "f16" ? 2 * d : 4 * d;
}

/** What reads keys and values of heads of size d from `kCache` and `vCache` in a shader: `CacheVec`, `key4`, `key_part` and the like. */
export function cacheLibrary(type: CacheType, d: number): string {
  const size = `const CACHE_D = ${d}u;`;
  return type === "i8" ? joined(size, cacheI8) : joined(size, type === "f16" ? cacheF16 : cacheF32, cacheRows);
}

const STORES: Record<CacheType, string> = { f32: storeF32, f16: storeF16, i8: storeI8 };

/** The same, and what makes a row of a cache from the shared array `head`: `ROW_VECS`, `cache_vec`. */
export function cacheStore(type: CacheType, d: number): string {
  return joined(cacheLibrary(type, d), STORES[type]);
}
