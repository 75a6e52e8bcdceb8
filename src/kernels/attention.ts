import attentionShader from "../../shaders/attention.wgsl?raw";
import matrixShader from "../../shaders/attention_subgroup_matrix.wgsl?raw";
import rowsLibrary from "../../shaders/lib/attention_rows.wgsl?raw";
import lseStore from "../../shaders/lib/lse.wgsl?raw";
import lseNone from "../../shaders/lib/lse_none.wgsl?raw";
import scoreTile from "../../shaders/lib/score_tile.wgsl?raw";
import spanLibrary from "../../shaders/lib/span.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { type CacheType, cacheLibrary } from "./cache.ts";
import { compose, composeMatrix, type Gpu, type Kernel, type Slice, sliceFrom } from "./source.ts";

export interface AttentionOptions {
  heads: number;
  kvHeads: number;
  /** Head size: a multiple of 4, at most 128. */
  d: number;
  capacity: number;
  cacheType: CacheType;
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

/** What a pass over attention makes on matrix units: o of the forward pass, or one gradient. */
export type AttentionPass = "o" | "dq" | "dk" | "dv";

/** A kernel of attention_subgroup_matrix.wgsl: bindings (row A, column A, row B, column B, spans, stats, out). */
export function matrixAttention(gpu: Gpu, pass: AttentionPass, d: number, cacheType: CacheType): Kernel {
  const constants = {
    FORWARD: pass === "o",
    BY_KEY: pass === "dk" || pass === "dv",
    VALUE: pass === "dv",
    DEPTH: Math.ceil(d / 16) * 16,
    SUBGROUP: gpu.variants.matrix!.subgroup,
  };
  const code = composeMatrix(constants, cacheLibrary(cacheType, d), rowsLibrary, spanLibrary, matrixShader);
  return gpu.kernel(`attention_matrix ${pass} ${cacheType} d${d}`, code, "rrrrrrw");
}

/** Records softmax(q kᵀ / √d) v for every query over its own range of keys. Source: qwen3-vl.md §5.4, §6.2. */
export function attention(program: Program, a: AttentionOptions): void {
  const { gpu } = program;
  // Matrix units go over the keys twice here: they win where keys in 8 bits have to be opened, and nowhere else (DECISIONS.md).
  const matrix = a.cacheType === "i8" && !a.lse && gpu.variants.matrix;
  const kernel = matrix ? matrixAttention(gpu, "o", a.d, a.cacheType) : portableAttention(gpu, a);
  const workPerRow = 4 * a.heads * a.d * Math.max(1, a.keys);
  // 64 rows keep the byte offsets of q, ranges and o at multiples of 256.
  const step = program.rowsAtOnce(workPerRow, a.tokens);
  const [group, vecs, scale] = [a.heads / a.kvHeads, a.d / 4, f32(a.d ** -0.5)];
  for (let row = 0; row < a.tokens; row += step) {
    const tokens = Math.min(step, a.tokens - row);
    const width = a.heads * a.d * 4;
    const [q, o, ranges] = [sliceFrom(a.q, row * width), sliceFrom(a.o, row * width), sliceFrom(a.ranges, row * 8)];
    const lse = a.lse ? [sliceFrom(a.lse, row * a.heads * 4)] : [];
    const strides = [a.heads * vecs, vecs, vecs, a.capacity * vecs];
    program.dispatch(kernel, {
      params: matrix
        ? [0, tokens, a.heads, group, vecs, scale, ...strides]
        : [tokens, a.heads, group, a.d, a.capacity, scale],
      // On matrix units B of the rows and the stats belong to gradients.
      buffers: matrix ? [q, a.k, q, a.v, ranges, ranges, o] : [q, a.k, a.v, ranges, o, ...lse],
      grid: [Math.ceil(tokens / 64), a.heads],
      work: workPerRow * tokens,
    });
  }
}

function portableAttention(gpu: Gpu, a: AttentionOptions): Kernel {
  const constants = { CV: Math.ceil(a.d / 32), LSE: 6 };
  const libraries = [cacheLibrary(a.cacheType, a.d), a.lse ? lseStore : lseNone, scoreTile, spanLibrary];
  const code = compose(constants, ...libraries, attentionShader);
  return gpu.kernel(`attention ${a.cacheType} d${a.d}`, code, a.lse ? "rrrrww" : "rrrrw");
}
