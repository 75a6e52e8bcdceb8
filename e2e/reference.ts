import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** One case of cases.json, as make_reference.py writes it. Names of arrays point into cases.safetensors. */
export interface ReferenceCase {
  messages: { role: string; content: string | { type: string; text?: string }[] }[];
  images?: string[];
  /** A video case has frames instead of images. */
  frames?: number;
  fps?: number;
  prompt: string;
  input_ids: number[];
  grid_thw?: number[][];
  pixel_values?: string;
  logits: string;
  /** "last 16" when only the last rows of logits and hidden states were kept. */
  logits_rows?: string;
  hidden_states?: string[];
  vision_hidden?: string[];
  vision_merged?: string[];
  position_ids?: string;
  rope_delta?: number;
  greedy: number[];
}

/** The training run of cases.json; its factors are `lora0.*`, its first gradients `grad0.*`, its result `lora_final.*`. */
export interface ReferenceTraining {
  r: number;
  alpha: number;
  steps: number;
  weight_decay: number;
  max_grad_norm: number;
  data: { image: string | null; question: string; answer: string }[];
  input_ids: number[][];
  labels: number[][];
  loss_per_step: number[];
  grad_norm: number[];
  lr_per_step: number[];
  trainable_parameters: number;
  logits_after: string;
}

export interface Reference {
  folder: string;
  cases: Record<string, ReferenceCase>;
  train: ReferenceTraining;
  /** Names of arrays that begin with a prefix. */
  names: (prefix: string) => string[];
  /** Throws when there is no such array. */
  array: (name: string) => { shape: number[]; data: Float32Array | Int32Array };
}

/** The arrays of a safetensors file; bf16 is opened to f32. Throws when there is no such array. */
export function openArrays(path: string): Pick<Reference, "names" | "array"> {
  const file = readFileSync(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + headerBytes));
  return {
    names: (prefix) => Object.keys(header).filter((name) => name !== "__metadata__" && name.startsWith(prefix)),
    array(name) {
      const entry = header[name];
      if (!entry) throw new Error(`${path} has no array ${name}`);
      const [start, end] = entry.data_offsets.map((offset: number) => offset + 8 + headerBytes);
      // A copy: offsets in the file need not be multiples of four.
      const bytes = Uint8Array.from(file.subarray(start, end)).buffer;
      const { shape, dtype } = entry;
      if (dtype === "F32") return { shape, data: new Float32Array(bytes) };
      if (dtype === "I32") return { shape, data: new Int32Array(bytes) };
      if (dtype !== "BF16") throw new Error(`${name}: expected F32, BF16 or I32, found ${dtype}`);
      const words = Uint32Array.from(new Uint16Array(bytes), (half) => half << 16);
      return { shape, data: new Float32Array(words.buffer) };
    },
  };
}

/** Reads what make_reference.py wrote: cases.json and cases.safetensors. */
export function openReference(folder: string): Reference {
  const json = join(folder, "cases.json");
  if (!existsSync(json)) throw new Error(`${json} does not exist: expected a folder written by make_reference.py`);
  const { cases, train } = JSON.parse(readFileSync(json, "utf8"));
  return { folder, cases, train, ...openArrays(join(folder, "cases.safetensors")) };
}

/** ‖a − b‖ / ‖b‖ in float64; infinite when lengths differ or anything is not finite. */
export function relativeL2(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  const error = Math.sqrt(difference / (size || 1));
  return Number.isFinite(error) ? error : Number.POSITIVE_INFINITY;
}

/** The largest |a − b|; infinite when lengths differ or anything is not finite. */
export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < b.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= largest)) largest = difference;
  }
  return Number.isFinite(largest) ? largest : Number.POSITIVE_INFINITY;
}

/** True when both hold the same numbers in the same order. */
export function same(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  return largestDifference(a, b) === 0;
}
