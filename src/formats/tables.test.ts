import { readFileSync } from "node:fs";
import { parquetWriteBuffer } from "hyparquet-writer";
import { expect, test } from "vitest";
import { parseCsv } from "./csv.ts";
import { parquetRows } from "./parquet/rows.ts";

test("csv: quotes, line breaks in cells, other delimiters, a byte order mark", () => {
  expect(parseCsv('\ufeffimage , question,answer\n"a,1.png","say ""hi""\nthere",5\n\n').rows).toEqual([
    { image: "a,1.png", question: 'say "hi"\nthere', answer: "5" },
  ]);
  expect(parseCsv("a;b\n1;2").rows).toEqual([{ a: "1", b: "2" }]);
  expect(parseCsv("a\tb\n1\t2").rows).toEqual([{ a: "1", b: "2" }]);
  expect(parseCsv("only\n1").problems.size).toBe(0);
});

test("csv: bad lines are named, good ones kept", () => {
  const { rows, problems } = parseCsv('a,b\n1,2\n3\n4,5\n"6,7');
  expect(rows[2]).toEqual({ a: "4", b: "5" });
  expect([...problems.keys()].sort()).toEqual([1, 3]);
});

const all = async (blob: Blob) => {
  const rows: Record<string, unknown>[] = [];
  for await (const row of parquetRows(blob, "t.parquet")) rows.push(row);
  return rows;
};

test("parquet: text stays text and bytes stay bytes, over several row groups", async () => {
  const picture = new Uint8Array([0x89, 0x50, 0xff, 0xfe, 0]);
  const file = parquetWriteBuffer({
    columnData: [
      { name: "query", data: ["How many?", "Größe?", "c"], type: "STRING" },
      { name: "bytes", data: [picture, picture, picture], type: "BYTE_ARRAY" },
    ],
    rowGroupSize: 2,
  });
  const rows = await all(new Blob([file]));
  expect(rows.map((r) => r.query)).toEqual(["How many?", "Größe?", "c"]);
  expect(rows[2]!.bytes).toEqual(picture);
});

/** Two rows of ChartQA as the Hub holds it, written by pyarrow: pictures as bytes beside a path, labels as lists. */
test.each(["zstd", "snappy"])("parquet: what pyarrow wrote with %s", async (codec) => {
  const rows = await all(new Blob([readFileSync(`src/formats/testdata/chartqa_${codec}.parquet`)]));
  expect(rows.map(({ query, label }) => [query, label])).toEqual([
    ["How many bars?", ["5"]],
    ["Which is highest?", ["Grün"]],
  ]);
  const { bytes, path } = rows[1]!.image as { bytes: Uint8Array; path: string };
  expect([...bytes.slice(0, 4), path]).toEqual([0x89, 0x50, 0x4e, 0x47, "b.png"]);
});

test("parquet: a damaged file is an error that names it", async () => {
  await expect(all(new Blob(["PAR1 nonsense PAR1"]))).rejects.toThrow(/t\.parquet: it cannot be read as parquet/);
  const file = new Uint8Array(
    parquetWriteBuffer({ columnData: [{ name: "a", data: Array(5000).fill("hello"), type: "STRING" }] }),
  );
  file.fill(0xff, 4, 40);
  await expect(all(new Blob([file]))).rejects.toThrow(/t\.parquet/);
});
