import { expect, test } from "vitest";
import { f32ToF16 } from "./dtype.ts";
import { bitsOfF32, dequantizeRows, zeroWord } from "./quant/planes.ts";
import { encodeRows } from "./quant/rows.ts";
import { exactScheme, rowFormat } from "./row_format.ts";
import { GROUPED_SCHEMES, type GroupedScheme, grouping, rowLayout } from "./weight_slot.ts";

/** One row in a scheme's planes: code k of the row is `k % 16`, or `k % 120` in 8 bits, and every group has these metadata words. */
function row(scheme: GroupedScheme, cols: number, meta: number[]): Uint8Array<ArrayBuffer> {
  const { codesBytes, metaBytes, paddedCols } = rowLayout(scheme, cols);
  const raw = new Uint8Array(codesBytes + metaBytes);
  const { bits } = grouping(scheme)!;
  for (let k = 0; k < paddedCols; k++) {
    if (bits === 8) raw[k] = k % 120;
    // Byte j of a word: element j low, element j + 4 high.
    else raw[Math.floor(k / 8) * 4 + (k % 4)]! |= (k % 16) << (k % 8 < 4 ? 0 : 4);
  }
  const words = new Uint32Array(raw.buffer, codesBytes);
  words.forEach((_, i) => {
    words[i] = meta[i % meta.length]!;
  });
  return raw;
}

const half = f32ToF16(0.5) | (f32ToF16(-1) << 16);
const NF4_2 = [-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453].map((v) => v * Math.fround(0.02));
const e4m3 = (s: number) =>
  [0, 2 ** -9, 2 ** -8, 3 * 2 ** -9, 4 * 2 ** -9, 5 * 2 ** -9, 6 * 2 ** -9, 7 * 2 ** -9, 2 ** -6].map((v) => v * s);

test.each<[GroupedScheme, meta: number[], values: number[]]>([
  ["q4a32", [half], [-1, -0.5, 0, 0.5]],
  ["q4b64", [0xbf803f00], [-1, -0.5, 0, 0.5]],
  ["q4z32", [zeroWord(0.5, 7)], [-3.5, -3, -2.5, -2]],
  ["q4z64", [zeroWord(0.25, 16)], [-4, -3.75, -3.5, -3.25]],
  ["q4p32", [bitsOfF32(0.5), bitsOfF32(-1)], [-1, -0.5, 0, 0.5]],
  ["nf4g64", [bitsOfF32(Math.fround(0.02))], NF4_2],
  ["fp4g32", [bitsOfF32(12)], [0, Math.fround(0.0052083335) * 12, Math.fround(2 / 3) * 12, 12]],
  ["q8s16", [bitsOfF32(0.25)], [0, 0.25, 0.5, 0.75]],
  ["q8p32", [bitsOfF32(0.25), bitsOfF32(-1)], [-1, -0.75, -0.5, -0.25]],
  ["q8p16", [bitsOfF32(0.125), bitsOfF32(-2)], [-2, -1.875, -1.75, -1.625]],
  ["f8s64", [bitsOfF32(4)], e4m3(4)],
])("%s opens as its formula says", (scheme, meta, values) => {
  const cols = 100;
  const raw = row(scheme, cols, meta);
  const out = new Float32Array(cols);
  const format = rowFormat(scheme)!;
  expect(format.rowBytes(cols)).toBe(raw.length);
  expect(format.decode(raw, cols, out)).toBe(-1);
  values.forEach((value, k) => {
    expect(out[k]).toBe(Math.fround(value));
  });
});

test("a zero word holds every f16 and every bf16 scale as it is", () => {
  expect(zeroWord(0.5, 7)).toBe(0x3f000007);
  // The smallest f16, the largest f16, and a bf16 that f16 cannot hold.
  for (const scale of [2 ** -24, 65504, 2 ** 100]) expect(zeroWord(scale, 31) & 0x1fff).toBe(31);
});

test.each(GROUPED_SCHEMES)("rows of %s are stored as they are, and opened alike", (scheme) => {
  const cols = 70;
  const raw = new Uint8Array([
    ...row(scheme, cols, [0x3f000001, 0x3e000002]),
    ...row(scheme, cols, [0x3d000001, 0x3c000002]),
  ]);
  expect(exactScheme([scheme, scheme])).toBe(scheme);
  const planes = encodeRows({ scheme, dtype: scheme, raw, rows: 2, cols, tensor: "w", row0: 0 });
  const { codesBytes, metaBytes } = rowLayout(scheme, cols);
  expect([...planes.codes.subarray(codesBytes)]).toEqual([
    ...raw.subarray(raw.length / 2, raw.length / 2 + codesBytes),
  ]);
  expect([...planes.meta.subarray(metaBytes)]).toEqual([...raw.subarray(raw.length - metaBytes)]);
  const opened = dequantizeRows(scheme, planes, 2, cols);
  const floats = encodeRows({ scheme: "f32", dtype: scheme, raw, rows: 2, cols, tensor: "w", row0: 0 });
  expect(new Float32Array(floats.codes.buffer)).toEqual(opened);
  // Into another scheme they are quantized anew, no worse than dense rows of the same values.
  const dense = new Uint8Array(opened.slice().buffer);
  const again = encodeRows({ scheme: "q4a64", dtype: scheme, raw, rows: 2, cols, tensor: "w", row0: 0 });
  if (scheme !== "q4a64") {
    expect(again).toEqual(
      encodeRows({ scheme: "q4a64", dtype: "F32", raw: dense, rows: 2, cols, tensor: "w", row0: 0 }),
    );
  }
});

test("no scheme where rows differ or are dense, no format for words that are none", () => {
  expect(exactScheme(["nf4g64", "BF16"])).toBeUndefined();
  expect(exactScheme(["nf4g64", "nf4g32"])).toBeUndefined();
  expect(exactScheme(["BF16"])).toBeUndefined();
  expect(exactScheme([undefined])).toBeUndefined();
  expect(rowFormat("U8")).toBeUndefined();
});

test.each<[GroupedScheme, number[], RegExp]>([
  ["nf4g64", [0x7fc00000], /^w: .*row 5, column 0/],
  ["q4p32", [0x3f800000, 0x7f800000], /row 5, column 0/],
  ["q8s32", [bitsOfF32(3e38)], /row 5, column 0/],
])("%s with metadata that is not finite is refused by row", (scheme, meta, message) => {
  const job = { scheme, dtype: scheme, raw: row(scheme, 64, meta), rows: 1, cols: 64, tensor: "w", row0: 5 };
  expect(() => encodeRows(job)).toThrow(message);
});

test("a float code that is NaN is named by column", () => {
  const raw = row("f8s64", 64, [0x3f800000]);
  raw[9] = 0xff;
  const job = { scheme: "f8s64" as const, dtype: "f8s64", raw, rows: 1, cols: 64, tensor: "w", row0: 5 };
  expect(() => encodeRows(job)).toThrow(/row 5, column 9/);
});
