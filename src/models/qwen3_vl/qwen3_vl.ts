import type { Gpu, Slice } from "../../gpu/index.ts";
import type { Qwen3VLConfig } from "./config.ts";
import type { GpuAdapter } from "./gpu_adapter.ts";
import { LanguageModel, type LanguageOptions } from "./language.ts";
import { VisionTower } from "./vision.ts";
import type { Grid } from "./vision_inputs.ts";
import type { GpuWeights } from "./weights.ts";

/** Tokens of chunks that are compiled ahead: which shader is best depends on their number. */
const PREFILLS = [256, 512];
/** Of 448 × 448 pixels. */
const PICTURE: Grid = [1, 28, 28];

export interface ModelOptions extends LanguageOptions {
  /** Bytes that memory was planned to have for encoding a picture: up to so many stay allocated between two of them. */
  visionBytes?: number;
}

/** A Qwen3-VL on the GPU: the tower that sees and the decoder that answers, over the same weights. */
export class Qwen3VL {
  readonly config: Qwen3VLConfig;
  readonly vision: VisionTower;
  readonly language: LanguageModel;
  readonly weights: GpuWeights;
  #gpu: Gpu;
  /** Buffers of the adapter that is on. */
  #worn: Slice[] = [];

  private constructor(
    gpu: Gpu,
    config: Qwen3VLConfig,
    weights: GpuWeights,
    language: LanguageModel,
    visionBytes: number | undefined,
  ) {
    this.#gpu = gpu;
    this.config = config;
    this.vision = new VisionTower(gpu, config, weights, visionBytes);
    this.language = language;
    this.weights = weights;
  }

  /** Takes the weights over. Throws `OutOfMemory` when cache and activations do not fit; the weights are kept then. */
  static async create(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, options: ModelOptions): Promise<Qwen3VL> {
    const language = await LanguageModel.create(gpu, config, weights, options);
    return new Qwen3VL(gpu, config, weights, language, options.visionBytes);
  }

  /**
   * Puts an adapter on for everything that follows, or none: then the base answers, bit for bit. What the KV cache and kept picture
   * features hold was made with the one before; whoever owns them must drop them. Throws `OutOfMemory`; no adapter is on then.
   */
  async wear(adapter: GpuAdapter | undefined): Promise<void> {
    this.weights.detachAdapter();
    this.language.forgetPrograms();
    this.vision.release();
    this.#takeOff();
    if (!adapter) return;
    const rows = Math.max(this.language.maxRows, this.vision.maxRows);
    const scratch = await this.#gpu.allocating("the adapter", () => adapter.scratch("activations", rows, false));
    this.#worn = Object.values(scratch);
    adapter.attach(this.weights, scratch);
  }

  /** Begins to compile what a first answer runs, about a picture of middle size and without one. */
  async compile(): Promise<void> {
    this.language.decodeProgram(1);
    this.language.sampleProgram();
    // A software device would take seconds for what may never be asked.
    if (this.#gpu.isSoftware) return;
    for (const tokens of PREFILLS) await this.language.compilePrefill(Math.min(tokens, this.language.maxRows));
    const { vision } = this.config;
    const pixels = PICTURE[1] * PICTURE[2] * vision.inChannels * vision.temporalPatchSize * vision.patchSize ** 2;
    const { features } = await this.vision.encode(new Float32Array(pixels), PICTURE, { onlyCompile: true });
    for (const slice of features) this.#gpu.free(slice);
    this.vision.release();
  }

  #takeOff(): void {
    for (const slice of this.#worn) this.#gpu.free(slice);
    this.#worn = [];
  }

  free(): void {
    this.#takeOff();
    this.vision.release();
    this.language.free();
    this.weights.free();
  }
}
