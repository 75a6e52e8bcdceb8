import library from "../../shaders/lib/sample.wgsl?raw";
import pickShader from "../../shaders/sample.wgsl?raw";
import filterShader from "../../shaders/sample_filter.wgsl?raw";
import scanShader from "../../shaders/sample_scan.wgsl?raw";
import { f32, type Program } from "../gpu/index.ts";
import { composeReduce, type Slice } from "./source.ts";

/** What the sampler reads and moves on. */
export interface SampleState {
  /** Settings as packed by `packSampleSettings`. */
  settings: Slice;
  /** [vocab] f32, overwritten. */
  logits: Slice;
  /** [vocab] u32: bit 0 seen in the prompt or the answer, bit 1 in the answer. */
  seen: Slice;
  /** [1] u32: the token picked, input of the next step. */
  token: Slice;
  /** [1, 4] u32: positions of the next token; each word grows by one. */
  positions: Slice;
  /** [2] u32: tokens picked so far, and why it stopped (0 running, 1 end of turn, 2 logits not finite). */
  control: Slice;
  /** [capacity] u32: all tokens picked. */
  ring: Slice;
  /** `sampleScratchBytes`. */
  scratch: Slice;
}

export interface SampleSettings {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  seed: number;
  /** Ids at or over this are never picked: padding rows of the table. */
  limit: number;
  /** Ids that end the turn, at most 8. */
  ends: number[];
}

/** The most probable id each time. */
export const GREEDY: Omit<SampleSettings, "limit" | "ends"> = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  seed: 0,
};

/** The uniform words of `Settings` in sample.wgsl. */
export function packSampleSettings(s: SampleSettings): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(17);
  words.set([
    f32(s.temperature),
    Math.max(0, Math.floor(s.topK)),
    f32(s.topP),
    f32(s.minP),
    f32(s.repetitionPenalty),
    f32(s.presencePenalty),
    s.seed >>> 0,
    s.limit,
    Math.min(8, s.ends.length),
    ...s.ends.slice(0, 8),
  ]);
  return words;
}

/** Ids of one workgroup of the first two steps. */
const SEGMENT = 1024;

/** Bytes of `scratch`, which must be zero before the first use. */
export function sampleScratchBytes(vocab: number): number {
  return 4 * (6 * Math.ceil(vocab / SEGMENT) + 1 + vocab);
}

/** Records the choice of the next token from one row of logits. */
export function sample(program: Program, state: SampleState, vocab: number): void {
  const { gpu } = program;
  const { settings, logits, seen, token, positions, control, ring, scratch } = state;
  const segments = Math.ceil(vocab / SEGMENT);
  const kernel = (name: string, shader: string, access: string) =>
    gpu.kernel(name, composeReduce(gpu, 256, {}, library, shader), access);
  program.dispatch(kernel("sample_scan", scanShader, "rrrww"), {
    params: [vocab],
    buffers: [settings, control, seen, logits, scratch],
    grid: [segments],
    work: vocab * 8,
  });
  program.dispatch(kernel("sample_filter", filterShader, "rrrw"), {
    params: [segments],
    buffers: [settings, control, logits, scratch],
    grid: [segments],
    work: vocab * 8,
  });
  program.dispatch(kernel("sample", pickShader, "rrwwwwww"), {
    params: [segments],
    buffers: [settings, logits, scratch, seen, token, positions, control, ring],
    grid: [1],
    work: vocab,
  });
}
