import rmsNormShader from "../../shaders/rms_norm.wgsl?raw";
import backwardShader from "../../shaders/rms_norm_backward.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { composeReduce, fold, type NormShape, type Slice } from "./source.ts";

/** Records y = w ⊙ x / rms(x) for each row. x, y [rows, c] f32, w [c] f32. */
export function rmsNorm(program: Program, x: Slice, w: Slice, y: Slice, { rows, c, eps }: NormShape): void {
  const wg = c >= 1024 ? 256 : 64;
  const kernel = program.gpu.kernel("rms_norm", composeReduce(program.gpu, wg, {}, rmsNormShader), "rrw");
  program.dispatch(kernel, { params: [rows, c, f32(eps)], buffers: [x, w, y], grid: fold(rows), work: rows * c * 8 });
}

/** x of the forward pass and the norm's weights; dy, dx [rows, c] f32. `accumulate`: dx += …, onto the residual stream's gradient. */
export interface NormBackwardOptions extends NormShape {
  x: Slice;
  w: Slice;
  dy: Slice;
  dx: Slice;
  accumulate?: boolean;
}

/** Records the gradient of `rmsNorm` by x. Source: qwen3-vl.md §9.7. */
export function rmsNormBackward(program: Program, o: NormBackwardOptions): void {
  const constants = { ACCUMULATE: o.accumulate ?? false };
  const code = composeReduce(program.gpu, o.c >= 1024 ? 256 : 64, constants, backwardShader);
  program.dispatch(program.gpu.kernel("rms_norm_backward", code, "rrrw"), {
    params: [o.rows, o.c, f32(o.eps)],
    buffers: [o.x, o.w, o.dy, o.dx],
    grid: fold(o.rows),
    work: o.rows * o.c * 16,
  });
}
