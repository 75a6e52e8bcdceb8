import { TabTuneError } from "../errors.ts";
import type { ModelManifest } from "../formats/index.ts";
import { type Gpu, storageBytes, Uploads } from "../gpu/index.ts";
import { type CacheType, quickCheck } from "../kernels/index.ts";
import { GpuWeights, maxPatches, parseConfig, type Qwen3VL, type Qwen3VLConfig } from "../models/index.ts";
import type { ChatFormat } from "./chat_format.ts";
import { fitCache } from "./fit_cache.ts";
import { longestContext, planMemory } from "./memory.ts";
import type { LoadedShard } from "./read_shards.ts";
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

/** Where the time of a load went, in milliseconds. What ran beside something else counts for as long as it was waited for. */
export interface LoadTimes {
  allocate: number;
  /** Waiting for shards that were being read and hashed. */
  read: number;
  /** Waiting for the device to take them. */
  upload: number;
  /** Waiting for the short self-test, compiling included. */
  check: number;
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
   * Loads a model: plans the memory, then streams the shards to the GPU while the device's kernels are checked and compiled.
   * The context is halved until its cache fits, and a note says so.
   * Throws `BadCheckpoint`, `DamagedShard`, `OutOfMemory`, `Cancelled`, `DeviceLost`, and `NoWebGPU` for a device that computes wrongly.
   */
  static async load(
    gpu: Gpu,
    manifest: ModelManifest,
    chat: ChatFormat,
    shards: AsyncIterable<LoadedShard>,
    options: EngineOptions = {},
  ): Promise<Engine> {
    const config = parseConfig(manifest.config);
    const loadTimes: LoadTimes = { allocate: 0, read: 0, upload: 0, check: 0, tune: 0 };
    let last = performance.now();
    const lap = (part: keyof LoadTimes) => {
      const now = performance.now();
      loadTimes[part] += now - last;
      last = now;
    };
    const plan = planMemory(gpu, config, options);
    const weights = await GpuWeights.allocate(gpu, manifest.slots);
    const uploads = new Uploads(gpu, storageBytes(Math.max(...manifest.shards.map(({ bytes }) => bytes))));
    let model: Qwen3VL | undefined;
    let failed = false;
    try {
      const fitted = await fitCache(gpu, config, weights, plan);
      const { used } = fitted;
      model = fitted.model;
      lap("allocate");
      const prepared = checkDevice(gpu).then(async (notes) => {
        const isOpen = !failed && prepareTuning(gpu, config, weights, options.choices);
        if (!failed && !isOpen) await fitted.model.compile();
        return { notes, isOpen };
      });
      prepared.catch(() => undefined); // It is awaited below.
      let done = 0;
      for await (const { bytes, chunks } of shards) {
        lap("read");
        const size = bytes.byteLength;
        await uploads.send(
          bytes,
          chunks.flatMap((chunk) => weights.destinations(chunk)),
        );
        // Frees the shard now: the collector sees a small object and lets a gigabyte of them pile up.
        bytes.buffer.transfer(0);
        done += size;
        lap("upload");
        options.onProgress?.(done, manifest.bytesTotal);
      }
      await uploads.finish();
      lap("upload");
      const { notes, isOpen } = await prepared;
      await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
      lap("check");
      if (isOpen) {
        await tune(gpu, config, weights, options.signal);
        await model.compile();
      }
      lap("tune");
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
      const { patchSize } = config.vision;
      return new Engine(gpu, model, chat, {
        capacity: used.capacity,
        maxContext: longestContext(gpu, config, options.cacheType),
        maxPixels: maxPatches(gpu, config) * patchSize ** 2,
        notes,
        loadTimes,
      });
    } catch (error) {
      failed = true;
      if (model) model.free();
      else weights.free();
      throw error;
    } finally {
      uploads.free();
    }
  }

  free(): void {
    this.session.free();
    this.model.free();
  }
}

/** The short self-test's notes for the visitor. Throws `NoWebGPU` when no answer of this device could be trusted. */
async function checkDevice(gpu: Gpu): Promise<string[]> {
  const { notes, failures } = await quickCheck(gpu);
  if (failures.length === 0) return [...notes];
  const list = failures.map((f) => `${f.kernel} ${f.shape}`).join("; ");
  throw new TabTuneError(
    "NoWebGPU",
    `This device computes wrongly, so no answer could be trusted (${list}). Update the graphics driver or try another browser; the self-test page has the details.`,
  );
}
