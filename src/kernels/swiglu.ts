import activation from "../../shaders/lib/activation.wgsl?raw";
import swigluShader from "../../shaders/swiglu.wgsl?raw";
import backwardShader from "../../shaders/swiglu_backward.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import { compose, fold, type Slice } from "./source.ts";

/** Records y = silu(gate) ⊙ up. gu [rows, 2n] f32 with gate first, y [rows, n] f32; n is a multiple of 4. */
export function swiglu(program: Program, gu: Slice, y: Slice, { rows, n }: { rows: number; n: number }): void {
  const kernel = program.gpu.kernel("swiglu", compose({}, activation, swigluShader), "rw");
  program.dispatch(kernel, {
    params: [rows, n],
    buffers: [gu, y],
    grid: fold(Math.ceil((rows * n) / 256)),
    work: rows * n * 12,
  });
}

/** Records the gradient of `swiglu` by gate and up, in place of them in gu. dy [rows, n] f32. Source: qwen3-vl.md §9.7. */
export function swigluBackward(program: Program, dy: Slice, gu: Slice, { rows, n }: { rows: number; n: number }): void {
  program.dispatch(program.gpu.kernel("swiglu_backward", compose({}, backwardShader), "rw"), {
    params: [rows, n],
    buffers: [dy, gu],
    grid: fold(Math.ceil((rows * n) / 256)),
    work: rows * n * 20,
  });
}
