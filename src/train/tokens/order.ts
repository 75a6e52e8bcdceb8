import { shuffled } from "../random.ts";

export interface OrderSettings {
  /** How many examples there are. */
  examples: number;
  /** Examples that are in memory at once, 1 to 8. */
  batchSize: number;
  /** Micro-batches whose gradients make one step. */
  accumulation: number;
  seed: number;
}

/** The examples of one optimizer step, by index. */
export interface StepPlan {
  epoch: number;
  microBatches: number[][];
}

/**
 * Which examples a step learns from. Every epoch has an order of its own that seed and epoch decide; its last step takes what is left.
 * A step's plan depends on its number alone, so a run that goes on at step k sees what it would have seen.
 */
export class TrainingOrder {
  readonly stepsPerEpoch: number;
  #settings: OrderSettings;
  /** The order of the epoch that was asked for last. */
  #order: { epoch: number; indices: number[] } | undefined;

  constructor(settings: OrderSettings) {
    this.#settings = settings;
    this.stepsPerEpoch = Math.ceil(settings.examples / (settings.batchSize * settings.accumulation));
  }

  step(k: number): StepPlan {
    const { examples, batchSize, accumulation, seed } = this.#settings;
    const epoch = Math.floor(k / this.stepsPerEpoch);
    if (this.#order?.epoch !== epoch) this.#order = { epoch, indices: shuffled(examples, seed, epoch) };
    const perStep = batchSize * accumulation;
    const first = (k % this.stepsPerEpoch) * perStep;
    const taken = this.#order.indices.slice(first, first + perStep);
    const microBatches: number[][] = [];
    for (let at = 0; at < taken.length; at += batchSize) microBatches.push(taken.slice(at, at + batchSize));
    return { epoch, microBatches };
  }
}

/**
 * The weight of every trained token's loss in a step's gradient, 1 / N with N = trained tokens of all its micro-batches: long and
 * short micro-batches then count by their tokens. Source: qwen3-vl.md §9.5 (the form of Unsloth; plain transformers weighs
 * each micro-batch alike for this model).
 */
export function tokenWeight(step: StepPlan, trainedTokens: (example: number) => number): number {
  const all = step.microBatches.flat().reduce((sum, example) => sum + trainedTokens(example), 0);
  return all > 0 ? 1 / all : 0;
}
