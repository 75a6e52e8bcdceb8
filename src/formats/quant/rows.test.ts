import { expect, test } from "vitest";
import { f16ToF32, f32ToBf16, f32ToF16 } from "../dtype.ts";
import { rowLayout } from "../weight_slot.ts";
import { dequantizeRows } from "./planes.ts";
import { type EncodeJob, encodeRows } from "./rows.ts";

function job(values: ArrayLike<number>, rows: number, more: Partial<EncodeJob> = {}): EncodeJob {
  const raw = new Uint8Array(Float32Array.from(values).buffer);
  return { scheme: "q4a32", dtype: "F32", raw, rows, cols: values.length / rows, tensor: "w", row0: 10, ...more };
}
const bf16Raw = (values: number[]) => new Uint8Array(Uint16Array.from(values, f32ToBf16).buffer);
const words = (bytes: Uint8Array) => [...new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)];

/** Normal values from a fixed seed. */
function normal(count: number, deviation = 0.02, seed = 1): Float32Array {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Float32Array.from({ length: count }, () => {
    return deviation * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  });
}
function errorOf(scheme: "q4a32" | "q4a64", values: Float32Array, rows: number, search?: number): number {
  const found = dequantizeRows(scheme, encodeRows(job(values, rows, { scheme }), search), rows, values.length / rows);
  let error = 0;
  let norm = 0;
  values.forEach((x, i) => {
    error += (found[i]! - x) ** 2;
    norm += x * x;
  });
  return Math.sqrt(error / norm);
}

test("codes and metadata against words worked out by hand", () => {
  // Codes 0…15 twice with scale 0.5 and offset -1: element j of a word is in the low half of byte j, element j + 4 in its high half.
  const values = Array.from({ length: 32 }, (_, k) => (k % 16) * 0.5 - 1);
  const planes = encodeRows(job(values, 1));
  expect(words(planes.codes)).toEqual([0x73625140, 0xfbead9c8, 0x73625140, 0xfbead9c8]);
  expect(words(planes.meta)).toEqual([0xbc003800]);
  expect([...dequantizeRows("q4a32", planes, 1, 32)]).toEqual(values);
});

test("a row is padded to a whole group with code 0", () => {
  const values = Array.from({ length: 33 }, (_, k) => (k < 32 ? 0 : 7));
  const planes = encodeRows(job(values, 1));
  expect(rowLayout("q4a32", 33)).toEqual({ paddedCols: 64, codesBytes: 32, metaBytes: 8 });
  expect(planes.codes.length).toBe(32);
  expect(words(planes.codes)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  expect(words(planes.meta)).toEqual([0, 0x47000000]);
});

test("rows follow one another in both planes", () => {
  const values = [...Array.from({ length: 64 }, () => 1), ...Array.from({ length: 64 }, () => -2)];
  const planes = encodeRows(job(values, 2, { scheme: "q4a64" }));
  expect(words(planes.meta)).toEqual([0x3c000000, 0xc0000000]);
});

test("bf16 rows are the checkpoint's own bits, padded to 16 bytes", () => {
  const planes = encodeRows(
    job([], 2, { scheme: "bf16", dtype: "BF16", cols: 3, raw: bf16Raw([1, -2, 0.5, 3, 4, 5]) }),
  );
  expect(words(planes.codes)).toEqual([0xc0003f80, 0x00003f00, 0, 0, 0x40804040, 0x000040a0, 0, 0]);
  expect(planes.meta.length).toBe(0);
  expect([...dequantizeRows("bf16", planes, 2, 3)]).toEqual([1, -2, 0.5, 3, 4, 5]);
});

test("every finite bf16 value passes through bf16 and f32 slots unchanged", () => {
  const bits = Uint16Array.from({ length: 0x10000 }, (_, i) => i).filter((u) => (u & 0x7f80) !== 0x7f80);
  const raw = new Uint8Array(bits.buffer);
  const base = job([], 1, { dtype: "BF16", raw, cols: bits.length });
  const expected = Float32Array.from(bits, (u) => new Float32Array(new Uint32Array([u << 16]).buffer)[0]!);
  for (const scheme of ["bf16", "f32"] as const) {
    expect(dequantizeRows(scheme, encodeRows({ ...base, scheme }), 1, bits.length)).toEqual(expected);
  }
});

test("f32 and f16 sources are rounded to bf16 when asked for", () => {
  const planes = encodeRows(job([1.00390625, 1, 2, 3], 1, { scheme: "bf16" }));
  expect([...dequantizeRows("bf16", planes, 1, 4)]).toEqual([1, 1, 2, 3]);
  const raw = new Uint8Array(new Uint16Array([f32ToF16(0.1), f32ToF16(-65504)]).buffer);
  const halves = encodeRows(job([], 1, { scheme: "f32", dtype: "F16", raw, cols: 2 }));
  expect([...dequantizeRows("f32", halves, 1, 2)]).toEqual([f16ToF32(f32ToF16(0.1)), -65504]);
});

test.each([
  ["NaN", Number.NaN],
  ["infinity", Number.NEGATIVE_INFINITY],
])("%s is named with tensor, row and column in every scheme", (_, bad) => {
  for (const scheme of ["q4a32", "q4a64", "bf16", "f32"] as const) {
    const values = new Float32Array(3 * 64);
    values[2 * 64 + 5] = bad;
    expect(() => encodeRows(job(values, 3, { scheme }))).toThrow(/^w: .*row 12, column 5/);
    const raw = bf16Raw([...values]);
    expect(() => encodeRows(job([], 3, { scheme, dtype: "BF16", raw, cols: 64 }))).toThrow(/row 12, column 5/);
  }
});

test("values beyond f16 are refused for 4 bits with the remedy", () => {
  expect(() => encodeRows(job([1e6, ...new Array(31).fill(0)], 1))).toThrow(/row 10.*bf16/);
});

test("each value is off by no more than half a step of its group's own range, plus f16 rounding, without a search", () => {
  const values = normal(64 * 256, 0.02, 3);
  const found = dequantizeRows("q4a32", encodeRows(job(values, 64), 0), 64, 256);
  for (let start = 0; start < values.length; start += 32) {
    const group = values.subarray(start, start + 32);
    const low = Math.min(...group);
    const high = Math.max(...group);
    // The f16 scale (relative 2^-11, up to 15 of them) and the f16 offset move the grid by this much.
    const rounding = (high - low + Math.abs(low)) * 2 ** -11;
    group.forEach((x, i) => {
      expect(Math.abs(x - found[start + i]!)).toBeLessThanOrEqual((high - low) / 30 + rounding + 1e-9);
    });
  }
});

test("the search lowers the error by what was measured, and never raises it for a group", () => {
  const values = normal(64 * 2560, 0.02, 5);
  expect(errorOf("q4a32", values, 64, 0)).toBeCloseTo(0.0783, 3);
  expect(errorOf("q4a32", values, 64)).toBeLessThan(0.0709);
  expect(errorOf("q4a64", values, 64)).toBeLessThan(0.0824);
  for (let seed = 0; seed < 50; seed++) {
    const one = normal(32, 10 ** ((seed % 9) - 6), seed);
    expect(errorOf("q4a32", one, 1)).toBeLessThanOrEqual(errorOf("q4a32", one, 1, 0));
  }
});

test("no scale makes the codes go wild: constant, tiny, huge and lopsided groups", () => {
  const groups = [
    new Array(32).fill(0.3),
    new Array(32).fill(0),
    Array.from({ length: 32 }, (_, i) => i * 1e-9),
    Array.from({ length: 32 }, (_, i) => 1e-40 * i),
    Array.from({ length: 32 }, (_, i) => (i ? 0.01 : 60000)),
    Array.from({ length: 32 }, (_, i) => (i % 2 ? 65504 : -65504)),
    Array.from({ length: 32 }, (_, i) => 1000 + i * 1e-3),
  ];
  for (const values of groups) {
    const found = dequantizeRows("q4a32", encodeRows(job(values, 1)), 1, 32);
    const range = Math.max(...values) - Math.min(...values);
    const largest = Math.max(...values.map(Math.abs));
    found.forEach((x, i) => {
      expect(Math.abs(x - values[i]!), `${values[i]} became ${x}`).toBeLessThanOrEqual(
        range / 15 + largest * 2 ** -10 + 2 ** -24,
      );
    });
  }
});

test("the same rows give the same bytes, alone or among others, at any address", () => {
  const values = normal(8 * 96, 0.02, 9);
  const all = encodeRows(job(values, 8));
  const raw = new Uint8Array(3 * 96 * 4 + 1);
  raw.set(new Uint8Array(values.buffer, 4 * 96 * 4, 3 * 96 * 4), 1);
  const some = encodeRows(job([], 3, { raw: raw.subarray(1), cols: 96 }));
  const layout = rowLayout("q4a32", 96);
  expect(some.codes).toEqual(all.codes.slice(4 * layout.codesBytes, 7 * layout.codesBytes));
  expect(some.meta).toEqual(all.meta.slice(4 * layout.metaBytes, 7 * layout.metaBytes));
});
