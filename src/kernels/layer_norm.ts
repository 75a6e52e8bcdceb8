import layerNormShader from "../../shaders/layer_norm.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
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
