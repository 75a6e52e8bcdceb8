import type { CodeKind } from "../weight_slot.ts";

/** bitsandbytes' NF4 table, each the shortest decimal of its f32. Source: checkpoint-formats.md §2.3. */
const NF4 = [
  -1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0, 0.0795803, 0.1609302, 0.2461123,
  0.33791524, 0.44070983, 0.562617, 0.72295684, 1,
];
const FP4_HALF = [0, 0.0052083335, 0.6666667, 1, 0.33333334, 0.5, 0.16666667, 0.25];

function f32Table(values: readonly number[]): Float32Array {
  return Float32Array.from(values);
}

/** What each code stands for before scale and offset, in f32; NaN for codes that stand for nothing. */
export const CODE_VALUES: Readonly<Record<CodeKind, Float32Array>> = {
  unsigned: Float32Array.from({ length: 256 }, (_, code) => code),
  signed: Float32Array.from({ length: 256 }, (_, code) => (code << 24) >> 24),
  nf4: f32Table(NF4),
  fp4: f32Table([...FP4_HALF, ...FP4_HALF.map((value) => -value)]),
  e4m3: Float32Array.from({ length: 256 }, (_, code) => e4m3(code)),
};

/** The number of an 8-bit float: sign, 4 exponent bits with bias 7, 3 of fraction; no infinity. */
function e4m3(code: number): number {
  const exponent = (code >> 3) & 15;
  const fraction = code & 7;
  if (exponent === 15 && fraction === 7) return Number.NaN;
  const size = exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10);
  return code & 0x80 ? -size : size;
}
