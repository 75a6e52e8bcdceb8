import geluShader from "../../shaders/gelu.wgsl?raw";
import backwardShader from "../../shaders/gelu_backward.wgsl?raw";
import activation from "../../shaders/lib/activation.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import { compose, fold, type Slice } from "./source.ts";

/** Which GELU: the blocks of the tower use tanh's form, the mergers the exact one. */
export type Gelu = "gelu_tanh" | "gelu_erf";

/** Records y = gelu(z). z, y [count] f32; count is a multiple of 4. */
export function gelu(program: Program, z: Slice, y: Slice, { act, count }: { act: Gelu; count: number }): void {
  const apply = `fn activate(v: f32) -> f32 {\n  return ${act}(v);\n}\n`;
  program.dispatch(program.gpu.kernel(act, compose({}, activation, apply, geluShader), "rw"), {
    params: [count / 4],
    buffers: [z, y],
    grid: fold(Math.ceil(count / 256)),
    work: count * 16,
  });
}

/** Records dy ⊙= gelu'(z), in place of dy. */
export function geluBackward(
  program: Program,
  z: Slice,
  dy: Slice,
  { act, count }: { act: Gelu; count: number },
): void {
  const code = compose({ TANH: act === "gelu_tanh" }, activation, backwardShader);
  program.dispatch(program.gpu.kernel(`${act}_backward`, code, "rw"), {
    params: [count / 4],
    buffers: [z, dy],
    grid: fold(Math.ceil(count / 256)),
    work: count * 24,
  });
}
