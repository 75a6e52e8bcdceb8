import type { Gpu, Program, Slice } from "../../gpu/index.ts";
import type { VisionConfig } from "./config.ts";
import type { Grid } from "./vision_inputs.ts";

/** Patches whose QKV and MLP rows are in memory at one time. A multiple of 64 and of 4. */
export const VISION_CHUNK = 1024;

/** The tower's way over pictures of one size. */
export interface VisionPass {
  program: Program;
  /** Tables that it reads. */
  owned: Slice[];
  /** Where it writes. */
  features: readonly Slice[];
}

/** Sizes of pictures whose passes stay recorded: each takes some 100 kB, and recording again a few milliseconds. */
const MOST_PASSES = 4;

/** What the tower computes in, for pictures of up to `patches` patches, with the passes that were recorded over it. */
export class VisionWorkspace {
  readonly patches: number;
  #gpu: Gpu;
  #vision: VisionConfig;
  #buffers: Record<"pixels" | "x" | "q" | "k" | "v" | "att" | "n" | "wide" | "merged", Slice> | undefined;
  #owned: Slice[] = [];
  /** Least recently used first. */
  #passes = new Map<string, VisionPass>();

  constructor(gpu: Gpu, vision: VisionConfig, patches: number) {
    this.#gpu = gpu;
    this.#vision = vision;
    this.patches = patches;
  }

  get bytes(): number {
    return this.#owned.reduce((sum, { size }) => sum + size, 0);
  }

  /** Allocated when they are first asked for, inside `Gpu.allocating`. */
  get buffers() {
    this.#buffers ??= this.#allocate();
    return this.#buffers;
  }

  #allocate() {
    const { hiddenSize: v, intermediateSize, inChannels, temporalPatchSize, patchSize } = this.#vision;
    const { patches } = this;
    const chunk = Math.min(VISION_CHUNK, patches);
    const make = (label: string, floats: number) => {
      const slice = this.#gpu.storage("vision workspace", label, floats * 4);
      this.#owned.push(slice);
      return slice;
    };
    return {
      pixels: make("pixels", patches * inChannels * temporalPatchSize * patchSize ** 2),
      x: make("trunk", patches * v),
      q: make("q", patches * v),
      k: make("k", patches * v),
      v: make("v", patches * v),
      att: make("attention", patches * v),
      n: make("normed", chunk * v),
      wide: make("qkv and mlp", chunk * Math.max(3 * v, intermediateSize)),
      merged: make("merger", chunk * v),
    };
  }

  find(grid: Grid): VisionPass | undefined {
    const key = String(grid);
    const pass = this.#passes.get(key);
    if (pass) {
      this.#passes.delete(key);
      this.#passes.set(key, pass);
    }
    return pass;
  }

  keep(grid: Grid, pass: VisionPass): void {
    this.#passes.set(String(grid), pass);
    if (this.#passes.size <= MOST_PASSES) return;
    const [oldest, dropped] = [...this.#passes][0]!;
    this.#passes.delete(oldest);
    this.drop(dropped);
  }

  drop({ program, owned }: VisionPass): void {
    program.free();
    for (const slice of owned) this.#gpu.free(slice);
  }

  free(): void {
    for (const pass of this.#passes.values()) this.drop(pass);
    this.#passes.clear();
    for (const slice of this.#owned) this.#gpu.free(slice);
    this.#owned = [];
    this.#buffers = undefined;
  }
}
