import type { Engine } from "../../engine/index.ts";
import { GpuAdapter } from "../../models/index.ts";
import { type Adapter, scaleOf } from "./adapter.ts";
import { probeLogits, relativeDifference } from "./probe.ts";

/** Copies an adapter to the GPU, ready to be worn. Throws `BadInput` for layers that the model does not have, `OutOfMemory`. */
async function upload({ gpu, config }: Engine, { pairs, rslora }: Adapter): Promise<GpuAdapter> {
  const adapted = pairs.map((pair) => ({ path: pair.module, r: pair.r, scale: scaleOf(pair, rslora) }));
  const adapter = await GpuAdapter.create(gpu, config, adapted);
  try {
    const values = new Map(pairs.map(({ module, a, b }) => [module, { A: a, B: b }]));
    for (const tensor of adapter.tensors) {
      const [, module, factor] = /^(.+)\.lora_([AB])\.weight$/.exec(tensor.name)!;
      adapter.write(tensor, values.get(module!)![factor as "A" | "B"]);
    }
    return adapter;
  } catch (error) {
    adapter.free();
    throw error;
  }
}

interface Loaded {
  adapter: GpuAdapter;
  changesTower: boolean;
}

/** Adapters that lie on the GPU beside a loaded model. Switching between them moves no weights. */
export class LoadedAdapters {
  #engine: Engine;
  #load: (id: string) => Promise<Adapter>;
  #loaded = new Map<string, Loaded>();
  #worn: string | undefined;

  /** @param load reads a stored adapter that is not on the GPU yet */
  constructor(engine: Engine, load: (id: string) => Promise<Adapter>) {
    this.#engine = engine;
    this.#load = load;
  }

  get worn(): string | undefined {
    return this.#worn;
  }

  /**
   * Puts an adapter on, or takes off what is on. Throws what loading throws, `BadInput` and `OutOfMemory`; nothing has changed then.
   */
  async wear(id: string | undefined): Promise<void> {
    if (id === this.#worn) return;
    const { model, session } = this.#engine;
    const before = this.#worn === undefined ? undefined : this.#loaded.get(this.#worn);
    let next: Loaded | undefined;
    if (id !== undefined) {
      next = this.#loaded.get(id);
      if (!next) {
        const adapter = await this.#load(id);
        const changesTower = adapter.pairs.some(({ module }) => module.startsWith("model.visual."));
        next = { adapter: await upload(this.#engine, adapter), changesTower };
        this.#loaded.set(id, next);
      }
    }
    // What the cache holds was computed with the one before.
    session.reset({ pictures: (before?.changesTower ?? false) || (next?.changesTower ?? false) });
    this.#worn = undefined;
    await model.wear(next?.adapter);
    this.#worn = id;
  }

  /**
   * Answers a fixed question with both and compares the logits of all its tokens; what was worn is worn again afterwards.
   * Throws `BadInput` for layers that the model does not have, `OutOfMemory`, `Cancelled`.
   */
  async compare(live: Adapter, again: Adapter, signal?: AbortSignal): Promise<{ tokens: number; difference: number }> {
    const worn = this.#worn;
    await this.wear(undefined);
    const logitsOf = async (adapter: Adapter) => {
      const made = await upload(this.#engine, adapter);
      try {
        await this.#engine.model.wear(made);
        return await probeLogits(this.#engine, signal);
      } finally {
        await this.#engine.model.wear(undefined);
        made.free();
      }
    };
    try {
      const wanted = await logitsOf(live);
      const found = await logitsOf(again);
      const tokens = wanted.length / this.#engine.config.text.vocabSize;
      return { tokens, difference: relativeDifference(found, wanted) };
    } finally {
      this.#engine.session.reset({ pictures: true });
      await this.wear(worn);
    }
  }

  /** Frees one that is deleted. */
  async drop(id: string): Promise<void> {
    const loaded = this.#loaded.get(id);
    if (!loaded) return;
    if (this.#worn === id) await this.wear(undefined);
    this.#loaded.delete(id);
    loaded.adapter.free();
  }

  free(): void {
    for (const { adapter } of this.#loaded.values()) adapter.free();
    this.#loaded.clear();
    this.#worn = undefined;
  }
}
