import { TabTuneError } from "../errors.ts";
import type { ModelManifest } from "../formats/index.ts";
import type { Gpu } from "../gpu/index.ts";
import { type CacheType, quickCheck } from "../kernels/index.ts";
import { GpuWeights, maxPatches, parseConfig, type Qwen3VL, type Qwen3VLConfig } from "../models/index.ts";
import { ChatFormat } from "./chat_format.ts";
import { fitCache } from "./fit_cache.ts";
import type { LoadedShard } from "./import_types.ts";
import { longestContext, planMemory } from "./memory.ts";
import { Session } from "./session.ts";
import { prepareTuning, tune } from "./tune.ts";

export interface EngineOptions {
  /** Tokens that the KV cache holds; 8,192 or the checkpoint's own limit when absent. */
  contextLength?: number;
  /** How the cache is kept; in 8 bits from 4,096 tokens of context on and in f16 below when absent. */
  cacheType?: CacheType;
  /** What `tuningKey` has stored for this device; what is missing is measured. */
  choices?: Readonly<Record<string, number>>;
  signal?: AbortSignal;
  /** Bytes of weights on the GPU so far. */
  onProgress?: (bytesDone: number, bytesTotal: number) => void;
}

/** Where the time of a load went, in milliseconds. */
export interface LoadTimes {
  /** The short self-test, compiling included. */
  check: number;
  /** Waiting for shards that were being read and hashed. */
  read: number;
  /** Waiting for the device to take them. */
  upload: number;
  /** Finding out what suits the device, unless that is known. */
  tune: number;
}

/** A loaded model: memory planned first, allocated second, then filled from stored shards. Knows nothing of workers or pages. */
export class Engine {
  readonly gpu: Gpu;
  readonly config: Qwen3VLConfig;
  readonly chat: ChatFormat;
  readonly session: Session;
  readonly model: Qwen3VL;
  readonly capacity: number;
  readonly maxContext: number;
  /** Largest picture, in pixels, that the vision tower can encode on this device. */
  readonly maxPixels: number;
  readonly notes: string[];
  readonly loadTimes: LoadTimes;

  private constructor(
    gpu: Gpu,
    model: Qwen3VL,
    chat: ChatFormat,
    limits: { capacity: number; maxContext: number; maxPixels: number; notes: string[]; loadTimes: LoadTimes },
  ) {
    this.gpu = gpu;
    this.model = model;
    this.config = model.config;
    this.chat = chat;
    this.session = new Session(gpu, model);
    this.capacity = limits.capacity;
    this.maxContext = limits.maxContext;
    this.maxPixels = limits.maxPixels;
    this.notes = limits.notes;
    this.loadTimes = limits.loadTimes;
  }

  /**
   * Loads a model: checks the device's kernels, plans the memory, streams the shards to the GPU.
   * The context is halved until its cache fits, and a note says so.
   * Throws `BadCheckpoint`, `DamagedShard`, `OutOfMemory`, `Cancelled`, `DeviceLost`.
   */
  static async load(
    gpu: Gpu,
    manifest: ModelManifest,
    shards: AsyncIterable<LoadedShard>,
    options: EngineOptions = {},
  ): Promise<Engine> {
    const config = parseConfig(manifest.config);
    const chat = ChatFormat.from(manifest.texts, config);
    const loadTimes: LoadTimes = { check: 0, read: 0, upload: 0, tune: 0 };
    let last = performance.now();
    const lap = (part: keyof LoadTimes) => {
      const now = performance.now();
      loadTimes[part] += now - last;
      last = now;
    };
    const { notes: found, failures } = await quickCheck(gpu);
    const notes = [...found];
    if (failures.length > 0) {
      const list = failures.map((f) => `${f.kernel} ${f.shape}`).join("; ");
      throw new TabTuneError(
        "NoWebGPU",
        `This device computes wrongly, so no answer could be trusted (${list}). Update the graphics driver or try another browser; the self-test page has the details.`,
      );
    }
    lap("check");
    let plan = planMemory(gpu, config, options);
    const weights = await GpuWeights.allocate(gpu, manifest.slots);
    try {
      prepareTuning(gpu, config, weights, options.choices);
      let done = 0;
      let taken: Promise<unknown> = Promise.resolve();
      for await (const { bytes, chunks } of shards) {
        lap("read");
        for (const chunk of chunks) weights.write(chunk, bytes);
        done += bytes.byteLength;
        // Frees the shard now: the collector sees a small object and lets a gigabyte of them pile up.
        bytes.buffer.transfer(0);
        // writeBuffer copies into staging memory: wait, so that no more than two shards wait there.
        await taken;
        taken = gpu.guard(gpu.device.queue.onSubmittedWorkDone());
        taken.catch(() => undefined); // It is awaited one turn later.
        lap("upload");
        options.onProgress?.(done, manifest.bytesTotal);
      }
      await taken;
      lap("upload");
      await tune(gpu, config, weights, options.signal);
      lap("tune");
      const { model, used } = await fitCache(gpu, config, weights, plan);
      const asked = options.contextLength ?? plan.capacity;
      if (used.capacity < asked) {
        const why =
          used.capacity < plan.capacity
            ? `the cache for ${plan.capacity}, with room for pictures, did not fit this GPU's memory`
            : plan.capacity < config.text.maxPositionEmbeddings
              ? "this device binds no larger buffers"
              : "the model knows no more positions";
        notes.push(`The context is ${used.capacity} tokens, not ${asked}: ${why}.`);
      }
      plan = used;
      const { patchSize } = config.vision;
      // Recorded now, so that they are compiled while the visitor types.
      model.language.decodeProgram(1);
      model.language.sampleProgram();
      return new Engine(gpu, model, chat, {
        capacity: plan.capacity,
        maxContext: longestContext(gpu, config, options.cacheType),
        maxPixels: maxPatches(gpu, config) * patchSize ** 2,
        notes,
        loadTimes,
      });
    } catch (error) {
      weights.free();
      throw error;
    }
  }

  free(): void {
    this.session.free();
    this.model.free();
  }
}
