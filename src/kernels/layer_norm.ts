import layerNormShader from "../../shaders/layer_norm.wgsl?raw";
import backwardShader from "../../shaders/layer_norm_backward.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import type { NormBackwardOptions } from "./rms_norm.ts";
import { composeReduce, fold, type NormShape, type Slice } from "./source.ts";

/** Records y = (x − mean) / std ⊙ w + b for each row. x, y [rows, c] f32, w, b [c] f32. */
export function layerNorm(program: Program, x: Slice, w: Slice, b: Slice, y: Slice, { rows, c, eps }: NormShape): void {
  const wg = c >= 1024 ? 256 : 64;
  const kernel = program.gpu.kernel("layer_norm", composeReduce(program.gpu, wg, {}, layerNormShader), "rrrw");
  program.dispatch(kernel, {
    params: [rows, c, f32(eps)],
    buffers: [x, w, b, y],
    grid: fold(rows),
    work: rows * c * 12,
  });
}

/** Records the gradient of `layerNorm` by x. Source: qwen3-vl.md §9.7. */
export function layerNormBackward(program: Program, o: NormBackwardOptions): void {
  const constants = { ACCUMULATE: o.accumulate ?? false };
  const code = composeReduce(program.gpu, o.c >= 1024 ? 256 : 64, constants, backwardShader);
  program.dispatch(program.gpu.kernel("layer_norm_backward", code, "rrrw"), {
    params: [o.rows, o.c, f32(o.eps)],
    buffers: [o.x, o.w, o.dy, o.dx],
    grid: fold(o.rows),
    work: o.rows * o.c * 20,
  });
}
