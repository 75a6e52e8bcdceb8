import { TabTuneError, throwIfCancelled } from "../errors.ts";

/** 8-bit RGB, row-major [height, width, 3]. */
export interface RgbImage {
  rgb: Uint8Array<ArrayBuffer>;
  width: number;
  height: number;
}

/** Rounds halves to the even neighbour, as Python and numpy do. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

export interface PixelBudget {
  /** Sides become multiples of this. */
  factor: number;
  /** Bounds on height × width, of all frames together. */
  minPixels: number;
  maxPixels: number;
  /** Of a video: how many frames there are, and how many the tower sees when they are paired. */
  frames?: number;
  slots?: number;
}

/**
 * The size that a picture is resized to: multiples of `factor`, inside the pixel budget, aspect kept as well as that allows.
 * Source: qwen3-vl.md §3.2 and §4.3, all in float64. Throws `BadImage` for an aspect ratio over 200.
 */
export function smartResize(height: number, width: number, budget: PixelBudget): { height: number; width: number } {
  const { factor, minPixels, maxPixels, frames = 1, slots = frames } = budget;
  if (Math.max(height, width) / Math.min(height, width) > 200) {
    throw new TabTuneError(
      "BadImage",
      `A picture of ${width} × ${height} pixels is too long and thin: one side may be at most 200 times the other. Crop it first.`,
    );
  }
  let h = roundHalfEven(height / factor) * factor;
  let w = roundHalfEven(width / factor) * factor;
  if (slots * h * w > maxPixels) {
    const beta = Math.sqrt((frames * height * width) / maxPixels);
    h = Math.max(factor, Math.floor(height / beta / factor) * factor);
    w = Math.max(factor, Math.floor(width / beta / factor) * factor);
  } else if (slots * h * w < minPixels) {
    const beta = Math.sqrt(minPixels / (frames * height * width));
    h = Math.ceil((height * beta) / factor) * factor;
    w = Math.ceil((width * beta) / factor) * factor;
  }
  return { height: h, width: w };
}

/** Taps of one output pixel: source positions lo… and integer weights of `precision` bits. */
interface Filter {
  lo: Int32Array;
  count: Int32Array;
  weights: Int32Array;
  taps: number;
  precision: number;
}

function cubic(t: number): number {
  const x = Math.abs(t);
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/** The antialiased bicubic filter of torchvision's uint8 resize, with its 16-bit weights. Source: qwen3-vl.md §3.3. */
function makeFilter(from: number, to: number): Filter {
  const scale = from / to;
  const fs = Math.max(scale, 1);
  const support = 2 * fs;
  const taps = Math.ceil(support) * 2 + 1;
  const lo = new Int32Array(to);
  const count = new Int32Array(to);
  const exact = new Float64Array(to * taps);
  let largest = 0;
  for (let o = 0; o < to; o++) {
    const center = (o + 0.5) * scale;
    lo[o] = Math.max(0, Math.trunc(center - support + 0.5));
    count[o] = Math.min(from, Math.trunc(center + support + 0.5)) - lo[o]!;
    let sum = 0;
    for (let k = 0; k < count[o]!; k++) {
      const w = cubic((k + lo[o]! - center + 0.5) / fs);
      exact[o * taps + k] = w;
      sum += w;
    }
    for (let k = 0; k < count[o]!; k++) {
      exact[o * taps + k]! /= sum;
      largest = Math.max(largest, exact[o * taps + k]!);
    }
  }
  let precision = 0;
  while (precision < 22 && Math.trunc(0.5 + largest * 2 ** (precision + 1)) < 2 ** 15) precision++;
  const weights = Int32Array.from(exact, (w) => Math.trunc(w * 2 ** precision + (w >= 0 ? 0.5 : -0.5)));
  return { lo, count, weights, taps, precision };
}

/** Filters lines `first` to `last` along one axis; their pixels are `step` apart and they start `stride` apart. */
function filterLines(
  src: Uint8Array,
  out: Uint8Array,
  filter: Filter,
  [first, last]: readonly [number, number],
  src1: { step: number; stride: number },
  out1: { step: number; stride: number },
): void {
  const { lo, count, weights, taps, precision } = filter;
  const outputs = lo.length;
  const half = 2 ** (precision - 1);
  for (let line = first; line < last; line++) {
    const from = line * src1.stride;
    const to = line * out1.stride;
    for (let o = 0; o < outputs; o++) {
      let r = half;
      let g = half;
      let b = half;
      let at = from + lo[o]! * src1.step;
      const end = o * taps + count[o]!;
      for (let k = o * taps; k < end; k++) {
        const w = weights[k]!;
        r += w * src[at]!;
        g += w * src[at + 1]!;
        b += w * src[at + 2]!;
        at += src1.step;
      }
      const target = to + o * out1.step;
      r >>= precision;
      g >>= precision;
      b >>= precision;
      out[target] = r < 0 ? 0 : r > 255 ? 255 : r;
      out[target + 1] = g < 0 ? 0 : g > 255 ? 255 : g;
      out[target + 2] = b < 0 ? 0 : b > 255 ? 255 : b;
    }
  }
}

/** Pixels times taps between two looks at the world: some 20 ms. */
const WORK_PER_STEP = 1 << 22;

/** The resize in steps that a caller may spread over time: horizontal pass first. */
function* resizing({ rgb, width, height }: RgbImage, toHeight: number, toWidth: number): Generator<void, RgbImage> {
  let pixels = rgb;
  const passes = [
    {
      from: width,
      to: toWidth,
      lines: height,
      src: { step: 3, stride: width * 3 },
      out: { step: 3, stride: toWidth * 3 },
    },
    {
      from: height,
      to: toHeight,
      lines: toWidth,
      src: { step: toWidth * 3, stride: 3 },
      out: { step: toWidth * 3, stride: 3 },
    },
  ];
  for (const { from, to, lines, src, out } of passes) {
    if (from === to) continue;
    const filtered = new Uint8Array(to * lines * 3);
    const filter = makeFilter(from, to);
    const step = Math.max(1, Math.floor(WORK_PER_STEP / (to * filter.taps)));
    for (let line = 0; line < lines; line += step) {
      filterLines(pixels, filtered, filter, [line, Math.min(lines, line + step)], src, out);
      yield;
    }
    pixels = filtered;
  }
  return { rgb: pixels, width: toWidth, height: toHeight };
}

/** Antialiased bicubic resize, bit for bit torchvision's on the CPU. */
export function resizeBicubic(image: RgbImage, toHeight: number, toWidth: number): RgbImage {
  const steps = resizing(image, toHeight, toWidth);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** The same, with a turn of the event loop between steps, so that a cancel is seen while a large photo shrinks. Throws `Cancelled`. */
export async function resizeInTurns(
  image: RgbImage,
  toHeight: number,
  toWidth: number,
  signal?: AbortSignal,
): Promise<RgbImage> {
  const steps = resizing(image, toHeight, toWidth);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    await new Promise((resolve) => setTimeout(resolve));
    throwIfCancelled(signal);
  }
}

export interface PatchShape {
  patchSize: number;
  temporalPatchSize: number;
  mergeSize: number;
  /** Per channel, of values in 0..1. */
  mean: readonly number[];
  std: readonly number[];
}

/**
 * Normalised patches in merge-block order: [patches, 3·temporal·patch²] f32. Source: qwen3-vl.md §3.4 to §3.6.
 * @param frames  of one size, sides multiples of patch × merge; one for a picture (it fills every temporal slot),
 *                `temporalPatchSize` for a step of a video
 */
export function toPatches(frames: readonly RgbImage[], shape: PatchShape): Float32Array<ArrayBuffer> {
  const { patchSize: P, temporalPatchSize: T, mergeSize: M } = shape;
  const { width, height } = frames[0]!;
  const [gh, gw] = [height / P, width / P];
  const features = 3 * T * P * P;
  const out = new Float32Array(gh * gw * features);
  // The reference fuses rescale and normalise: (u8 − 255·mean) / (255·std), in f32.
  const table = shape.mean.map((mean, c) => {
    const [shift, scale] = [Math.fround(mean * 255), Math.fround(shape.std[c]! * 255)];
    return Float32Array.from({ length: 256 }, (_, v) => Math.fround(v - shift) / scale);
  });
  let patch = 0;
  for (let br = 0; br < gh; br += M) {
    for (let bc = 0; bc < gw; bc += M) {
      for (let r = br; r < br + M; r++) {
        for (let c = bc; c < bc + M; c++, patch++) {
          let at = patch * features;
          for (let ch = 0; ch < 3; ch++) {
            const values = table[ch]!;
            for (let t = 0; t < T; t++) {
              const { rgb } = frames[Math.min(t, frames.length - 1)]!;
              for (let y = 0; y < P; y++) {
                let from = ((r * P + y) * width + c * P) * 3 + ch;
                for (let x = 0; x < P; x++, from += 3) out[at++] = values[rgb[from]!]!;
              }
            }
          }
        }
      }
    }
  }
  return out;
}
