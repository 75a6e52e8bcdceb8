import type { Gpu } from "../../gpu/index.ts";
import type { Qwen3VLConfig } from "./config.ts";
import { LanguageModel, type LanguageOptions } from "./language.ts";
import { VisionTower } from "./vision.ts";
import type { GpuWeights } from "./weights.ts";

/** A Qwen3-VL on the GPU: the tower that sees and the decoder that answers, over the same weights. */
export class Qwen3VL {
  readonly config: Qwen3VLConfig;
  readonly vision: VisionTower;
  readonly language: LanguageModel;
  #weights: GpuWeights;

  private constructor(config: Qwen3VLConfig, weights: GpuWeights, vision: VisionTower, language: LanguageModel) {
    this.config = config;
    this.vision = vision;
    this.language = language;
    this.#weights = weights;
  }

  /** Takes the weights over. Throws `OutOfMemory` when cache and activations do not fit; the weights are kept then. */
  static async create(
    gpu: Gpu,
    config: Qwen3VLConfig,
    weights: GpuWeights,
    options: LanguageOptions,
  ): Promise<Qwen3VL> {
    const language = await LanguageModel.create(gpu, config, weights, options);
    return new Qwen3VL(config, weights, new VisionTower(gpu, config, weights), language);
  }

  free(): void {
    this.language.free();
    this.#weights.free();
  }
}
