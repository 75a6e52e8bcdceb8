import { TabTuneError, throwIfCancelled } from "../../errors.ts";
import type { LoraTraining, TrainImage } from "../../models/index.ts";
import {
  type EvaluationRecord,
  isBetter,
  type Scores,
  type StepRecord,
  type TrainSettings,
} from "../../training_records.ts";
import { learningRateAt } from "../schedule.ts";
import { TrainingOrder, tokenWeight } from "../tokens/order.ts";
import type { Example } from "../tokens/row_tokenizer.ts";

/** What must survive a closed tab besides the buffers. */
export interface TrainerState {
  step: number;
  /** The best scores so far: those of the adapter that is kept, or of step 0, the base model's own. */
  best?: Scores;
  /** Evaluations since the best one. */
  withoutProgress: number;
}

export interface TrainerOptions {
  model: Pick<LoraTraining, "accumulate">;
  /**
   * Clips the gradients that have added up, steps, and zeroes them. Resolves with their norm before clipping; where it is not
   * finite, nothing was changed.
   */
  step(learningRate: number): Promise<number>;
  settings: TrainSettings;
  /** Steps of the whole run. */
  steps: number;
  examples: readonly Example[];
  /** The pictures of some examples, in order; valid until the next call. */
  images(examples: readonly Example[], signal?: AbortSignal): Promise<TrainImage[][]>;
  /** Looks at the rows held back; absent where there are none. */
  evaluate?: (step: number, signal?: AbortSignal) => Promise<EvaluationRecord>;
  /** Keeps everything needed to go on from here. */
  checkpoint(state: TrainerState): Promise<void>;
  /** Keeps the adapter as it is now: the best so far; where nothing is evaluated, or no step has beaten the base, the last. */
  keepAdapter(step: number): Promise<void>;
  onStep(record: StepRecord): void;
  onEvaluation(record: EvaluationRecord): void;
  /** Evaluations without progress after which the run ends; 0 never ends it early. */
  patience: number;
}

export type RunEnd = "finished" | "stopped early" | "paused" | "stopped";

/**
 * The loop of a run: which rows, at what rate, when to evaluate and when to keep a checkpoint. Equal settings, data, model and device
 * give equal losses, also when the run was interrupted: a step depends on its number and the restored buffers alone.
 */
export class Trainer {
  state: TrainerState;
  #o: TrainerOptions;
  #order: TrainingOrder;
  #wish: "paused" | "stopped" | undefined;
  #checkpointSoon = false;

  constructor(options: TrainerOptions, state: TrainerState = { step: 0, withoutProgress: 0 }) {
    this.#o = options;
    this.state = state;
    const { batchSize, accumulation, seed } = options.settings;
    this.#order = new TrainingOrder({ examples: options.examples.length, batchSize, accumulation, seed });
  }

  /** Ends the run after the step under way; a checkpoint is kept first. */
  end(how: "paused" | "stopped"): void {
    this.#wish = how;
  }

  /** Keeps a checkpoint after the step under way, for a page that is being hidden. */
  checkpointSoon(): void {
    this.#checkpointSoon = true;
  }

  /**
   * Trains until the last step, an end that was asked for, or no more progress.
   * Throws `BadInput` when the numbers blow up, `Cancelled`, `OutOfMemory`, `DeviceLost`; the last checkpoint is then what is left.
   */
  async run(signal?: AbortSignal): Promise<RunEnd> {
    const { steps, settings, patience } = this.#o;
    this.#wish = undefined;
    if (this.state.step === 0 && !this.state.best) await this.#evaluate(signal);
    while (this.state.step < steps) {
      this.#o.onStep(await this.#step(this.state.step, signal));
      this.state = { ...this.state, step: this.state.step + 1 };
      const { step } = this.state;
      const isLast = step === steps;
      if (isLast || step % settings.evaluateEvery === 0) await this.#evaluate(signal);
      const isStuck = patience > 0 && this.state.withoutProgress >= patience;
      const ends = isLast || isStuck || this.#wish !== undefined;
      if (ends || this.#checkpointSoon || step % settings.saveEvery === 0) {
        this.#checkpointSoon = false;
        // A run that is over leaves an adapter, also where the base answers better: what was learnt is the visitor's to look at.
        const isOver = isLast || isStuck || this.#wish === "stopped";
        if (!this.#o.evaluate || (isOver && !this.state.best?.step)) await this.#o.keepAdapter(step);
        await this.#o.checkpoint(this.state);
      }
      if (isLast) break;
      if (this.#wish) return this.#wish;
      if (isStuck) return "stopped early";
    }
    return "finished";
  }

  async #step(k: number, signal?: AbortSignal): Promise<StepRecord> {
    const { model, settings, examples, steps } = this.#o;
    const started = performance.now();
    const plan = this.#order.step(k);
    const weight = tokenWeight(plan, (i) => examples[i]!.trained);
    let loss = 0;
    let tokens = 0;
    let trainedTokens = 0;
    for (const [m, indices] of plan.microBatches.entries()) {
      throwIfCancelled(signal);
      const batch = indices.map((i) => examples[i]!);
      const images = await this.#o.images(batch, signal);
      const result = await model.accumulate(
        batch.map(({ ids, labels }, i) => ({ ids, labels, images: images[i]! })),
        { weight, seed: microBatchSeed(settings.seed, k, m), ...(signal ? { signal } : {}) },
      );
      loss += result.loss;
      trainedTokens += result.tokens;
      for (const { ids } of batch) tokens += ids.length;
    }
    loss *= weight;
    const learningRate = learningRateAt(k, { ...settings, kind: settings.schedule, steps });
    const gradientNorm = await this.#o.step(learningRate);
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      throw new TabTuneError(
        "BadInput",
        `The training blew up at step ${k + 1}: loss ${loss}, gradient norm ${gradientNorm}; expected finite numbers. Go on from the last checkpoint with a lower learning rate (it was ${learningRate.toPrecision(2)})${this.state.best?.step ? ", or use the best adapter, which was kept" : ""}.`,
      );
    }
    const milliseconds = performance.now() - started;
    return { step: k + 1, epoch: plan.epoch, loss, learningRate, gradientNorm, tokens, trainedTokens, milliseconds };
  }

  async #evaluate(signal?: AbortSignal): Promise<void> {
    const { step } = this.state;
    const record = await this.#o.evaluate?.(step, signal);
    if (!record) return;
    const { loss, relaxed } = record;
    if (isBetter(record, this.state.best)) {
      // Before the first step it changes nothing: a bar for the others, no adapter to keep.
      if (step > 0) await this.#o.keepAdapter(step);
      this.state = { ...this.state, best: { step, loss, relaxed }, withoutProgress: 0 };
    } else this.state = { ...this.state, withoutProgress: this.state.withoutProgress + 1 };
    this.#o.onEvaluation(record);
  }
}

/** Dropout's random state of a micro-batch: another one for every step and every micro-batch of it. */
function microBatchSeed(seed: number, step: number, microBatch: number): number {
  let mix = (seed ^ (Math.floor(seed / 2 ** 32) * 0x9e3779b1)) >>> 0;
  for (const value of [step, microBatch]) mix = (Math.imul(mix ^ value, 0x85ebca6b) ^ (mix >>> 15)) >>> 0;
  return mix;
}
