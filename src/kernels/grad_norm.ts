import normShader from "../../shaders/grad_norm.wgsl?raw";
import reduceShader from "../../shaders/grad_norm_reduce.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { composeReduce, type Slice } from "./source.ts";

/** Elements of a workgroup's sum. */
const CHUNK = 4096;

/** Partial sums that gradient buffers of these sizes need. */
export function gradNormPartials(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + Math.ceil(count / CHUNK), 0);
}

export interface GradNormOptions {
  gradients: readonly { slice: Slice; count: number }[];
  /** [gradNormPartials] f32, scratch. */
  partials: Slice;
  /** [2] f32: receives the norm over all gradients and the factor that clips them; 0 if the norm is not finite. */
  clip: Slice;
  /** Largest norm; 0 for no clipping. */
  limit: number;
}

/** Records the global L2 norm and the clipping factor min(1, limit / (norm + 1e-6)). Source: qwen3-vl.md §9.6. */
export function gradNorm(program: Program, o: GradNormOptions): void {
  const kernel = program.gpu.kernel("grad_norm", composeReduce(program.gpu, 256, { CHUNK }, normShader), "rw");
  let first = 0;
  for (const { slice, count } of o.gradients) {
    const groups = Math.ceil(count / CHUNK);
    program.dispatch(kernel, {
      params: [count, first],
      buffers: [slice, o.partials],
      grid: [groups],
      work: 2 * count,
    });
    first += groups;
  }
  program.dispatch(program.gpu.kernel("grad_norm_reduce", composeReduce(program.gpu, 256, {}, reduceShader), "rw"), {
    params: [first, f32(o.limit)],
    buffers: [o.partials, o.clip],
    grid: [1],
    work: first,
  });
}
