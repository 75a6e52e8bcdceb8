import { f16ToF32, f32ToF16 } from "../dtype.ts";
import { NIBBLE_SHIFT } from "./planes.ts";

/**
 * How hard the scale and offset of a group are searched: 0 takes its plain range, 1 refines one start twice, n > 1 refines three
 * starts in n + 1 rounds each. Measured by scripts/measure_quantization.mjs.
 */
export const DEFAULT_SEARCH = 2;

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/**
 * Quantizes one row to 4-bit affine groups: value ≈ code * scale + offset with code 0…15 and scale, offset in f16.
 * The range of a group is cut by a little at both ends, or at one; each such start is refined by least squares on its codes (Lloyd's
 * method); the best is rounded to f16, the codes are chosen anew for the rounded pair, and it is taken if its squared error is
 * smaller than that of the plain range. Deterministic.
 *
 * Codes go to codes[codesAt…], 8 per word: byte j holds element j in its low half and element j + 4 in its high half. Metadata goes to
 * meta[metaAt…], one word per group: scale in the low half, offset in the high half. What pads K to a whole group gets code 0.
 *
 * Returns false when a value is too large for f16 metadata.
 */
export function encodeAffineRow(
  w: Float32Array,
  cols: number,
  group: number,
  search: number,
  codes: Uint32Array,
  codesAt: number,
  meta: Uint32Array,
  metaAt: number,
): boolean {
  let wordAt = codesAt;
  for (let start = 0; start < cols; start += group) {
    const end = Math.min(start + group, cols);
    let low = w[start]!;
    let high = low;
    for (let i = start + 1; i < end; i++) {
      const x = w[i]!;
      if (x < low) low = x;
      if (x > high) high = x;
    }
    if (low < -65504 || high > 65504) return false;
    fitGroup(w, start, end, low, high, search);
    meta[metaAt++] = (f32ToF16(bestScale) | (f32ToF16(bestOffset) << 16)) >>> 0;
    packCodes(w, start, end, bestScale, bestOffset, codes, wordAt);
    wordAt += group / 8;
  }
  return true;
}

// The result of fitGroup: globals, so that the inner loop allocates nothing.
let bestScale = 0;
let bestOffset = 0;
let bestError = 0;

function fitGroup(w: Float32Array, start: number, end: number, low: number, high: number, search: number): void {
  bestError = Number.POSITIVE_INFINITY;
  const range = high - low;
  consider(w, start, end, range / 15, low);
  if (!(range > 0) || search === 0) return;
  let sum = 0;
  for (let i = start; i < end; i++) sum += w[i]!;
  let gain = Number.NEGATIVE_INFINITY;
  let scale = 0;
  let offset = 0;
  const starts = search === 1 ? 1 : START_LOW.length;
  const rounds = Math.min(search + 1, MAX_ROUNDS);
  for (let k = 0; k < starts; k++) {
    const a = START_LOW[k]!;
    fitScale = (range * (1 - a - START_HIGH[k]!)) / 15;
    fitOffset = low + a * range;
    fitGain = Number.NEGATIVE_INFINITY;
    for (let round = 0; round < rounds; round++) if (!refit(w, start, end, sum)) break;
    if (fitGain > gain) {
      gain = fitGain;
      scale = fitScale;
      offset = fitOffset;
    }
  }
  if (scale > 0) consider(w, start, end, scale, offset);
}

/** Shares of the range that each start cuts off below and above. */
const START_LOW: readonly number[] = [0.02, 0, 0.06];
const START_HIGH: readonly number[] = [0.02, 0.06, 0];
const MAX_ROUNDS = 8;

let fitScale = 0;
let fitOffset = 0;
/** What the fit takes away from the sum of squares: the larger, the smaller the error that remains. */
let fitGain = 0;

/** One round of Lloyd's method: codes for the present scale and offset, then the least-squares pair for these codes. */
function refit(w: Float32Array, start: number, end: number, sum: number): boolean {
  const n = end - start;
  const inverse = 1 / fitScale;
  const bias = 0.5 - fitOffset * inverse;
  let sumC = 0;
  let sumCC = 0;
  let sumCW = 0;
  for (let i = start; i < end; i++) {
    const x = w[i]!;
    let c = (x * inverse + bias) | 0;
    c = Math.min(Math.max(c, 0), 15);
    sumC = (sumC + c) | 0;
    sumCC = (sumCC + Math.imul(c, c)) | 0;
    sumCW += c * x;
  }
  const determinant = n * sumCC - sumC * sumC;
  if (determinant <= 0) return false;
  const scale = (n * sumCW - sumC * sum) / determinant;
  if (!(scale > 0)) return false;
  fitScale = scale;
  fitOffset = (sum - scale * sumC) / n;
  fitGain = fitOffset * sum + scale * sumCW;
  return true;
}

/** Takes this pair, rounded to f16, if it leaves a smaller squared error than the best so far. */
function consider(w: Float32Array, start: number, end: number, wantedScale: number, wantedOffset: number): void {
  const scale = roundF16(wantedScale);
  const offset = roundF16(wantedOffset);
  const inverse = scale > 0 ? 1 / scale : 0;
  const bias = 0.5 - offset * inverse;
  let error = 0;
  for (let i = start; i < end; i++) {
    const x = w[i]!;
    let c = (x * inverse + bias) | 0;
    c = Math.min(Math.max(c, 0), 15);
    const d = x - (c * scale + offset);
    error += d * d;
  }
  if (error < bestError) {
    bestError = error;
    bestScale = scale;
    bestOffset = offset;
  }
}

function packCodes(
  w: Float32Array,
  start: number,
  end: number,
  scale: number,
  offset: number,
  codes: Uint32Array,
  wordAt: number,
): void {
  const inverse = scale > 0 ? 1 / scale : 0;
  const bias = 0.5 - offset * inverse;
  for (let at = start; at < end; at += 8) {
    let packed = 0;
    const stop = Math.min(8, end - at);
    for (let j = 0; j < stop; j++) {
      let c = (w[at + j]! * inverse + bias) | 0;
      c = Math.min(Math.max(c, 0), 15);
      packed |= c << NIBBLE_SHIFT[j]!;
    }
    codes[wordAt++] = packed >>> 0;
  }
}

/** The nearest f16 as a number. */
function roundF16(value: number): number {
  float[0] = value;
  const u = word[0]!;
  const a = u & 0x7fffffff;
  if (a < 0x38800000 || a >= 0x477fe000) return f16ToF32(f32ToF16(value));
  word[0] = (u + 0xfff + ((u >>> 13) & 1)) & 0xffffe000;
  return float[0]!;
}
