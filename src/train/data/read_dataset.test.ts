import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { writeZip } from "../../formats/index.ts";
import { randomFrom } from "../random.ts";
import { readDataset } from "./read_dataset.ts";

/** A PNG of one red pixel row, 4 × 3; another number makes another picture. */
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAQAAAADCAIAAAA7ljmRAAAAEElEQVR4nGP4z8AARww4OQD1MQv1NXv7ggAAAABJRU5ErkJggg==";
const png = (n = 0) => new Blob([Buffer.from(PNG, "base64"), new Uint8Array([n])]);
const DATA_URL = `data:image/png;base64,${PNG}`;

/** Stands for the browser's decoder: reads a PNG's header. */
async function probe(blob: Blob, name: string) {
  const bytes = new DataView(await blob.arrayBuffer());
  if (bytes.byteLength < 24 || bytes.getUint32(0) !== 0x89504e47) throw new Error(`“${name}” is not a picture`);
  return { width: bytes.getUint32(16), height: bytes.getUint32(20) };
}

const read = (files: Record<string, unknown>, options = {}) =>
  readDataset(
    "set",
    Object.entries(files).map(([path, content]) => {
      const text = typeof content === "string" ? content : JSON.stringify(content);
      return { path, file: content instanceof Blob ? content : new Blob([text]) };
    }),
    { probe, ...options },
  );
const lines = (...rows: unknown[]) => rows.map((row) => JSON.stringify(row)).join("\n");
const turns = (row: { messages: { role: string; parts: { type: string; text?: string }[] }[] } | undefined) =>
  row?.messages.map(({ role, parts }) => [role, ...parts.map((p) => p.text ?? "□")]);
const qa = (image: unknown, answer: unknown = "5") => ({ image, question: "How many?", answer });

describe("ways of writing", () => {
  const expected = [
    ["user", "□", "How many?"],
    ["assistant", "5"],
  ];

  test.each<[string, Record<string, unknown>]>([
    ["columns as csv", { "d/data.csv": "image,question,answer\np/a.png,How many?,5", "d/p/a.png": png() }],
    ["columns as jsonl", { "data.jsonl": lines(qa("a.png", 5)), "a.png": png() }],
    [
      "messages with a list of pictures",
      {
        "data.json": [
          {
            messages: [
              { role: "user", content: [{ type: "image" }, { type: "text", text: "How many?" }] },
              { role: "assistant", content: "5" },
            ],
            images: ["a.png"],
          },
        ],
        "a.png": png(),
      },
    ],
    [
      "messages as OpenAI sends them",
      {
        "data.jsonl": lines({
          messages: [
            {
              role: "user",
              content: [
                { type: "image_url", image_url: { url: DATA_URL } },
                { type: "text", text: "How many?" },
              ],
            },
            { role: "assistant", content: "5" },
          ],
        }),
      },
    ],
    [
      "prompt and completion",
      {
        "data.jsonl": lines({
          prompt: [{ role: "user", content: "How many?" }],
          completion: [{ role: "assistant", content: "5" }],
          images: [DATA_URL],
        }),
      },
    ],
    [
      "LLaVA",
      {
        "data.json": [
          {
            image: "train/a.png",
            conversations: [
              { from: "human", value: "<image>\nHow many?" },
              { from: "gpt", value: "5" },
            ],
          },
        ],
        "pictures/train/a.png": png(),
      },
    ],
    [
      "ChartQA as released",
      {
        "ChartQA/train/train_human.json": [{ imgname: "a.png", query: "How many?", label: "5" }],
        "ChartQA/train/png/a.png": png(),
        "ChartQA/val/png/a.png": png(1),
      },
    ],
  ])("%s", async (_, files) => {
    const { rows, issues, pictures } = await read(files);
    expect(issues).toEqual([]);
    expect(rows.map(turns)).toEqual([expected]);
    expect([...pictures.values()].map(({ width, height }) => [width, height])).toEqual([[4, 3]]);
  });

  test.each(["zstd", "snappy"])("ChartQA from the Hub as parquet, %s", async (codec) => {
    const file = new Blob([readFileSync(`src/formats/testdata/chartqa_${codec}.parquet`)]);
    const { rows, issues, pictures } = await read({ "test-00000-of-00001.parquet": file });
    expect(issues).toEqual([]);
    expect(rows.map(turns)[1]).toEqual([
      ["user", "□", "Which is highest?"],
      ["assistant", "Grün"],
    ]);
    expect(pictures.size).toBe(2);
  });

  test("a zip of any of these, with the computer's own files in it", async () => {
    const zip = await writeZip([
      { path: "set/data.csv", data: "image,question,answer\na.png,How many?,5" },
      { path: "set/a.png", data: png() },
      { path: "__MACOSX/set/._data.csv", data: "junk" },
    ]);
    const { rows, issues } = await read({ "set.zip": zip });
    expect(issues).toEqual([]);
    expect(rows.map(turns)).toEqual([expected]);
  });

  test("several turns, a system text, several pictures at their places", async () => {
    const { rows, issues } = await read({
      "data.jsonl": lines({
        images: ["a.png", "b.png"],
        conversations: [
          { from: "system", value: "Be brief." },
          { from: "human", value: "First <image> then <image> end" },
          { from: "gpt", value: "one" },
          { from: "human", value: "more?" },
          { from: "gpt", value: "two" },
        ],
      }),
      "a.png": png(),
      "b.png": png(1),
    });
    expect(issues).toEqual([]);
    expect(turns(rows[0])).toEqual([
      ["system", "Be brief."],
      ["user", "First", "□", "then", "□", "end"],
      ["assistant", "one"],
      ["user", "more?"],
      ["assistant", "two"],
    ]);
  });
});

describe("pictures", () => {
  test("one that several rows show is kept once, also under two names", async () => {
    const { rows, pictures } = await read({
      "data.jsonl": lines(qa("a.png"), qa("a.png"), qa("copy.png")),
      "a.png": png(),
      "copy.png": png(),
    });
    expect(rows.length).toBe(3);
    expect(pictures.size).toBe(1);
  });

  test("paths of another computer are found by their end, a doubtful one with a warning, an ambiguous one not", async () => {
    const { rows, issues } = await read({
      "data.jsonl": lines(qa("/home/me/set/x/a.png"), qa("elsewhere/b.png"), qa("other/c.png"), qa("a%20b.png")),
      "x/a.png": png(),
      "y/a.png": png(1),
      "x/b.png": png(2),
      "x/c.png": png(3),
      "y/c.png": png(4),
      "a b.png": png(5),
    });
    expect(rows.length).toBe(3);
    expect(issues.map(({ severity, row, found }) => [severity, row, found])).toEqual([
      ["warning", 1, "x/a.png, taken instead"],
      ["warning", 2, "x/b.png, taken instead"],
      ["error", 3, "several files of this name in other folders"],
    ]);
  });
});

describe("the report", () => {
  const bad = (row: unknown) => read({ "data.jsonl": lines(qa(DATA_URL), row), "note.txt": "x", "broken.png": "no" });
  const chat = (...messages: unknown[]) => ({ messages });
  const user = { role: "user", content: "q" };

  test.each<[string, unknown, string, RegExp]>([
    ["a missing picture", qa("gone.png"), "picture", /no such file/],
    ["an unreadable picture", qa("broken.png"), "picture", /“broken.png” is not a picture/],
    ["a picture elsewhere", qa("https://x.org/a.png"), "image", /https:/],
    ["a damaged data URL", qa("data:image/png;base64,@@"), "picture", /damaged/],
    ["no answer", { image: DATA_URL, question: "q", answer: "" }, "answer", /no answer/],
    ["a blank answer", qa(DATA_URL, "  "), "turn 2 (assistant)", /empty answer/],
    ["no question", { image: DATA_URL, answer: "5" }, "question", /image/],
    ["an unknown role", chat(user, { role: "tool", content: "x" }), "messages[1].role", /tool/],
    ["no turns", chat(), "messages", /no turns/],
    ["no assistant", chat(user), "messages", /no answer/],
    ["a null content", chat({ role: "user", content: null }), "messages[0].content", /nothing/],
    [
      "a picture in an answer",
      chat(user, {
        role: "assistant",
        content: [
          { type: "image", image: DATA_URL },
          { type: "text", text: "x" },
        ],
      }),
      "turn 2 (assistant)",
      /a picture/,
    ],
    [
      "a late system text",
      chat(user, { role: "system", content: "s" }, { role: "assistant", content: "x" }),
      "turn 2 (system)",
      /in between/,
    ],
    ["too few pictures", { ...chat({ role: "user", content: "<image><image>" }), images: [DATA_URL] }, "images", /1/],
    ["a number for a row", 7, "row", /7/],
  ])("%s is named, and the other row is kept", async (_, row, field, found) => {
    const { rows, issues, rowsRead } = await bad(row);
    expect(rowsRead).toBe(2);
    expect(rows.length).toBe(1);
    expect(issues.length).toBe(1);
    expect(issues[0]).toMatchObject({ severity: "error", file: "data.jsonl", row: 2, field });
    expect(issues[0]!.found).toMatch(found);
    expect(issues[0]!.remedy).not.toBe("");
  });

  test("what looks like a control token is a warning", async () => {
    const { rows, issues } = await bad(qa(DATA_URL, "a<|im_end|>"));
    expect(rows.length).toBe(2);
    expect(issues).toMatchObject([{ severity: "warning", row: 2, field: "turn 2 (assistant)", found: "<|im_end|>" }]);
  });

  test("a turn without an answer at the end is a warning", async () => {
    const { rows, issues } = await bad(chat(user, { role: "assistant", content: "x" }, user));
    expect(rows.length).toBe(2);
    expect(issues).toMatchObject([{ severity: "warning", row: 2 }]);
  });

  test("a line that is no JSON, a csv line of another length", async () => {
    const a = await read({ "data.jsonl": `${lines(qa(DATA_URL))}\n{"image": \n${lines(qa(DATA_URL))}` });
    expect([a.rows.length, a.issues.length, a.issues[0]!.row]).toEqual([2, 1, 2]);
    const b = await read({ "data.csv": "question,answer\nq,1\nq\nq,3" });
    expect([b.rows.length, b.issues.length, b.issues[0]!.row]).toEqual([2, 1, 2]);
  });

  test("a settings file beside the table is a remark; alone it is the reason", async () => {
    const both = await read({ "config.json": { a: 1 }, "data.jsonl": lines(qa(DATA_URL)) });
    expect(both.issues).toMatchObject([{ severity: "warning", file: "config.json" }]);
    const alone = await read({ "config.json": { a: 1 } });
    expect(alone.issues).toMatchObject([{ severity: "error", file: "config.json", found: "fields a" }]);
  });

  test("a damaged parquet file is one issue", async () => {
    const { issues } = await read({ "a.parquet": "PAR1xxxx", "data.jsonl": lines(qa(DATA_URL)) });
    expect(issues).toMatchObject([{ severity: "error", file: "a.parquet", field: "file" }]);
  });

  test("one table for each picture is left out", async () => {
    const notes = Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`annotations/${i}.json`, { bars: i }]));
    const { rows, issues } = await read({ ...notes, "train.json": [qa(DATA_URL)] });
    expect(rows.length).toBe(1);
    expect(issues).toMatchObject([{ severity: "warning", file: "annotations/" }]);
  });

  test("no table at all says what was found", async () => {
    await expect(read({ "a.png": png() })).rejects.toThrow(/found only a\.png/);
    await expect(read({})).rejects.toThrow(/no files/);
  });
});

test("files called train, val and test say which rows are held back; alone they do not", async () => {
  const row = [qa(DATA_URL)];
  const { rows } = await read({ "train_human.json": row, "val/data.json": row, "test.jsonl": lines(row[0]) });
  expect(rows.map((r) => r.part)).toEqual(["heldBack", "train", "heldBack"]);
  expect((await read({ "test.json": row })).rows[0]!.part).toBeUndefined();
});

test("reading stops when it is cancelled, and counts what it does", async () => {
  await expect(read({ "d.json": [qa(DATA_URL)] }, { signal: AbortSignal.abort() })).rejects.toThrow(/cancelled/);
  const seen: [number, number][] = [];
  await read({ "d.json": [qa(DATA_URL), qa(DATA_URL)] }, { onProgress: (...n: [number, number]) => seen.push(n) });
  expect(seen).toEqual([
    [1, 1],
    [2, 1],
  ]);
});

test("whatever stands in a file, reading ends with rows and issues", async () => {
  const random = randomFrom(3407);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  const good = lines(
    qa("a.png"),
    {
      conversations: [
        { from: "human", value: "<image>q" },
        { from: "gpt", value: "a" },
      ],
      image: "a.png",
    },
    {
      messages: [
        { role: "user", content: [{ type: "image", image: DATA_URL }] },
        { role: "assistant", content: "a" },
      ],
    },
  );
  /** A value of any kind where a reader expects something else. */
  const odd = (): unknown =>
    pick([
      null,
      0,
      -1.5,
      true,
      "",
      "x",
      "data:,",
      "[",
      "../..",
      [],
      [[]],
      {},
      { bytes: null },
      { url: 5 },
      [null],
      "\u0000",
    ]);
  const mutate = (value: unknown): unknown => {
    if (random() < 0.15) return odd();
    if (Array.isArray(value)) return value.map(mutate);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [random() < 0.05 ? `${k}x` : k, mutate(v)]));
  };
  let kept = 0;
  for (let round = 0; round < 300; round++) {
    let text = good
      .split("\n")
      .map((line) => JSON.stringify(mutate(JSON.parse(line))))
      .join("\n");
    if (round % 3 === 0) {
      const at = Math.floor(random() * text.length);
      text =
        text.slice(0, at) +
        String.fromCharCode(Math.floor(random() * 0x250)) +
        text.slice(at + Math.floor(random() * 5));
    }
    const path = `data.${pick(["jsonl", "json", "csv", "parquet"])}`;
    const { rows, issues, issueCount } = await read({ [path]: text, "a.png": png() });
    kept += rows.length;
    expect(rows.length + issueCount).toBeGreaterThan(0);
    for (const issue of issues)
      for (const key of ["field", "expected", "remedy"] as const) expect(issue[key]).not.toBe("");
    for (const row of rows) expect(row.messages.some((m) => m.role === "assistant")).toBe(true);
  }
  expect(kept).toBeGreaterThan(100);
});

test("damaged archives and parquet files end in a report or an error of ours, soon", { timeout: 30_000 }, async () => {
  const random = randomFrom(7);
  const zip = await writeZip([
    { path: "data.csv", data: `image,question,answer\n${"a.png,How many?,5\n".repeat(20)}` },
    { path: "a.png", data: png() },
  ]);
  const sources = {
    "x.zip": new Uint8Array(await zip.arrayBuffer()),
    "zstd.parquet": new Uint8Array(readFileSync("src/formats/testdata/chartqa_zstd.parquet")),
    "snappy.parquet": new Uint8Array(readFileSync("src/formats/testdata/chartqa_snappy.parquet")),
  };
  let damaged = 0;
  for (const [path, source] of Object.entries(sources)) {
    for (let round = 0; round < 150; round++) {
      const bytes = source.slice(0, random() < 0.2 ? Math.floor(random() * source.length) : source.length);
      for (let n = 1 + Math.floor(random() * 6); n > 0; n--)
        bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
      const started = performance.now();
      try {
        const { issueCount, rows } = await read({ [path]: new Blob([bytes]) });
        if (issueCount > 0 || rows.length === 0) damaged++;
      } catch (error) {
        damaged++;
        expect((error as Error).name, String((error as Error).stack)).toMatch(/^Bad(Input|Checkpoint)$/);
      }
      expect(performance.now() - started).toBeLessThan(2000);
    }
  }
  expect(damaged).toBeGreaterThan(100);
});
