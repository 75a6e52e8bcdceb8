import "fake-indexeddb/auto";
import { beforeEach, expect, test } from "vitest";
import { failure, files, importNow, request, slots, storedBytes } from "../../e2e/import_fixture.ts";
import { isError } from "../errors.ts";
import { BlobFileSet, type FileSet, writeZip, writeZipTo, ZipFileSet } from "../formats/index.ts";
import { putShard } from "../storage/index.ts";
import { type ExportedFile, exportFiles } from "./export_model.ts";
import { importModel, planImport } from "./import.ts";
import { deleteModel, listModels, openModel } from "./import_models.ts";

const shapes = () => new Map(slots.map(({ name, rows, cols }) => [name, [rows, cols] as const]));

beforeEach(async () => {
  for (const { id } of await listModels()) await deleteModel(id);
});

async function exported(id: string): Promise<ExportedFile[]> {
  const found: ExportedFile[] = [];
  for await (const file of exportFiles(id)) found.push(file);
  return found;
}
const folder = (list: ExportedFile[], name = "shared") =>
  new BlobFileSet(
    name,
    list.map(({ path, data }) => ({ path: `${name}/${path}`, file: new Blob([data]) })),
  );
const open = async (source: FileSet) => await importModel(await planImport({ ...request(), files: source, shapes }));

/** A model, what it is made of, and its export; the model itself is deleted. */
async function shared() {
  const manifest = await importNow({ files: files(undefined, "original") });
  const [bytes, { texts }] = [await storedBytes(manifest), await openModel(manifest.id)];
  const list = await exported(manifest.id);
  await deleteModel(manifest.id);
  return { manifest, bytes, texts, list };
}

test("what one visitor exports another opens, with the same bytes, texts and licence", async () => {
  const { manifest, bytes, texts, list } = await shared();
  expect(list.map(({ path }) => path).at(-1)).toBe("tabtune.json");
  const again = await open(folder(list));
  expect(await storedBytes(again)).toEqual(bytes);
  const opened = await openModel(again.id);
  expect(opened.texts).toEqual(texts);
  for (const key of ["name", "licence", "config", "scheme", "slots", "parameters"] as const)
    expect(opened[key]).toEqual(manifest[key]);
  expect(opened.source).toBe("folder “shared”, made from folder “original”");
  // And what that one exports is the same again, but for the place that it names.
  const twice = await exported(again.id);
  expect(twice.slice(0, -1)).toEqual(list.slice(0, -1));
});

test("as an archive: built in one piece, or written to a file as it is made", async () => {
  const { bytes, list } = await shared();
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  const target = new WritableStream<Uint8Array>({
    write: (chunk) => void pieces.push(chunk.slice()),
  });
  await writeZipTo(target, list);
  for (const blob of [await writeZip(list), new Blob(pieces)]) {
    const again = await open(await ZipFileSet.open("model.zip", blob));
    expect(await storedBytes(again)).toEqual(bytes);
    await deleteModel(again.id);
  }
});

test("a damaged model is not handed on", async () => {
  const manifest = await importNow();
  const [, second] = await storedBytes(manifest);
  const wrong = second!.slice() as Uint8Array<ArrayBuffer>;
  wrong[5]! ^= 1;
  await putShard(manifest.id, { index: 1, bytes: wrong.length, sha256: "0" }, wrong);
  const error = await failure(exported(manifest.id));
  expect([isError(error, "DamagedShard"), error.message]).toEqual([true, expect.stringMatching(/^Part 2 of test/)]);
});

test("a copy with a wrong byte is found out, the file is named, and no model looks complete", async () => {
  const { list } = await shared();
  for (const [part, message] of [
    [list.find(({ path }) => path === "shards/00001.bin")!, /^shards\/00001\.bin: expected SHA-256/],
    [list.find(({ path }) => path === "texts/tokenizer.json")!, /^texts\/tokenizer\.json: expected SHA-256/],
  ] as const) {
    const data =
      typeof part.data === "string"
        ? part.data.replace("hello", "hullo")
        : part.data.map((b, i) => (i === 9 ? b ^ 1 : b));
    const error = await failure(open(folder(list.map((file) => (file === part ? { ...file, data } : file)))));
    expect([isError(error, "BadCheckpoint"), error.message]).toEqual([true, expect.stringMatching(message)]);
    expect((await listModels()).filter(({ state }) => state === "complete")).toEqual([]);
  }
});

// biome-ignore lint/suspicious/noExplicitAny: a list that somebody has changed
type Index = any;
test.each<[string, (index: Index) => void, RegExp]>([
  [
    "another format",
    (index) => {
      index.format = "x";
    },
    /expected the format "tabtune-model", found "x"/,
  ],
  [
    "another version",
    (index) => {
      index.version = 99;
    },
    /version.*found 99: another version of this page/,
  ],
  [
    "a path that leads out",
    (index) => {
      index.shards[0].path = "../x";
    },
    /expected shards\/00000\.bin/,
  ],
  [
    "a text that leads out",
    (index) => {
      index.texts[0].path = "texts/../../x";
    },
    /tabtune\.json: expected texts/,
  ],
  [
    "a hash that is none",
    (index) => {
      index.shards[0].sha256 = "x";
    },
    /expected shards\/00000\.bin/,
  ],
  [
    "an unknown scheme",
    (index) => {
      index.slots[0].scheme = "q2";
    },
    /a slot that this page does not know/,
  ],
  [
    "rows without end",
    (index) => {
      index.slots[0].rows = 1e9;
    },
    /qkv: not all of its 1000000000 rows|does not fit/,
  ],
  ["a missing part", (index) => void index.shards[0].chunks.pop(), /not all of its|does not fit/],
  [
    "a part outside its shard",
    (index) => {
      index.shards[0].bytes = 8;
    },
    /does not fit/,
  ],
  [
    "parts that overlap",
    (index) => {
      index.shards[1].chunks.at(-1).codesOffset = -16;
    },
    /does not fit/,
  ],
  [
    "no shards",
    (index) => {
      index.shards = [];
    },
    /expected 1 to 4096 shards, found 0/,
  ],
  [
    "a shard that is null",
    (index) => {
      index.shards[0] = null as never;
    },
    /expected shards\/00000\.bin with bytes and sha256, found null/,
  ],
  [
    "a slot too many",
    (index) => void index.slots.push({ ...index.slots[1], name: "x" }),
    /not all of its|weights for its config/,
  ],
  [
    "weights of another config",
    (index) => {
      index.slots[1].name = "x";
    },
    /norm: expected \[1, 96\].*found none/,
  ],
  [
    "a name of 200 lists in each other",
    (index) => {
      index.slots[0]!.name = JSON.parse("[".repeat(200) + "]".repeat(200)) as string;
    },
    /nested more than 100 levels deep\. Export the model again/,
  ],
  [
    "nothing",
    (index) => {
      for (const key of Object.keys(index)) delete index[key];
    },
    /found undefined/,
  ],
])("a list with %s is refused", async (_, change, message) => {
  const { list } = await shared();
  const index = JSON.parse(list.at(-1)!.data as string) as Index;
  change(index);
  const error = await failure(
    open(folder([...list.slice(0, -1), { path: "tabtune.json", data: JSON.stringify(index) }])),
  );
  expect([isError(error, "BadCheckpoint"), error.message]).toEqual([true, expect.stringMatching(message)]);
  expect(await listModels()).toEqual([]);
});
