import dropoutShader from "../../shaders/dropout.wgsl?raw";
import random from "../../shaders/lib/random.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { compose, fold, type Slice } from "./source.ts";

export interface DropoutOptions {
  /** [count] f32. */
  x: Slice;
  y: Slice;
  count: number;
  /** Share of elements that become zero: 0 ≤ rate < 1. */
  rate: number;
  /** [1] u32: what is different in every micro-batch. */
  seed: Slice;
  /** What is different in every layer. */
  stream: number;
  /** y += …: the gradient, with the same mask. */
  add?: boolean;
}

/** Records y = keep ⊙ x / (1 − rate), or y +=. The mask follows from seed, stream and element alone. */
export function dropout(program: Program, o: DropoutOptions): void {
  const code = compose({ ADD: o.add ?? false }, random, dropoutShader);
  program.dispatch(program.gpu.kernel("dropout", code, "rrw"), {
    params: [o.count, o.stream, Math.floor(o.rate * 2 ** 32), f32(1 / (1 - o.rate))],
    buffers: [o.x, o.seed, o.y],
    grid: fold(Math.ceil(o.count / 64)),
    work: o.count * 16,
  });
}
