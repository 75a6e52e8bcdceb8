import type { Gpu, Slice } from "../../gpu/index.ts";

/** Buffers of one half of the model's training: named activations, the inputs of its blocks, and whatever else belongs to it. */
export class TrainingBuffers {
  #gpu: Gpu;
  #owned: Slice[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  make(owner: string, label: string, floats: number): Slice {
    const slice = this.#gpu.storage(owner, label, floats * 4);
    this.#owned.push(slice);
    return slice;
  }

  /** One activation buffer for each entry. @param floats of each */
  activations<K extends string>(floats: Readonly<Record<K, number>>): Record<K, Slice> {
    const entries = Object.entries<number>(floats).map(([name, count]) => {
      return [name, this.make("training activations", name, count)];
    });
    return Object.fromEntries(entries) as Record<K, Slice>;
  }

  /** Inputs of `depth` blocks, and the output of the last. @param floats of each */
  checkpoints(depth: number, floats: number): Slice[] {
    return Array.from({ length: depth + 1 }, (_, i) => {
      return this.make("training checkpoints", i < depth ? `input of block ${i}` : "output of the blocks", floats);
    });
  }

  free(): void {
    for (const slice of this.#owned) this.#gpu.free(slice);
    this.#owned = [];
  }
}

/** Floats of each buffer: its width times `rows`. */
export function sized<K extends string>(widths: Readonly<Record<K, number>>, rows: number): Record<K, number> {
  const entries = Object.entries<number>(widths).map(([name, width]) => [name, width * rows]);
  return Object.fromEntries(entries) as Record<K, number>;
}
