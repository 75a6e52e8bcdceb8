import type { Program, Slice } from "../../gpu/index.ts";
import type { ImageFeatures } from "./vision.ts";
import type { Grid } from "./vision_inputs.ts";

/**
 * What a trainer sees of a model. The model knows how a micro-batch becomes gradients and how gradients become a step;
 * the trainer decides which rows, how many before a step, at what rate, and when to keep a checkpoint.
 */

/** Which linear layers carry LoRA pairs: the flags of Unsloth's `get_peft_model`, qwen3-vl.md §9.1. */
export interface LoraParts {
  languageAttention: boolean;
  languageMlp: boolean;
  visionAttention: boolean;
  visionMlp: boolean;
  /** The final merger and DeepStack's. */
  mergers: boolean;
}

/** One factor of a pair: A [r, in] or B [out, r], f32, row-major. */
export interface LoraTensor {
  /** PEFT's name without `base_model.model.`: `model.language_model.layers.0.self_attn.q_proj.lora_A.weight`. */
  name: string;
  shape: readonly [rows: number, cols: number];
  /** Which of the trained buffers holds it, and from which element on. */
  buffer: number;
  offset: number;
}

/** Buffers of the same size: values, and the gradients that micro-batches add to. f32. */
export interface TrainedBuffer {
  values: Slice;
  gradients: Slice;
  count: number;
}

/** A picture of an example: what the tower made of it, or its pixels when the tower itself trains. */
export type TrainImage =
  | { grid: Grid; features: ImageFeatures }
  | {
      grid: Grid;
      /** [patches, channels·temporal·patch²] f32. */
      pixels: Float32Array<ArrayBuffer>;
    };

/** One conversation as the model sees it. */
export interface TrainExample {
  /** Placeholders of pictures already stand for as many ids as there are image tokens. */
  ids: readonly number[];
  /** As many as ids: the id itself where its loss counts, −100 elsewhere. Logits of token t answer for the label of t + 1. */
  labels: readonly number[];
  /** In order of appearance. */
  images: readonly TrainImage[];
}

export interface BatchOptions {
  /** Weight of every trained token's loss in the gradient: 1 / (trained tokens of the whole step). */
  weight: number;
  /** Dropout's random state; the same number gives the same masks. Different for every micro-batch of a run. */
  seed: number;
  signal?: AbortSignal;
  /** Sees the list of dispatches after it ran and before it is freed. */
  inspect?: (program: Program) => Promise<void>;
}

/** What came out of a micro-batch. Sums, so that they add up over micro-batches in any split. */
export interface BatchLoss {
  /** Σ −log p(label), not weighted. */
  loss: number;
  /** Trained tokens. */
  tokens: number;
  /** Trained tokens whose label had the highest logit. */
  correct: number;
}

export interface TrainableModel {
  readonly tensors: readonly LoraTensor[];
  readonly buffers: readonly TrainedBuffer[];
  /** Packs the examples into one sequence (none sees another) and adds their gradients. Throws `BadInput`, `Cancelled`, `DeviceLost`. */
  accumulate(examples: readonly TrainExample[], options: BatchOptions): Promise<BatchLoss>;
  /** The loss alone, without dropout. */
  evaluate(examples: readonly TrainExample[], signal?: AbortSignal): Promise<BatchLoss>;
  free(): void;
}
