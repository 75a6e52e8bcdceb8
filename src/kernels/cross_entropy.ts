import crossEntropyShader from "../../shaders/cross_entropy.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import { composeReduce, type Slice } from "./source.ts";

export interface CrossEntropyOptions {
  /** [rows, vocab] f32; overwritten with their gradient when `gradient`. */
  logits: Slice;
  /** [rows] u32. */
  labels: Slice;
  /** [rows] f32: what each row's loss counts in the gradient. */
  weights: Slice;
  /** [rows, 2] f32: the loss, not weighted, and 1 where the label has the largest logit. */
  results: Slice;
  rows: number;
  vocab: number;
  gradient: boolean;
}

/** Records cross-entropy and, in place of the logits, weight · (softmax − onehot). Source: qwen3-vl.md §9.5, §9.7. */
export function crossEntropy(program: Program, o: CrossEntropyOptions): void {
  const code = composeReduce(program.gpu, 256, { GRADIENT: o.gradient }, crossEntropyShader);
  program.dispatch(program.gpu.kernel("cross_entropy", code, "rrww"), {
    params: [o.rows, o.vocab],
    buffers: [o.labels, o.weights, o.logits, o.results],
    grid: [o.rows],
    work: o.rows * o.vocab * 16,
  });
}
