import backwardShader from "../../shaders/attention_backward.wgsl?raw";
import deltaShader from "../../shaders/attention_backward_delta.wgsl?raw";
import rowsLibrary from "../../shaders/lib/attention_rows.wgsl?raw";
import scoreTile from "../../shaders/lib/score_tile.wgsl?raw";
import spanLibrary from "../../shaders/lib/span.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { type AttentionPass, matrixAttention } from "./attention.ts";
import { compose, fold, type Gpu, type Kernel, type Slice } from "./source.ts";

type Gradient = Exclude<AttentionPass, "o">;

export interface AttentionBackwardOptions {
  tokens: number;
  heads: number;
  kvHeads: number;
  /** Head size: a multiple of 4, at most 128. */
  d: number;
  /** Slots of a row of keys. */
  capacity: number;
  /** Keys that exist: slots 0 … keys. */
  keys: number;
  /** Keys that a query sees on average, for the cost estimate. */
  seen: number;
  /** [tokens, heads, d] f32, as the forward pass had and made them. */
  q: Slice;
  o: Slice;
  /** [kvHeads, capacity, d] f32. */
  k: Slice;
  v: Slice;
  /** [tokens, heads] f32 of the forward pass. */
  lse: Slice;
  /** [tokens, 2] u32: first key that a query sees and one past the last. */
  ranges: Slice;
  /** [keys, 2] u32: first query that sees a key and one past the last. Every query between them sees it. */
  keyRanges: Slice;
  /** [tokens, heads, d] f32: the gradient of o. */
  dout: Slice;
  /** [tokens, heads, 2] f32, scratch. */
  stats: Slice;
  /** As q. */
  dq: Slice;
  /** [heads, capacity, d] f32: the share of every query head in the gradients of the k and v that it reads. */
  dk: Slice;
  dv: Slice;
}

/** Records the gradients of `attention` by q, k and v; probabilities are made again from lse, never stored. Source: qwen3-vl.md §9.7. */
export function attentionBackward(program: Program, a: AttentionBackwardOptions): void {
  const rows = a.tokens * a.heads;
  program.dispatch(program.gpu.kernel("attention_backward_delta", compose({}, deltaShader), "rrrw"), {
    params: [rows, a.d],
    buffers: [a.o, a.dout, a.lse, a.stats],
    grid: fold(Math.ceil(rows / 64)),
    work: rows * a.d * 2,
  });
  const pass = (name: Gradient, out: Slice) => {
    const vecs = a.d / 4;
    const byKey = name !== "dq";
    const kernel = program.gpu.variants.matrix
      ? matrixAttention(program.gpu, name, a.d, "f32")
      : portableKernel(program.gpu, name, a.d);
    const queries = [a.heads * vecs, vecs];
    const keys = [vecs, a.capacity * vecs];
    const strides = byKey ? [...keys, ...queries] : [...queries, ...keys];
    const count = byKey ? a.keys : a.tokens;
    const workPerRow = ((name === "dv" ? 4 : 6) * a.tokens * a.heads * a.d * Math.max(1, a.seen)) / count;
    const step = program.rowsAtOnce(workPerRow, count);
    for (let row = 0; row < count; row += step) {
      const end = Math.min(count, row + step);
      program.dispatch(kernel, {
        params: [row, end, a.heads, a.heads / a.kvHeads, vecs, f32(a.d ** -0.5), ...strides],
        buffers: byKey
          ? [a.k, a.q, a.v, a.dout, a.keyRanges, a.stats, out]
          : [a.q, a.k, a.dout, a.v, a.ranges, a.stats, out],
        grid: [Math.ceil((end - row) / 64), a.heads],
        work: workPerRow * (end - row),
      });
    }
  };
  pass("dq", a.dq);
  pass("dk", a.dk);
  pass("dv", a.dv);
}

function portableKernel(gpu: Gpu, name: Gradient, d: number): Kernel {
  const constants = { CV: Math.ceil(d / 32), BY_KEY: name !== "dq", VALUE: name === "dv" };
  const code = compose(constants, rowsLibrary, scoreTile, spanLibrary, backwardShader);
  return gpu.kernel(`attention_backward ${name}`, code, "rrrrrrw");
}
