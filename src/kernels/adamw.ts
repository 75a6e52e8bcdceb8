import adamwShader from "../../shaders/adamw.wgsl?raw";
import adamw8Shader from "../../shaders/adamw_8bit.wgsl?raw";
import random from "../../shaders/lib/random.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { compose, composeReduce, fold, type Slice } from "./source.ts";

/** Settings of one step; rates may change from step to step. */
export interface AdamWStep {
  /** 1, 2, 3, … */
  step: number;
  rate: number;
  weightDecay: number;
  beta1: number;
  beta2: number;
  eps: number;
}

interface Common extends AdamWStep {
  count: number;
  /** [count] f32; gradients are zero afterwards. */
  value: Slice;
  gradient: Slice;
  /** [2] f32 from `gradNorm`: the second is what gradients are multiplied with, 0 skips the step. */
  clip: Slice;
}

export interface AdamWOptions extends Common {
  /** First and second moments, [count] f32, zero before the first step. */
  m: Slice;
  v: Slice;
}

export interface AdamW8bitOptions extends Common {
  /** Codes, [adamw8bitWords(count)] u32, and the largest values of each block, [blocks, 2] f32; all zero before the first step. */
  m: Slice;
  v: Slice;
  tops: Slice;
  /** Rounding's random state: different for every step and buffer. */
  seed: number;
}

function stepParams(o: Common): number[] {
  const values = [
    o.rate,
    o.rate * o.weightDecay,
    o.beta1,
    o.beta2,
    o.eps,
    1 - o.beta1 ** o.step,
    Math.sqrt(1 - o.beta2 ** o.step),
    1 - o.beta1,
    1 - o.beta2,
  ];
  return [o.count, ...values.map(f32)];
}

/** Records one step of AdamW with decoupled decay and bias correction. Source: qwen3-vl.md §9.6. */
export function adamw(program: Program, o: AdamWOptions): void {
  program.dispatch(program.gpu.kernel("adamw", compose({}, adamwShader), "rwwww"), {
    params: stepParams(o),
    buffers: [o.clip, o.value, o.gradient, o.m, o.v],
    grid: fold(Math.ceil(o.count / 64)),
    work: o.count * 28,
  });
}

/** Words of m's codes, and of v's. A block of 256 elements has 64 of them and one pair of largest values. */
export function adamw8bitWords(count: number): number {
  return Math.ceil(count / 256) * 64;
}

/** Records the same step with moments in 8 bits, a quarter of the memory. The code is described in the shader. */
export function adamw8bit(program: Program, o: AdamW8bitOptions): void {
  const code = composeReduce(program.gpu, 64, {}, random, adamw8Shader);
  program.dispatch(program.gpu.kernel("adamw_8bit", code, "rwwwww"), {
    params: [...stepParams(o), o.seed],
    buffers: [o.clip, o.value, o.gradient, o.m, o.v, o.tops],
    grid: fold(Math.ceil(o.count / 256)),
    work: o.count * 32,
  });
}
