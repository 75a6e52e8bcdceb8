import type { WeightDtype } from "./checkpoint.ts";

/** Bits per element of every dtype that a safetensors file may name; sub-byte types are left out and so refused. */
const DTYPE_BITS: Readonly<Record<string, number>> = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

/** Bytes per element, or undefined for a dtype that is not known. */
export function dtypeBytes(dtype: string): number | undefined {
  return Object.hasOwn(DTYPE_BITS, dtype) ? DTYPE_BITS[dtype]! / 8 : undefined;
}

/** True for the dtypes that weights are read from. */
export function isWeightDtype(dtype: string): dtype is WeightDtype {
  return dtype === "BF16" || dtype === "F16" || dtype === "F32";
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The float with these bf16 bits. Exact. */
export function bf16ToF32(bits: number): number {
  word[0] = bits << 16;
  return float[0]!;
}

/** bf16 bits of a float, rounded to nearest even; NaN stays NaN. */
export function f32ToBf16(value: number): number {
  float[0] = value;
  const u = word[0]!;
  if ((u & 0x7fffffff) > 0x7f800000) return (u >>> 16) | 0x40;
  return ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The float with these f16 bits. Exact. */
export function f16ToF32(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  word[0] = ((bits & 0x8000) << 16) | ((exponent + 112) << 23) | (fraction << 13);
  return float[0]!;
}

/** f16 bits of a float, rounded to nearest even; too large becomes infinity. */
export function f32ToF16(value: number): number {
  float[0] = value;
  const u = word[0]!;
  const sign = (u >>> 16) & 0x8000;
  const a = u & 0x7fffffff;
  if (a > 0x7f800000) return sign | 0x7e00;
  if (a >= 0x477ff000) return sign | 0x7c00; // 65520 and above round to infinity
  if (a < 0x38800000) {
    // Below 2^-14: a multiple of 2^-24. Adding 0.5 lets the float unit round the fraction to even for us.
    word[0] = a;
    float[0] = float[0]! + 0.5;
    return sign | (word[0]! - 0x3f000000);
  }
  return sign | ((a - 0x38000000 + 0xfff + ((a >>> 13) & 1)) >>> 13);
}

/**
 * Little-endian elements to floats, exactly. `out` may be longer than needed; what is beyond stays as it is.
 * Returns the index of the first NaN or infinity, or -1.
 */
export function decodeFloats(dtype: WeightDtype, raw: Uint8Array, count: number, out: Float32Array): number {
  const bits = new Uint32Array(out.buffer, out.byteOffset, count);
  if (dtype === "F32") {
    const source = aligned32(raw, count);
    for (let i = 0; i < count; i++) {
      const u = source[i]!;
      if ((u & 0x7f800000) === 0x7f800000) return i;
      bits[i] = u;
    }
    return -1;
  }
  const source = aligned16(raw, count);
  if (dtype === "BF16") {
    for (let i = 0; i < count; i++) {
      const u = source[i]!;
      if ((u & 0x7f80) === 0x7f80) return i;
      bits[i] = u << 16;
    }
    return -1;
  }
  for (let i = 0; i < count; i++) {
    const u = source[i]!;
    if ((u & 0x7c00) === 0x7c00) return i;
    out[i] = f16ToF32(u);
  }
  return -1;
}

/** Floats to little-endian elements, rounded to nearest even. */
export function encodeFloats(dtype: WeightDtype, values: Float32Array): Uint8Array<ArrayBuffer> {
  if (dtype === "F32") return new Uint8Array(values.slice().buffer);
  const encode = dtype === "BF16" ? f32ToBf16 : f32ToF16;
  return new Uint8Array(Uint16Array.from(values, encode).buffer);
}

/** The index of the first NaN or infinity among bf16 values, or -1. */
export function firstBadBf16(raw: Uint8Array, count: number): number {
  const source = aligned16(raw, count);
  for (let i = 0; i < count; i++) if ((source[i]! & 0x7f80) === 0x7f80) return i;
  return -1;
}

/** The bytes as u16, without a copy where their address allows it. */
export function aligned16(raw: Uint8Array, count: number): Uint16Array {
  if (raw.byteOffset % 2 === 0) return new Uint16Array(raw.buffer, raw.byteOffset, count);
  return new Uint16Array(raw.slice(0, count * 2).buffer);
}

function aligned32(raw: Uint8Array, count: number): Uint32Array {
  if (raw.byteOffset % 4 === 0) return new Uint32Array(raw.buffer, raw.byteOffset, count);
  return new Uint32Array(raw.slice(0, count * 4).buffer);
}
