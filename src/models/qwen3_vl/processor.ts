import { TabTuneError } from "../../errors.ts";
import {
  type RgbImage,
  resizeBicubic,
  resizeInTurns,
  roundHalfEven,
  smartResize,
  type Tokenizer,
  toPatches,
} from "../../processor/index.ts";
import type { Qwen3VLConfig } from "./config.ts";
import type { ProcessorConfig } from "./processor_config.ts";

export interface PixelLimits {
  minPixels?: number;
  maxPixels?: number;
}

export interface PreparedImage {
  /** [patches, 3·temporal·patch²] f32. */
  pixels: Float32Array<ArrayBuffer>;
  grid: readonly [number, number, number];
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

/** The same, in turns with the event loop, so that it can be cancelled. Throws `BadImage`, `Cancelled`. */
export async function prepareImageInTurns(
  image: RgbImage,
  processor: ProcessorConfig,
  limits: PixelLimits,
  signal?: AbortSignal,
): Promise<PreparedImage> {
  const { height, width, grid } = imageSize(image.height, image.width, processor, limits);
  return { pixels: toPatches([await resizeInTurns(image, height, width, signal)], processor), grid };
}

/**
 * Resizes frames to a common size and pairs them; an odd last one is repeated. Source: qwen3-vl.md §4.3 and §4.4.
 * Throws `BadImage` for frames of different sizes, `BadInput` for none.
 */
export function prepareVideo(frames: readonly RgbImage[], processor: ProcessorConfig): PreparedImage {
  const [first, n] = [frames[0], frames.length];
  if (!first) throw new TabTuneError("BadInput", "A video needs at least one frame; found none.");
  const other = frames.findIndex(({ width, height }) => width !== first.width || height !== first.height);
  if (other >= 0) {
    const { width, height } = frames[other]!;
    throw new TabTuneError(
      "BadImage",
      `Frame ${other + 1} of the video is ${width} × ${height} pixels; expected ${first.width} × ${first.height} like the first.`,
    );
  }
  const factor = processor.patchSize * processor.mergeSize;
  const T = processor.temporalPatchSize;
  // A side shorter than one token counts as if the frame were enlarged to it.
  const scale = Math.max(1, factor / Math.min(first.width, first.height));
  const budget = { factor, ...processor.video, frames: n, slots: roundHalfEven(n / T) * T };
  const { height, width } = smartResize(first.height * scale, first.width * scale, budget);
  const [gh, gw] = [height / processor.patchSize, width / processor.patchSize];
  const groups = Math.ceil(n / T);
  const features = 3 * T * processor.patchSize ** 2;
  const pixels = new Float32Array(groups * gh * gw * features);
  for (let group = 0; group < groups; group++) {
    const slots = Array.from({ length: T }, (_, k) => frames[Math.min(group * T + k, n - 1)]!);
    const resized = slots.map((frame) => resizeBicubic(frame, height, width));
    pixels.set(toPatches(resized, processor), group * gh * gw * features);
  }
  return { pixels, grid: [groups, gh, gw] };
}

/** Where a picture's tokens went; a video has one run for each temporal group. */
export interface ExpandedImage {
  runs: { start: number; tokens: number }[];
}

/** "%.1f" as C and Python print it: the exact value decides, and an exact half goes to the even digit. */
function oneDecimal(x: number): string {
  // Only odd quarters are exact halves of a tenth; toFixed is exact, but it rounds them up.
  if (Math.abs((x * 4) % 2) !== 1) return x.toFixed(1);
  return (roundHalfEven(x * 10) / 10).toFixed(1);
}

export interface VideoTimes {
  /** Frames per second of the source. */
  fps: number;
  frames: number;
  /** Which frames of the source they are; one after another where absent. */
  indices?: readonly number[];
}

/** When each temporal group of a video is, as the model reads it: "<0.2 seconds>". Source: qwen3-vl.md §4.5. */
function timestamps({ fps, frames, indices }: VideoTimes, groups: number, slots: number): string[] {
  const at = (i: number) => (indices?.[Math.min(i, frames - 1)] ?? Math.min(i, frames - 1)) / fps;
  return Array.from(
    { length: groups },
    (_, g) => `<${oneDecimal((at(g * slots) + at((g + 1) * slots - 1)) / 2)} seconds>`,
  );
}

/**
 * Tokenizes a rendered conversation and repeats each placeholder as often as its picture has tokens.
 * A video's placeholder becomes one timestamped run for each temporal group. Transformers 5 leaves the template's own start and end
 * tokens around them (the default here, since the references are its); the release Qwen3-VL came with, and `wrapVideo: false`, do not.
 * Source: qwen3-vl.md §3.7, §4.6. Throws `BadInput` when pictures and placeholders do not agree.
 * @param grids in patches, in order of appearance
 */
export function expandPrompt(
  rendered: string,
  tokenizer: Tokenizer,
  config: Qwen3VLConfig,
  grids: readonly (readonly [number, number, number])[],
  options: { video?: VideoTimes; wrapVideo?: boolean } = {},
): { ids: number[]; images: ExpandedImage[] } {
  const { video, wrapVideo = true } = options;
  const { spatialMergeSize, temporalPatchSize } = config.vision;
  const ids: number[] = [];
  const images: ExpandedImage[] = [];
  const place = (id: number, tokens: number) => {
    const start = ids.length;
    for (let i = 0; i < tokens; i++) ids.push(id);
    return { start, tokens };
  };
  const source = tokenizer.encode(rendered);
  for (let i = 0; i < source.length; i++) {
    const id = source[i]!;
    if (id !== config.imageTokenId && id !== config.videoTokenId) {
      ids.push(id);
      continue;
    }
    const grid = grids[images.length];
    if (!grid) {
      throw new TabTuneError(
        "BadInput",
        `The text has placeholders for more than the ${grids.length} pictures given. Remove “<|image_pad|>” and “<|video_pad|>” from it.`,
      );
    }
    const tokens = (grid[1] * grid[2]) / spatialMergeSize ** 2;
    if (id === config.imageTokenId) {
      images.push({ runs: [place(id, grid[0] * tokens)] });
      continue;
    }
    const isWrapped = source[i - 1] === config.visionStartTokenId && source[i + 1] === config.visionEndTokenId;
    if (isWrapped && !wrapVideo) {
      ids.pop();
      i++;
    }
    const times = video ?? { fps: temporalPatchSize, frames: temporalPatchSize * grid[0] };
    const runs: ExpandedImage["runs"] = [];
    for (const time of timestamps(times, grid[0], temporalPatchSize)) {
      for (const t of tokenizer.encode(time)) ids.push(t);
      ids.push(config.visionStartTokenId);
      runs.push(place(id, tokens));
      ids.push(config.visionEndTokenId);
    }
    images.push({ runs });
  }
  if (images.length !== grids.length) {
    throw new TabTuneError(
      "BadInput",
      `The conversation shows ${grids.length} pictures but the chat template placed ${images.length}.`,
    );
  }
  return { ids, images };
}
