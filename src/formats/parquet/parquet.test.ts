import { readFileSync } from "node:fs";
import type { SchemaTree } from "hyparquet";
import { parquetWriteBuffer } from "hyparquet-writer";
import { expect, test } from "vitest";
import { readFooter } from "./footer.ts";
import { checkValues } from "./pages.ts";
import { parquetRows } from "./rows.ts";
import { walkDeltas, walkRuns } from "./runs.ts";
import { unpackSnappy } from "./snappy.ts";
import { ThriftReader } from "./thrift.ts";
import { unpackZstd } from "./zstd.ts";

const bytes = (path: string) => new Uint8Array(readFileSync(`src/formats/testdata/${path}`));
const all = async (file: Uint8Array<ArrayBuffer>) => {
  const rows: Record<string, unknown>[] = [];
  for await (const row of parquetRows(new Blob([file]), "t.parquet")) rows.push(row);
  return rows;
};

/** What testdata/mixed_*.parquet hold, written by pyarrow 25.0.1 in two row groups. */
const ROWS = Array.from({ length: 40 }, (_, i) => ({
  question: `How many bars are taller than ${i}?`,
  same: "bar",
  count: i % 5 === 0 ? undefined : i * i - 9,
  big: BigInt(i) * 10n ** 14n,
  share: i / 8,
  yes: i % 7 === 0 ? undefined : i % 3 === 0,
  day: new Date(Date.UTC(2020, 0, 1 + (i % 28))),
  price: i / 100,
  labels: i % 11 === 0 ? undefined : Array.from({ length: i % 4 }, (_, j) => String(j)),
  messages: [
    { role: "user", content: `hi ${i}` },
    { role: "assistant", content: "yes ".repeat(i % 9) },
  ],
}));
// A missing value is null or undefined, a number may be off by the library's own scale.
const plain = (row: Record<string, unknown>) =>
  Object.fromEntries(
    Object.entries(row).map(([key, value]) => [
      key,
      key === "price" ? Math.round(Number(value) * 100) / 100 : (value ?? undefined),
    ]),
  );

test.each(["mixed_v1_zstd", "mixed_v2_snappy"])("every kind of column: %s", async (name) => {
  expect((await all(bytes(`${name}.parquet`))).map(plain)).toEqual(ROWS);
});

test("differences, shared beginnings, split bytes", async () => {
  const wanted = ROWS.map(({ question, same, count, big, share }) => ({ question, same, count, big, share }));
  expect((await all(bytes("mixed_delta.parquet"))).map(plain)).toEqual(wanted);
});

test("zstd: a text of 15 kB with its own codes, as zstd 1.5.4 packs it", () => {
  let state = 1n;
  const words = ["bars", "are", "taller", "than", "the", "highest", "value", "2019", "Größe", ",", "\n"];
  const text = Array.from({ length: 2500 }, () => {
    state = (state * 1103515245n + 12345n) % 2n ** 31n;
    const s = Number(state);
    return `${words[(s >> 16) % 11]}${(s >> 20) % 5 === 0 ? (s >> 8) % 1000 : ""}`;
  }).join(" ");
  const wanted = new TextEncoder().encode(text);
  const packed = bytes("words.zst");
  expect(unpackZstd(packed, wanted.length)).toEqual(wanted);
  // Two frames, and one to skip between them.
  const skipped = Uint8Array.of(0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9);
  const twice = Uint8Array.of(...packed, ...skipped, ...packed);
  expect(new TextDecoder().decode(unpackZstd(twice, 2 * wanted.length))).toBe(text + text);
  expect(() => unpackZstd(packed, wanted.length - 1)).toThrow(/Zstandard/);
  expect(() => unpackZstd(packed.subarray(0, -5), wanted.length)).toThrow();
});

test("zstd: frames that would keep a decoder busy for ever end at once", () => {
  // Blocks of one repeated byte, each frame beginning again at the start of the output.
  const frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 0x03, 0xff, 0x0f, 7];
  expect(() => unpackZstd(Uint8Array.from(Array.from({ length: 10_000 }, () => frame).flat()), 1000)).toThrow(/fit/);
  // A sequence count of 98,000, each with the longest match: no output is left for them.
  const block = [0, 0xff, 0xff, 0xff, 0b01010100, 0, 5, 52, 1];
  const size = (block.length << 3) | 0b101;
  const head = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, size & 255, size >> 8, 0];
  expect(() => unpackZstd(Uint8Array.of(...head, ...block), 1000)).toThrow(/bits|many bytes|nowhere/);
});

test("snappy: literals, overlapping copies; lengths that would lead backwards are refused", () => {
  const packed = Uint8Array.of(9, 2 << 2, 97, 98, 99, (2 << 2) | 1, 3);
  expect(new TextDecoder().decode(unpackSnappy(packed, 9))).toBe("abcabcabc");
  expect(() => unpackSnappy(Uint8Array.of(9, 63 << 2, 0xf0, 0xff, 0xff, 0xff, 0, 0), 9)).toThrow(/too many bytes/);
  expect(() => unpackSnappy(Uint8Array.of(9, 1, 7), 9)).toThrow(/nowhere/);
  expect(() => unpackSnappy(packed, 10)).toThrow(/expected 10/);
});

test("runs: counted, and no longer than what is left", () => {
  // Five times 3 in 2 bits; then 8 packed numbers 0 to 3 twice, of which three are used.
  const runs = Uint8Array.of(10, 3, 3, 0b11100100, 0b11100100);
  expect(walkRuns(runs, 0, runs.length, 2, 8, 3)).toEqual({ largest: 3, hits: 5, first: 3 });
  const billion = Uint8Array.of(0xfe, 0xff, 0xff, 0xff, 0x0f, 1);
  expect(() => walkRuns(billion, 0, billion.length, 1, 1000)).toThrow(/repeats a number 2147483647 times/);
  const packed = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x0f, 1);
  expect(() => walkRuns(packed, 0, packed.length, 1, 1000)).toThrow(/packs/);
  expect(() => walkRuns(packed, 0, packed.length, 0, 1000)).toThrow(/packs/);
});

test("differences: blocks that are none, and parts of minus one, are refused", () => {
  // 128 in 4 parts, 3 numbers from 5 on, by 1 + {1, 2} in 2 bits.
  const good = Uint8Array.of(128, 1, 4, 3, 10, 2, 2, 0, 0, 0, 0b1001, ...new Array<number>(7).fill(0));
  expect([...walkDeltas(good, 0, good.length, 3, true).numbers]).toEqual([5, 7, 10]);
  const negative = Uint8Array.of(128, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 3, 10, 2);
  expect(() => walkDeltas(negative, 0, negative.length, 3, false)).toThrow(/in 4294967295 parts/);
  expect(() => walkDeltas(good, 0, 12, 3, false)).toThrow(/beyond its end/);
});

test("headers: lists, texts, numbers and depths that cannot be", () => {
  const read = (...head: number[]) => new ThriftReader(Uint8Array.from(head)).struct();
  expect(read(0x15, 4, 0)).toEqual(new Map([[1, 2]]));
  expect(() => read(0x19, 0xf3, 0xff, 0xff, 0xff, 0x0f, 0)).toThrow(/33554431 entries|268435455 entries|entries/);
  expect(() => read(0x18, 0xff, 0xff, 0x0f, 0)).toThrow(/more than are left/);
  expect(() => read(0x16, ...new Array<number>(100_000).fill(0x80))).toThrow(/64 bits/);
  expect(() => read(...new Array<number>(10_000).fill(0x1c))).toThrow(/nested deeper/);
});

/** The same bytes with `from` in the footer replaced by `to`, which is as long. */
function patched(file: Uint8Array<ArrayBuffer>, from: number[], to: number[]): Uint8Array<ArrayBuffer> {
  const copy = file.slice();
  for (let at = copy.length - from.length; at >= 0; at--) {
    if (from.every((value, i) => copy[at + i] === value)) {
      copy.set(to, at);
      return copy;
    }
  }
  throw new Error("nothing to replace");
}

test("many values out of few bytes: some are sound, a million are not", async () => {
  const same = (n: number) =>
    new Uint8Array(parquetWriteBuffer({ columnData: [{ name: "a", data: Array(n).fill("hello"), type: "STRING" }] }));
  expect(await all(same(50_000))).toHaveLength(50_000);
  await expect(all(same(1_000_000))).rejects.toThrow(/holds 10000\d values.*smaller row groups/);
});

test("a footer that says more rows, or fewer, than its pages hold", async () => {
  // The second row group of 15 rows is the last thing that says 30 (15 as a zigzag number) in field 3.
  const file = bytes("mixed_v1_zstd.parquet");
  await expect(all(patched(file, [0x16, 30], [0x16, 28]))).rejects.toThrow(/t\.parquet: .*15 rows where 14 were said/);
});

test("columns that lie over each other", async () => {
  const columnData = ["a", "b"].map((name) => ({ name, data: [1, 2], type: "INT32" as const }));
  const file = new Uint8Array(parquetWriteBuffer({ columnData, codec: "UNCOMPRESSED" }));
  const [first, second] = (await readFooter(new Blob([file]))).groups[0]!.columns;
  expect(await all(file)).toEqual([
    { a: 1, b: 1 },
    { a: 2, b: 2 },
  ]);
  // Field 9 of a column, behind field 7: where its pages begin, as a zigzag number of one byte.
  const moved = patched(file, [0x26, 2 * second!.start], [0x26, 2 * first!.start]);
  await expect(all(moved)).rejects.toThrow(/two of its columns share the bytes at 4/);
});

test("an index behind the end of the dictionary", () => {
  // Numbers of 2 bits: three times 2, or three times 3.
  const check = (index: number, size: number | undefined) => {
    const page = { encoding: "RLE_DICTIONARY", kind: "data" as const };
    const column: SchemaTree = { element: { name: "a", type: "BYTE_ARRAY" }, children: [], count: 1, path: ["a"] };
    checkValues(Uint8Array.of(2, 6, index), 0, page, 3, column, size, { bytes: 1000 });
  };
  expect(() => check(2, 3)).not.toThrow();
  expect(() => check(3, 3)).toThrow(/entry 3 of a dictionary of 3/);
  expect(() => check(0, undefined)).toThrow(/not there/);
});
