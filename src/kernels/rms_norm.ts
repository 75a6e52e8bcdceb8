import rmsNormShader from "../../shaders/rms_norm.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { composeReduce, fold, type NormShape, type Slice } from "./source.ts";

/** Records y = w ⊙ x / rms(x) for each row. x, y [rows, c] f32, w [c] f32. */
export function rmsNorm(program: Program, x: Slice, w: Slice, y: Slice, { rows, c, eps }: NormShape): void {
  const wg = c >= 1024 ? 256 : 64;
  const kernel = program.gpu.kernel("rms_norm", composeReduce(program.gpu, wg, {}, rmsNormShader), "rrw");
  program.dispatch(kernel, { params: [rows, c, f32(eps)], buffers: [x, w, y], grid: fold(rows), work: rows * c * 8 });
}
