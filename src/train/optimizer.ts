import { TabTuneError } from "../errors.ts";
import { type Gpu, Program, type Slice, storageBytes } from "../gpu/index.ts";
import { adamw, adamw8bit, adamw8bitWords, gradNorm, gradNormPartials } from "../kernels/index.ts";
import type { TrainedBuffer } from "../models/index.ts";

/** AdamW with its moments in f32, or in 8 bits with a scale for each 256 numbers. */
export type OptimizerKind = "adamw" | "adamw8";

/** What a single step is told. Source of the usual numbers: qwen3-vl.md §9.6. */
export interface StepSettings {
  rate: number;
  weightDecay: number;
  /** Gradients longer than this, over all buffers, are shortened to it; 0 for no limit. */
  maxGradNorm: number;
}

export interface StepResult {
  /** L2 norm over all gradients before clipping. */
  norm: number;
  /** The norm was not finite: nothing was changed, and the gradients are gone. */
  skipped: boolean;
}

const BETAS = { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

interface Moments {
  m: Slice;
  v: Slice;
  /** Largest values of each block, in 8 bits only. */
  tops?: Slice;
}

/** Bytes of the moments of one buffer: m, v, and the blocks' largest values. */
function momentBytes(kind: OptimizerKind, count: number): { moment: number; tops: number } {
  if (kind === "adamw") return { moment: 4 * count, tops: 0 };
  return { moment: 4 * adamw8bitWords(count), tops: 8 * Math.ceil(count / 256) };
}

/** GPU bytes of an optimizer for buffers of these sizes. */
export function optimizerBytes(kind: OptimizerKind, counts: readonly number[]): number {
  const moments = counts.reduce((sum, count) => {
    const { moment, tops } = momentBytes(kind, count);
    return sum + 2 * storageBytes(moment) + (tops ? storageBytes(tops) : 0);
  }, 0);
  return moments + storageBytes(4 * gradNormPartials(counts)) + storageBytes(8);
}

/** Takes the gradients of trained buffers, clips them together, and moves the values; all on the GPU, the same bits every time. */
export class Optimizer {
  /** Steps taken so far. */
  steps = 0;
  #gpu: Gpu;
  #kind: OptimizerKind;
  #buffers: readonly TrainedBuffer[];
  #moments: Moments[];
  #partials: Slice;
  #clip: Slice;

  private constructor(gpu: Gpu, kind: OptimizerKind, buffers: readonly TrainedBuffer[]) {
    this.#gpu = gpu;
    this.#kind = kind;
    this.#buffers = buffers;
    const make = (label: string, bytes: number) => gpu.storage("optimizer", label, bytes);
    this.#moments = buffers.map(({ count }) => {
      const { moment, tops } = momentBytes(kind, count);
      const both = { m: make("first moments", moment), v: make("second moments", moment) };
      return tops ? { ...both, tops: make("largest moments", tops) } : both;
    });
    this.#partials = make("partial norms", 4 * gradNormPartials(buffers.map(({ count }) => count)));
    this.#clip = make("norm", 8);
  }

  /** Throws `OutOfMemory`. */
  static async create(gpu: Gpu, kind: OptimizerKind, buffers: readonly TrainedBuffer[]): Promise<Optimizer> {
    return await gpu.allocating("the optimizer", () => new Optimizer(gpu, kind, buffers));
  }

  /** One update from the gradients that have added up, which are zero afterwards. Throws `DeviceLost`. */
  async step({ rate, weightDecay, maxGradNorm }: StepSettings): Promise<StepResult> {
    const program = new Program(this.#gpu, "optimizer");
    try {
      const gradients = this.#buffers.map(({ gradients: slice, count }) => ({ slice, count }));
      gradNorm(program, { gradients, partials: this.#partials, clip: this.#clip, limit: maxGradNorm });
      this.#buffers.forEach(({ values: value, gradients: gradient, count }, i) => {
        const { m, v, tops } = this.#moments[i]!;
        const step = {
          ...BETAS,
          rate,
          weightDecay,
          step: this.steps + 1,
          value,
          gradient,
          count,
          clip: this.#clip,
          m,
          v,
        };
        // A seed for each buffer and step: rounding must not be the same in two places.
        if (tops) adamw8bit(program, { ...step, tops, seed: (this.steps * this.#buffers.length + i) >>> 0 });
        else adamw(program, step);
      });
      await program.seal().run();
    } finally {
      program.free();
    }
    const [norm] = await this.#gpu.readFloats(this.#clip, 1);
    const skipped = !Number.isFinite(norm);
    if (!skipped) this.steps++;
    return { norm: norm!, skipped };
  }

  /** Everything that the next step depends on, besides values and gradients. */
  async save(): Promise<{ kind: OptimizerKind; steps: number; moments: ArrayBuffer[] }> {
    const moments: ArrayBuffer[] = [];
    for (const slice of this.#slices()) moments.push(await this.#gpu.read(slice));
    return { kind: this.#kind, steps: this.steps, moments };
  }

  /** Throws `BadInput` when the state is of another optimizer or of other buffers; nothing is changed then. */
  restore(state: { kind: OptimizerKind; steps: number; moments: readonly ArrayBuffer[] }): void {
    const slices = this.#slices();
    const sizes = slices.map(({ size }) => size);
    if (
      state.kind !== this.#kind ||
      state.moments.length !== slices.length ||
      state.moments.some(({ byteLength }, i) => byteLength !== sizes[i])
    ) {
      throw new TabTuneError(
        "BadInput",
        `The saved optimizer (${state.kind}, ${state.moments.length} arrays) does not fit this run (${this.#kind}, ${slices.length} arrays). It belongs to a run with other settings.`,
      );
    }
    slices.forEach((slice, i) => {
      this.#gpu.write(slice, new Uint8Array(state.moments[i]!));
    });
    this.steps = state.steps;
  }

  #slices(): Slice[] {
    return this.#moments.flatMap(({ m, v, tops }) => (tops ? [m, v, tops] : [m, v]));
  }

  free(): void {
    for (const slice of [...this.#slices(), this.#partials, this.#clip]) this.#gpu.free(slice);
  }
}
