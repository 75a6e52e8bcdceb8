import { expect, test } from "vitest";
import { quantize, TYPES, type TypeName } from "../../../e2e/gguf_quantize.ts";
import { f16ToF32 } from "../dtype.ts";
import { dequantizeRows } from "../quant/planes.ts";
import { encodeRows } from "../quant/rows.ts";
import { exactScheme, rowFormat } from "../row_format.ts";
import { openScales } from "./blocks.ts";

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
const run = (count: number, of: (i: number) => number) => Uint8Array.from({ length: count }, (_, i) => of(i));
const open = (type: string, raw: Uint8Array, count: number) => {
  const out = new Float32Array(count);
  expect(rowFormat(type)!.decode(raw, count, out)).toBe(-1);
  return out;
};
const at = (values: Float32Array, where: Record<number, number>) =>
  expect(Object.fromEntries(Object.keys(where).map((k) => [k, values[Number(k)]]))).toEqual(where);
const sum = (values: Float32Array) => values.reduce((a, b) => a + b, 0);

/** Everything below: the vectors of checkpoint-formats.md §4.5. */
const SCALES = hex("41 82 c3 04 45 86 c7 08 21 43 65 87");
const HEAD = Uint8Array.of(0, 0x38, 0, 0x34, ...SCALES);
const qs = run(128, (i) => (7 * i + 3) % 256);

test("the table of 6-bit scales", () => {
  const parts = new Uint8Array(16);
  openScales(SCALES, 0, parts);
  expect([...parts]).toEqual([1, 2, 3, 4, 17, 35, 53, 7, 5, 6, 7, 8, 18, 36, 54, 8]);
});

test("Q4_0", () => {
  const values = open("Q4_0", Uint8Array.of(0, 0x38, 0x80, 0xf7, ...new Uint8Array(14).fill(0x88)), 32);
  at(values, { 0: -4, 1: -0.5, 16: 0, 17: 3.5 });
  expect(values.filter((v) => v !== 0)).toHaveLength(3);
});

test("Q8_0", () => {
  const values = open("Q8_0", Uint8Array.of(0x08, 0x24, 0x40, 0x81, 0x20, ...new Uint8Array(29)), 32);
  const d = f16ToF32(0x2408);
  expect(d).toBeCloseTo(0.015748, 5);
  at(values, { 0: 64 * d, 1: -127 * d, 2: 32 * d, 3: 0 });
});

test("Q4_K", () => {
  const values = open("Q4_K", Uint8Array.of(...HEAD, ...qs), 256);
  at(values, { 0: 0.25, 1: 3.75, 31: 4.75, 32: -1.5, 33: -1.5, 64: 2.75, 128: 21, 160: 201, 224: 33, 255: 22.5 });
  expect(sum(values)).toBe(13160);
});

test("Q5_K", () => {
  const qh = run(32, (i) => (37 * i + 11) % 256);
  const values = open("Q5_K", Uint8Array.of(...HEAD, ...qh, ...qs), 256);
  at(values, { 0: 8.25, 1: 3.75, 31: 4.75, 32: 14.5, 33: -1.5, 64: 2.75, 128: 21, 160: 201, 224: 33, 255: 78.5 });
  expect(sum(values)).toBe(28016);
});

test("Q6_K", () => {
  const qh = run(64, (i) => (37 * i + 11) % 256);
  const scales = run(16, (i) => 5 * (i - 8));
  const values = open("Q6_K", Uint8Array.of(...qs, ...qh, ...scales, 0, 0x30), 256);
  at(values, { 0: -95, 1: 110, 31: -52.5, 32: -11.25, 64: 80, 96: 22.5, 128: 0, 160: 3.75, 224: 37.5, 255: -109.375 });
  expect(sum(values)).toBe(530);
});

const BLOCK_TYPES = (Object.keys(TYPES) as TypeName[]).filter((type) => TYPES[type][1] > 1);

test.each(BLOCK_TYPES)(
  "%s: several blocks are opened to what the writer put there, and that is near what it was given",
  (type) => {
    const x = Float32Array.from({ length: 4 * TYPES[type][1] }, (_, i) => Math.sin(i * i) * (1 + (i % 7)));
    const { bytes, values } = quantize(type, x);
    expect(open(type, bytes, x.length)).toEqual(values);
    const error = Math.sqrt(sum(x.map((v, i) => (v - values[i]!) ** 2)) / sum(x.map((v) => v * v)));
    // Half a step of 4 bits over ±7 is 0.47 at most, its mean square less than a third of that.
    expect(error).toBeLessThan(0.12);
    expect(error).toBeGreaterThan(0);
  },
);

test.each(BLOCK_TYPES)("%s: a scale that is NaN or infinite is found", (type) => {
  const [, block] = TYPES[type];
  const { bytes } = quantize(
    type,
    Float32Array.from({ length: 2 * block }, (_, i) => Math.cos(i) * 3),
  );
  const scale = bytes.length / 2 + (type === "Q6_K" ? 208 : 0);
  bytes.set([0xff, 0x7f], scale);
  expect(rowFormat(type)!.decode(bytes, 2 * block, new Float32Array(2 * block))).toBeGreaterThanOrEqual(block);
});

test.each(BLOCK_TYPES)("%s: every scheme that claims to hold its rows exactly gives the same values", (type) => {
  const cols = 2 * TYPES[type][1];
  const x = Float32Array.from({ length: 3 * cols }, (_, i) => Math.sin(i * i) * (1 + (i % 7)) + 0.3);
  const { bytes, values } = quantize(type, x);
  const ways = rowFormat(type)!.exact!;
  expect(ways.length).toBeGreaterThan(1);
  for (const { scheme } of ways) {
    const planes = encodeRows({ scheme, dtype: type, raw: bytes, rows: 3, cols, tensor: "w", row0: 0 });
    expect(dequantizeRows(scheme, planes, 3, cols), scheme).toEqual(values);
  }
});

test("a matrix stacked from several types is kept exactly by what holds them all", () => {
  expect(exactScheme(["Q4_K", "Q4_K", "Q4_K"])).toBe("q4p32");
  expect(exactScheme(["Q4_K", "Q4_K", "Q6_K"])).toBe("q8p16");
  expect(exactScheme(["Q4_0", "Q4_1"])).toBe("q4p32");
  expect(exactScheme(["Q8_0", "Q5_0"])).toBe("q8s32");
  expect(exactScheme(["Q8_0", "F16"])).toBeUndefined();
  expect(exactScheme(["BF16"])).toBeUndefined();
});
