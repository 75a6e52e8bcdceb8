import { TabTuneError } from "../errors.ts";
import type { Gpu } from "../gpu/index.ts";
import { type CacheType, cacheRowBytes, tileScratchBytes } from "../kernels/index.ts";
import { activationBytes, cacheBytes, maxPatches, type Qwen3VLConfig, VISION_CHUNK } from "../models/index.ts";

/** Tokens of one prefill chunk. */
const MAX_ROWS = 512;
const DEFAULT_CONTEXT = 8192;
const LEAST_CONTEXT = 256;
/** From this context on the cache is kept in 8 bits: that halves its bytes, and what a token reads of them. */
const LONG_CONTEXT = 4096;

export interface MemoryPlan {
  capacity: number;
  maxRows: number;
  cacheType: CacheType;
  cacheBytes: number;
  activationBytes: number;
  /** What encoding one picture of PLANNED_PIXELS needs, its features included. */
  visionBytes: number;
}

/** A picture of this area must fit beside the cache; larger ones are tried when they come. */
const PLANNED_PIXELS = 1280 * 1280;

/** GPU bytes of encoding one square picture of so many patches, as the vision tower allocates them. */
export function visionBytes({ vision }: Qwen3VLConfig, patches: number): number {
  const v = vision.hiddenSize;
  const merge = vision.spatialMergeSize ** 2;
  const pixels = vision.inChannels * vision.temporalPatchSize * vision.patchSize ** 2;
  // Position, segment, corners and weights of the interpolation; the trunk, q, k, v and what attention makes of them.
  const perPatch = pixels + 4 + 2 + 4 + 4 + 5 * v;
  const chunk = Math.min(VISION_CHUNK, patches);
  const perChunkRow = v + Math.max(3 * v, vision.intermediateSize) + v;
  const table = (Math.sqrt(patches) * v) / vision.numHeads;
  const features = ((1 + vision.deepstackVisualIndexes.length) * patches * vision.outHiddenSize) / merge;
  return 4 * Math.ceil(patches * perPatch + chunk * perChunkRow + table + features);
}

/** Longest context whose largest single buffers this device can bind. */
export function longestContext(
  gpu: Pick<Gpu, "maxBytes">,
  { text }: Qwen3VLConfig,
  cacheType: CacheType = "i8",
): number {
  const perToken = Math.max(text.numKeyValueHeads * cacheRowBytes(cacheType, text.headDim), text.headDim * 4);
  return Math.min(text.maxPositionEmbeddings, Math.floor(gpu.maxBytes / perToken / 64) * 64);
}

/** What of a device the sizes depend on. */
export type PlannedDevice = Pick<Gpu, "maxBytes" | "variants">;

/** The sizes of everything beside the weights, before the first allocation. Throws `OutOfMemory` when nothing sensible fits. */
export function planMemory(
  gpu: PlannedDevice,
  config: Qwen3VLConfig,
  wanted: { contextLength?: number; cacheType?: CacheType },
): MemoryPlan {
  const asked = wanted.contextLength ?? DEFAULT_CONTEXT;
  const isLong = Math.min(asked, config.text.maxPositionEmbeddings) >= LONG_CONTEXT;
  const cacheType = wanted.cacheType ?? (isLong ? "i8" : "f16");
  const longest = longestContext(gpu, config, cacheType);
  if (longest < LEAST_CONTEXT) {
    throw new TabTuneError(
      "OutOfMemory",
      `This device binds at most ${gpu.maxBytes} bytes in one buffer, enough for ${longest} tokens of context; ${LEAST_CONTEXT} are needed.`,
    );
  }
  const capacity = Math.max(LEAST_CONTEXT, Math.min(asked, longest));
  const maxRows = Math.min(MAX_ROWS, Math.ceil(capacity / 64) * 64);
  return {
    capacity,
    maxRows,
    cacheType,
    cacheBytes: cacheBytes(config.text, capacity, cacheType),
    activationBytes: activationBytes(config.text, { capacity, maxRows, cacheType }) + tileScratchBytes(gpu),
    visionBytes: visionBytes(config, Math.min(maxPatches(gpu, config), PLANNED_PIXELS / config.vision.patchSize ** 2)),
  };
}
