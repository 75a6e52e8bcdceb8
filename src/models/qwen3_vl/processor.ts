import { TabTuneError } from "../../errors.ts";
import {
  type RgbImage,
  resizeBicubic,
  roundHalfEven,
  smartResize,
  type Tokenizer,
  toPatches,
} from "../../processor/index.ts";
import type { Qwen3VLConfig } from "./config.ts";

/** What preprocessor_config.json or processor_config.json says. Pixel numbers are areas. */
export interface ProcessorConfig {
  patchSize: number;
  temporalPatchSize: number;
  mergeSize: number;
  minPixels: number;
  maxPixels: number;
  mean: readonly number[];
  std: readonly number[];
}

export interface PixelLimits {
  minPixels?: number;
  maxPixels?: number;
}

export interface PreparedImage {
  /** [patches, 3·temporal·patch²] f32. */
  pixels: Float32Array<ArrayBuffer>;
  grid: readonly [number, number, number];
}

function parseJson(texts: Readonly<Record<string, string>>, path: string): Record<string, unknown> | undefined {
  const text = texts[path];
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch (cause) {
    throw new TabTuneError("BadCheckpoint", `${path} is not valid JSON (${String(cause)}).`, { cause });
  }
}

/**
 * Reads either way of writing. Throws `BadCheckpoint` when none is there or it contradicts config.json.
 * @param texts small files of the checkpoint by path
 */
export function parseProcessorConfig(texts: Readonly<Record<string, string>>, config: Qwen3VLConfig): ProcessorConfig {
  const whole = parseJson(texts, "processor_config.json");
  const json =
    parseJson(texts, "preprocessor_config.json") ?? (whole?.image_processor as Record<string, unknown> | undefined);
  if (!json) {
    throw new TabTuneError(
      "BadCheckpoint",
      "The checkpoint says nothing about its pictures: expected preprocessor_config.json or processor_config.json with image_processor.",
    );
  }
  const size = (json.size ?? {}) as { shortest_edge?: unknown; longest_edge?: unknown };
  const number = (value: unknown, what: string): number => {
    if (typeof value === "number" && value > 0 && Number.isFinite(value)) return value;
    throw new TabTuneError(
      "BadCheckpoint",
      `preprocessor config: ${what}: expected a positive number, found ${JSON.stringify(value)}.`,
    );
  };
  const three = (value: unknown, what: string): number[] => {
    if (Array.isArray(value) && value.length === 3 && value.every((v) => typeof v === "number")) return value;
    throw new TabTuneError(
      "BadCheckpoint",
      `preprocessor config: ${what}: expected three numbers, found ${JSON.stringify(value)}.`,
    );
  };
  const { vision } = config;
  const result = {
    patchSize: number(json.patch_size ?? vision.patchSize, "patch_size"),
    temporalPatchSize: number(json.temporal_patch_size ?? vision.temporalPatchSize, "temporal_patch_size"),
    mergeSize: number(json.merge_size ?? vision.spatialMergeSize, "merge_size"),
    minPixels: number(size.shortest_edge ?? json.min_pixels, "size.shortest_edge"),
    maxPixels: number(size.longest_edge ?? json.max_pixels, "size.longest_edge"),
    mean: three(json.image_mean ?? [0.5, 0.5, 0.5], "image_mean"),
    std: three(json.image_std ?? [0.5, 0.5, 0.5], "image_std"),
  };
  if (result.patchSize !== vision.patchSize || result.mergeSize !== vision.spatialMergeSize) {
    throw new TabTuneError(
      "BadCheckpoint",
      `preprocessor config: expected patches of ${vision.patchSize} merged ${vision.spatialMergeSize} × ${vision.spatialMergeSize} as in config.json, found ${result.patchSize} and ${result.mergeSize}.`,
    );
  }
  return result;
}

/** The sampling that the checkpoint's makers recommend, and the ids that end a turn. */
export interface GenerationConfig {
  endTokenIds: number[];
  sampling: { temperature: number; topK: number; topP: number; repetitionPenalty: number };
}

/** @param text generation_config.json, if there is one. */
export function parseGenerationConfig(text: string | undefined): GenerationConfig {
  const json = (text === undefined ? {} : parseJson({ f: text }, "f")) as Record<string, unknown>;
  const eos = json.eos_token_id;
  const endTokenIds = (Array.isArray(eos) ? eos : [eos]).filter((id): id is number => Number.isInteger(id));
  const number = (field: string, fallback: number) =>
    typeof json[field] === "number" ? (json[field] as number) : fallback;
  const sampled = json.do_sample === true;
  return {
    endTokenIds,
    sampling: {
      temperature: sampled ? number("temperature", 1) : 0,
      topK: sampled ? number("top_k", 0) : 0,
      topP: sampled ? number("top_p", 1) : 1,
      repetitionPenalty: number("repetition_penalty", 1),
    },
  };
}

/** The size that the model sees and its cost, from a picture's size alone. */
export function imageSize(height: number, width: number, processor: ProcessorConfig, limits: PixelLimits = {}) {
  const factor = processor.patchSize * processor.mergeSize;
  const maxPixels = Math.max(factor * factor, limits.maxPixels ?? processor.maxPixels);
  const minPixels = Math.min(maxPixels, limits.minPixels ?? processor.minPixels);
  const size = smartResize(height, width, { factor, minPixels, maxPixels });
  const grid = [1, size.height / processor.patchSize, size.width / processor.patchSize] as const;
  return { ...size, grid, tokens: (grid[1] * grid[2]) / processor.mergeSize ** 2 };
}

/** Resizes, normalises and cuts a picture into patches. Throws `BadImage`. */
export function prepareImage(image: RgbImage, processor: ProcessorConfig, limits: PixelLimits = {}): PreparedImage {
  const { height, width, grid } = imageSize(image.height, image.width, processor, limits);
  return { pixels: toPatches([resizeBicubic(image, height, width)], processor), grid };
}

/** Pixel budget of all frames together: qwen3-vl.md §4. */
const VIDEO_MIN_PIXELS = 4096;
const VIDEO_MAX_PIXELS = 25165824;

/** Resizes frames of one size to a common one and pairs them. Source: qwen3-vl.md §4.3 and §4.4. */
export function prepareVideo(frames: readonly RgbImage[], processor: ProcessorConfig): PreparedImage {
  const { height: h, width: w } = frames[0]!;
  const factor = processor.patchSize * processor.mergeSize;
  const T = processor.temporalPatchSize;
  const n = frames.length;
  const rounded = roundHalfEven(n / T) * T;
  let height = roundHalfEven(h / factor) * factor;
  let width = roundHalfEven(w / factor) * factor;
  if (rounded * height * width > VIDEO_MAX_PIXELS) {
    const beta = Math.sqrt((n * h * w) / VIDEO_MAX_PIXELS);
    height = Math.max(factor, Math.floor(h / beta / factor) * factor);
    width = Math.max(factor, Math.floor(w / beta / factor) * factor);
  } else if (rounded * height * width < VIDEO_MIN_PIXELS) {
    const beta = Math.sqrt(VIDEO_MIN_PIXELS / (n * h * w));
    height = Math.ceil((h * beta) / factor) * factor;
    width = Math.ceil((w * beta) / factor) * factor;
  }
  const resized = frames.map((frame) => resizeBicubic(frame, height, width));
  const steps: Float32Array[] = [];
  for (let i = 0; i < n; i += T) {
    const group = Array.from({ length: T }, (_, k) => resized[Math.min(i + k, n - 1)]!);
    steps.push(toPatches(group, processor));
  }
  const pixels = new Float32Array(steps.reduce((sum, s) => sum + s.length, 0));
  let at = 0;
  for (const step of steps) {
    pixels.set(step, at);
    at += step.length;
  }
  return { pixels, grid: [steps.length, height / processor.patchSize, width / processor.patchSize] };
}

/** Where a picture's tokens went; a video has one run for each temporal group. */
export interface ExpandedImage {
  runs: { start: number; tokens: number }[];
}

/** "%.1f" with C's rounding: exact halves go to the even digit. */
export function oneDecimal(x: number): string {
  const scaled = x * 10;
  // x·10 is exact for the halves that matter: timestamps are multiples of 1/4 and the like.
  return (roundHalfEven(scaled) / 10).toFixed(1);
}

/**
 * Tokenizes a rendered conversation and repeats each placeholder as often as its picture has tokens.
 * A video's placeholder becomes one timestamped run for each temporal group, inside the template's own start and end tokens,
 * as transformers 5 writes it. Source: qwen3-vl.md §3.7, §4.6. Throws `BadInput` when pictures and placeholders do not agree.
 */
export function expandPrompt(
  rendered: string,
  tokenizer: Tokenizer,
  config: Qwen3VLConfig,
  grids: readonly (readonly [number, number, number])[],
  options: { video?: { fps: number; frames: number } } = {},
): { ids: number[]; images: ExpandedImage[] } {
  const ids: number[] = [];
  const images: ExpandedImage[] = [];
  const merge = config.vision.spatialMergeSize ** 2;
  for (const id of tokenizer.encode(rendered)) {
    if (id !== config.imageTokenId && id !== config.videoTokenId) {
      ids.push(id);
      continue;
    }
    const grid = grids[images.length];
    if (!grid)
      throw new TabTuneError(
        "BadInput",
        `The text has placeholders for more than the ${grids.length} pictures given. Remove “<|image_pad|>” from it.`,
      );
    const tokens = (grid[1] * grid[2]) / merge;
    const runs: ExpandedImage["runs"] = [];
    for (let group = 0; group < grid[0]; group++) {
      const isVideo = id === config.videoTokenId;
      if (isVideo) {
        const { fps, frames } = options.video ?? { fps: 2, frames: 2 * grid[0] };
        const T = config.vision.temporalPatchSize;
        const [first, last] = [group * T, Math.min(group * T + T - 1, frames - 1)];
        const seconds = oneDecimal((first / fps + last / fps) / 2);
        ids.push(...tokenizer.encode(`<${seconds} seconds>`), config.visionStartTokenId);
      }
      runs.push({ start: ids.length, tokens });
      for (let i = 0; i < tokens; i++) ids.push(id);
      if (isVideo) ids.push(config.visionEndTokenId);
    }
    images.push({ runs });
  }
  if (images.length !== grids.length) {
    throw new TabTuneError(
      "BadInput",
      `The conversation shows ${grids.length} pictures but the template placed ${images.length}.`,
    );
  }
  return { ids, images };
}
