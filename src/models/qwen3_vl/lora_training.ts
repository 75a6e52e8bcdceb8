import { TabTuneError } from "../../errors.ts";
import { type Gpu, Program, type Slice, storageBytes } from "../../gpu/index.ts";
import type { Qwen3VLConfig } from "./config.ts";
import { type AdaptedModule, adapterBytes, type GpuAdapter } from "./gpu_adapter.ts";
import {
  type LanguageBatch,
  LanguageTraining,
  languageTrainingBytes,
  type PlacedPicture,
} from "./language_training.ts";
import type { Dropout, LoraScratch } from "./linear.ts";
import { type PackedBatch, packExamples } from "./packing.ts";
import type { BatchLoss, BatchOptions, LoraTensor, TrainableModel, TrainExample, TrainedBuffer } from "./trainable.ts";
import { type VisionBatch, VisionTraining, visionTrainingBytes } from "./vision_training.ts";
import type { GpuWeights } from "./weights.ts";

export interface LoraTrainingOptions {
  /** Tokens of a micro-batch, all examples together. */
  maxTokens: number;
  /** Patches of a micro-batch's pictures; 0 while the tower is frozen and pictures come as features. A multiple of 4. */
  maxPatches: number;
  /** Dropout before every A, 0 to less than 1. */
  dropout: number;
}

/** Words of the inputs of one token. */
const INPUTS = { ids: 1, positions: 4, ranges: 2, keyRanges: 2, trainedAt: 1, labels: 1, weights: 1, results: 2 };

/** Widest input of a layer with a pair, and so the width of what dropout leaves of it. */
function widest({ text, vision }: Qwen3VLConfig, { maxPatches }: { maxPatches: number }): number {
  const tower = maxPatches ? Math.max(vision.intermediateSize, vision.hiddenSize * vision.spatialMergeSize ** 2) : 0;
  return Math.max(text.intermediateSize, text.hiddenSize, text.numAttentionHeads * text.headDim, tower);
}

/**
 * GPU bytes of training beside the base's weights, by purpose, known before anything is allocated. An optimizer comes on top:
 * `counts` are the elements of the trained buffers. Inputs of a micro-batch's pictures are not counted: they come and go.
 */
export function loraTrainingBytes(
  config: Qwen3VLConfig,
  adapted: readonly AdaptedModule[],
  options: LoraTrainingOptions,
) {
  const { maxTokens, maxPatches, dropout } = options;
  const rows = Math.max(maxTokens, maxPatches);
  const { counts, u, partial, handover } = adapterBytes(config, adapted, rows);
  const language = languageTrainingBytes(config.text, maxTokens);
  const vision = maxPatches
    ? visionTrainingBytes(config.vision, maxPatches)
    : { activations: 0, checkpoints: 0, largest: 0 };
  const dropped = dropout ? storageBytes(4 * rows * widest(config, options)) + storageBytes(4) : 0;
  const inputs = Object.values(INPUTS).reduce((sum, words) => sum + storageBytes(4 * maxTokens * words), 0);
  const scratch = 2 * storageBytes(u) + storageBytes(partial) + storageBytes(handover);
  const values = counts.reduce((sum, count) => sum + storageBytes(4 * count), 0);
  return {
    counts,
    /** Of all buffers: a device binds no larger one than it says. */
    largest: Math.max(language.largest, vision.largest, dropped, u, partial, ...counts.map((count) => 4 * count)),
    adapter: values,
    gradients: values,
    activations: language.activations + vision.activations + dropped + inputs + scratch,
    checkpoints: language.checkpoints + vision.checkpoints,
  };
}

/** Trains an adapter on a frozen base. Gradients add up in buffers of its own until an optimizer takes them. */
export class LoraTraining implements TrainableModel {
  readonly tensors: readonly LoraTensor[];
  readonly buffers: readonly TrainedBuffer[];
  #gpu: Gpu;
  #config: Qwen3VLConfig;
  #weights: GpuWeights;
  #adapter: GpuAdapter;
  #language: LanguageTraining;
  #vision: VisionTraining | undefined;
  #options: LoraTrainingOptions;
  #inputs: Record<keyof typeof INPUTS, Slice>;
  #scratch: LoraScratch;
  #dropout: Dropout | undefined;
  #owned: Slice[];

  private constructor(
    gpu: Gpu,
    config: Qwen3VLConfig,
    weights: GpuWeights,
    adapter: GpuAdapter,
    { language, vision, owned }: { language: LanguageTraining; vision: VisionTraining | undefined; owned: Slice[] },
    options: LoraTrainingOptions,
  ) {
    this.#gpu = gpu;
    this.#config = config;
    this.#weights = weights;
    this.#adapter = adapter;
    this.#language = language;
    this.#vision = vision;
    this.#options = options;
    this.tensors = adapter.tensors;
    this.#owned = owned;
    const make = (owner: string, label: string, bytes: number) => {
      const slice = gpu.storage(owner, label, bytes);
      owned.push(slice);
      return slice;
    };
    this.buffers = adapter.buffers.map(({ values, count }, i) => {
      return { values, count, gradients: make("gradients", `gradients ${i}`, count * 4) };
    });
    const rows = Math.max(options.maxTokens, options.maxPatches);
    this.#scratch = adapter.scratch("training activations", rows, true);
    owned.push(...Object.values(this.#scratch));
    const scratch = (label: string, bytes: number) => make("training activations", label, bytes);
    const entries = Object.entries(INPUTS).map(([name, words]) => {
      return [name, scratch(name, 4 * words * options.maxTokens)] as const;
    });
    this.#inputs = Object.fromEntries(entries) as Record<keyof typeof INPUTS, Slice>;
    if (options.dropout) {
      const dropped = scratch("after dropout", 4 * rows * widest(config, options));
      this.#dropout = { rate: options.dropout, seed: scratch("random seed", 4), dropped };
    }
  }

  /** Throws `OutOfMemory`; what was allocated is freed then. The adapter and the weights stay the caller's. */
  static async create(
    gpu: Gpu,
    config: Qwen3VLConfig,
    weights: GpuWeights,
    adapter: GpuAdapter,
    options: LoraTrainingOptions,
  ): Promise<LoraTraining> {
    const language = await LanguageTraining.create(gpu, config, weights, options.maxTokens);
    let vision: VisionTraining | undefined;
    const owned: Slice[] = [];
    try {
      if (options.maxPatches) vision = await VisionTraining.create(gpu, config, weights, options.maxPatches);
      return await gpu.allocating("the gradients of the adapter", () => {
        return new LoraTraining(gpu, config, weights, adapter, { language, vision, owned }, options);
      });
    } catch (error) {
      for (const slice of owned) gpu.free(slice);
      language.free();
      vision?.free();
      throw error;
    }
  }

  accumulate(examples: readonly TrainExample[], options: BatchOptions): Promise<BatchLoss> {
    return this.#run(examples, options);
  }

  evaluate(examples: readonly TrainExample[], signal?: AbortSignal): Promise<BatchLoss> {
    return this.#run(examples, { weight: 0, seed: 0, ...(signal ? { signal } : {}) }, false);
  }

  async #run(examples: readonly TrainExample[], options: BatchOptions, backward = true): Promise<BatchLoss> {
    const gpu = this.#gpu;
    const packed = packExamples(examples, this.#config);
    const { maxTokens } = this.#options;
    if (packed.ids.length > maxTokens) {
      throw new TabTuneError(
        "BadInput",
        `The micro-batch has ${packed.ids.length} tokens and memory was planned for ${maxTokens}. Lower the batch size, the pictures' size or the sequence limit.`,
      );
    }
    const program = new Program(gpu, backward ? "train" : "evaluate");
    const extra: Slice[] = [];
    const keep = (slice: Slice) => {
      extra.push(slice);
      return slice;
    };
    try {
      const tower = this.#towerBatch(examples, keep);
      const batch = this.#upload(examples, packed, options.weight, keep);
      const dropout = backward ? this.#dropout : undefined;
      if (dropout) gpu.write(dropout.seed, Uint32Array.of(options.seed));
      await program.stream(this.#pieces(this.#pass(program, batch, tower, backward, dropout)), options.signal);
      await options.inspect?.(program);
      const results = await gpu.readFloats(batch.results, 2 * batch.trained);
      const sum = { loss: 0, tokens: batch.trained, correct: 0 };
      for (let i = 0; i < batch.trained; i++) {
        sum.loss += results[2 * i]!;
        sum.correct += results[2 * i + 1]!;
      }
      return sum;
    } finally {
      program.free();
      for (const slice of extra) gpu.free(slice);
    }
  }

  /** Records a pass piece by piece. The adapter is on while a piece is recorded, and only then. */
  *#pieces(pass: Generator<undefined>): Generator<undefined> {
    const gradients = this.buffers.map((buffer) => buffer.gradients);
    for (;;) {
      const restore = this.#weights.detachAdapter();
      try {
        this.#adapter.attach(this.#weights, this.#scratch, gradients);
        if (pass.next().done) return;
      } finally {
        this.#weights.detachAdapter();
        restore();
      }
      yield;
    }
  }

  /** Everything in the order of the forward pass, then back. */
  *#pass(
    program: Program,
    batch: LanguageBatch,
    tower: VisionBatch | undefined,
    backward: boolean,
    dropout: Dropout | undefined,
  ): Generator<undefined> {
    if (tower) this.#vision!.forward(program, tower, dropout);
    yield* this.#language.forward(program, batch, { backward, dropout });
    if (!backward) return;
    yield* this.#language.backward(program, batch, dropout);
    if (tower) this.#vision!.backward(program, tower, dropout);
  }

  /** Pictures that come as pixels, because the tower trains. */
  #towerBatch(examples: readonly TrainExample[], keep: (s: Slice) => Slice): VisionBatch | undefined {
    const images = examples.flatMap((example) => example.images);
    const pictures = images.flatMap((image) => ("pixels" in image ? [image] : []));
    if (this.#vision ? pictures.length < images.length : pictures.length > 0) {
      throw new TabTuneError(
        "BadInput",
        this.#vision
          ? "The vision tower trains, so pictures must come as pixels; found finished features."
          : "The vision tower is frozen, so pictures must come as finished features; found pixels.",
      );
    }
    if (!this.#vision || pictures.length === 0) return undefined;
    const patches = pictures.reduce((sum, { grid: [t, h, w] }) => sum + t * h * w, 0);
    if (patches > this.#vision.maxPatches) {
      throw new TabTuneError(
        "BadInput",
        `The micro-batch's pictures have ${patches} patches and memory was planned for ${this.#vision.maxPatches}. Lower the batch size or the pictures' size.`,
      );
    }
    return this.#vision.upload(pictures, keep);
  }

  #upload(
    examples: readonly TrainExample[],
    packed: PackedBatch,
    weight: number,
    keep: (s: Slice) => Slice,
  ): LanguageBatch {
    const gpu = this.#gpu;
    const to = this.#inputs;
    const tokens = packed.ids.length;
    const trained = packed.trained.length;
    gpu.write(to.ids, packed.ids);
    gpu.write(to.positions, packed.positions);
    gpu.write(to.ranges, packed.ranges);
    gpu.write(to.keyRanges, packed.keyRanges);
    gpu.write(to.trainedAt, packed.trained);
    gpu.write(to.labels, packed.labels);
    gpu.write(to.weights, new Float32Array(trained).fill(weight));
    let first = 0;
    const images = examples.flatMap((example) => example.images);
    const pictures = images.map((image, i): PlacedPicture => {
      const rows = packed.pictures[i]!.length;
      const at = keep(gpu.upload("training activations", "picture rows", packed.pictures[i]!));
      if ("features" in image) return { features: image.features.features, first: 0, at, rows };
      const { features, gradients } = this.#vision!;
      first += rows;
      return { features, gradients, first: first - rows, at, rows };
    });
    const pairs = examples.reduce((sum, { ids }) => sum + ids.length ** 2 / 2, 0);
    return { ...to, tokens, seen: pairs / tokens, pictures, trained };
  }

  free(): void {
    this.#language.free();
    this.#vision?.free();
    for (const slice of this.#owned) this.#gpu.free(slice);
    this.#owned = [];
  }
}
