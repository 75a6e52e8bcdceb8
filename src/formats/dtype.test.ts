import { expect, test } from "vitest";
import { bf16ToF32, decodeFloats, dtypeBytes, f16ToF32, f32ToBf16, f32ToF16 } from "./dtype.ts";

test("every f16 survives a round trip", () => {
  for (let bits = 0; bits < 0x10000; bits++) {
    const value = f16ToF32(bits);
    if (Number.isNaN(value)) expect(f32ToF16(value) & 0x7c00).toBe(0x7c00);
    else if (f32ToF16(value) !== bits) expect.fail(`${bits} -> ${value} -> ${f32ToF16(value)}`);
  }
});

test("f16 values against numbers worked out by hand", () => {
  expect(f16ToF32(0x3c00)).toBe(1);
  expect(f16ToF32(0xbc00)).toBe(-1);
  expect(f16ToF32(0x7bff)).toBe(65504);
  expect(f16ToF32(1)).toBe(2 ** -24);
  expect(f32ToF16(65519.996)).toBe(0x7bff);
  expect(f32ToF16(65520)).toBe(0x7c00);
  expect(f32ToF16(1 + 2 ** -11)).toBe(0x3c00); // tie to even
  expect(f32ToF16(1 + 3 * 2 ** -11)).toBe(0x3c02);
  expect(f32ToF16(1.5 * 2 ** -24)).toBe(2); // tie among subnormals, to even
  expect(f32ToF16(2 ** -25)).toBe(0);
  expect(f32ToF16(-(2 ** -14) + 2 ** -26)).toBe(0x8400); // a subnormal that rounds up to the smallest normal
});

test("f16 rounds to the nearest of its neighbours", () => {
  let seed = 7;
  for (let i = 0; i < 20000; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const value = Math.fround((seed / 2 ** 31 - 1) * 2 ** (((seed >>> 3) % 44) - 28));
    const bits = f32ToF16(value);
    const found = Math.abs(f16ToF32(bits) - value);
    for (const other of [bits - 1, bits + 1]) {
      const there = f16ToF32(other & 0xffff);
      if (Number.isFinite(there)) expect(found).toBeLessThanOrEqual(Math.abs(there - value));
    }
  }
});

test("bf16 rounds to nearest even and keeps NaN", () => {
  expect(f32ToBf16(1)).toBe(0x3f80);
  expect(f32ToBf16(1 + 2 ** -8)).toBe(0x3f80);
  expect(f32ToBf16(1 + 3 * 2 ** -8)).toBe(0x3f82);
  expect(f32ToBf16(-2.5)).toBe(0xc020);
  expect(f32ToBf16(3.4e38)).toBe(0x7f80);
  expect(bf16ToF32(f32ToBf16(Number.NaN))).toBeNaN();
  for (let bits = 0; bits < 0x10000; bits++) {
    const value = bf16ToF32(bits);
    if (!Number.isNaN(value) && f32ToBf16(value) !== bits) expect.fail(String(bits));
  }
});

test("decoding works at odd addresses and finds the first bad element", () => {
  const bytes = new Uint8Array([0, 0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3f, 0xc0, 0x7f]);
  const out = new Float32Array(4);
  expect(decodeFloats("BF16", bytes.subarray(1), 3, out)).toBe(-1);
  expect([...out.subarray(0, 3)]).toEqual([1, -2, 0.5]);
  expect(decodeFloats("BF16", bytes.subarray(1), 4, out)).toBe(3);
  const f16 = new Uint8Array([0, 0x3c, 0, 0x7c]);
  expect(decodeFloats("F16", f16, 2, out)).toBe(1);
  const f32 = new Uint8Array(new Float32Array([0.1, Number.POSITIVE_INFINITY]).buffer);
  expect(decodeFloats("F32", f32, 1, out)).toBe(-1);
  expect(out[0]).toBe(Math.fround(0.1));
  expect(decodeFloats("F32", f32, 2, out)).toBe(1);
});

test("dtype sizes come from the list only", () => {
  expect(dtypeBytes("BF16")).toBe(2);
  expect(dtypeBytes("toString")).toBeUndefined();
  expect(dtypeBytes("F4")).toBeUndefined();
});
