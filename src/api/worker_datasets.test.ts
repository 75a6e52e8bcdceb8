import "fake-indexeddb/auto";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { sha256Hex } from "../formats/index.ts";
import { listRecords } from "../storage/index.ts";
import { Datasets } from "./worker_datasets.ts";

const BASE = new URL("http://localhost/");
const bytes = (n: number) =>
  Buffer.concat([
    Buffer.from(
      "iVBORw0KGgoAAAANSUhEUgAAAAQAAAADCAIAAAA7ljmRAAAAEElEQVR4nGP4z8AARww4OQD1MQv1NXv7ggAAAABJRU5ErkJggg==",
      "base64",
    ),
    Buffer.from([n]),
  ]);
const realPut = IDBObjectStore.prototype.put;
beforeEach(() => {
  vi.stubGlobal("navigator", {});
  vi.stubGlobal("createImageBitmap", async () => ({ width: 4, height: 3, close() {} }));
});
afterEach(() => {
  IDBObjectStore.prototype.put = realPut;
  vi.unstubAllGlobals();
});

/** A folder whose rows show these pictures, one each. */
const folder = (...pictures: number[]) => ({
  kind: "files" as const,
  name: "charts",
  files: [
    ...pictures.map((n) => ({ path: `charts/${n}.png`, file: new Blob([bytes(n)]) })),
    {
      path: "charts/data.csv",
      file: new Blob([["image,question,answer", ...pictures.map((n) => `${n}.png,How many?,${n}`)].join("\n")]),
    },
  ],
});
const never = new AbortController().signal;
const draftOf = (datasets: Datasets, ...pictures: number[]) =>
  datasets.readDataset(folder(...pictures), BASE, never, () => {});
const stored = async (kind: "dataset-picture" | "dataset" | "dataset-rows") =>
  (await listRecords(kind)).map((r) => r.id);

test("drop, preview, store, look, edit with undo in another session too, delete with its pictures", async () => {
  const datasets = new Datasets();
  const draft = await draftOf(datasets, 1, 2, 3);
  expect(draft).toMatchObject({ name: "charts", rows: 3, pictures: 3, formats: ["columns"], issues: [] });
  expect(await stored("dataset-picture")).toEqual([]);
  const shown = draft.sample[0]!.messages[0]!.parts[0] as { pictureId: string };
  expect((await datasets.datasetPicture(shown.pictureId)).name).toBe("1.png");
  const { id, hash } = await datasets.storeDataset(draft.id, "Mine");
  await expect(datasets.storeDataset(draft.id, "Mine")).rejects.toThrow(/Drop the files again/);
  expect(await stored("dataset-picture")).toHaveLength(3);

  const other = new Datasets();
  expect(await other.listDatasets()).toMatchObject([{ id, name: "Mine", rows: 3, hash, canUndo: false }]);
  const { rows, total } = await other.datasetRows(id, { from: 1, count: 1 });
  expect([total, rows.length, rows[0]!.number]).toEqual([3, 1, 2]);
  expect((await other.datasetRows(id, { from: 0, count: 9, part: "heldBack" })).total).toBe(1);
  const changed = await other.editDataset(id, { kind: "delete", ids: [rows[0]!.id] });
  expect(changed).toMatchObject({ rows: 2, canUndo: true });
  expect(changed.hash).not.toBe(hash);
  expect(await other.editDataset(id, { kind: "undo" })).toMatchObject({ rows: 3, hash, canUndo: false, canRedo: true });
  // The first session sees what the second one did.
  expect((await datasets.datasetRows(id, { from: 0, count: 9 })).total).toBe(3);
  await other.deleteDataset(id);
  for (const kind of ["dataset", "dataset-rows", "dataset-picture"] as const) expect(await stored(kind)).toEqual([]);
});

test("a picture that another data set shows, now or by undo, stays", async () => {
  const datasets = new Datasets();
  const a = await datasets.storeDataset((await draftOf(datasets, 1, 2)).id, "a");
  const b = await datasets.storeDataset((await draftOf(datasets, 2, 3)).id, "b");
  expect(await stored("dataset-picture")).toHaveLength(3);
  const { rows } = await datasets.datasetRows(b.id, { from: 0, count: 9 });
  await datasets.editDataset(b.id, { kind: "delete", ids: [rows[0]!.id] });
  await datasets.deleteDataset(a.id);
  expect(await stored("dataset-picture")).toHaveLength(2);
  await datasets.deleteDataset(b.id);
  expect(await stored("dataset-picture")).toEqual([]);
});

test("a typed row brings its picture; one with a wrong hash or a picture that is not there is refused", async () => {
  const datasets = new Datasets();
  const { id } = await datasets.createDataset("typed");
  const pictureId = await sha256Hex(bytes(9));
  const row = {
    id: "n1",
    messages: [
      {
        role: "user" as const,
        parts: [
          { type: "image" as const, pictureId },
          { type: "text" as const, text: "q" },
        ],
      },
      { role: "assistant" as const, parts: [{ type: "text" as const, text: "a" }] },
    ],
  };
  await expect(datasets.editDataset(id, { kind: "put", row, pictures: [] })).rejects.toThrow(/is gone/);
  const wrong = [{ id: pictureId, name: "x.png", blob: new Blob([bytes(8)]) }];
  await expect(datasets.editDataset(id, { kind: "put", row, pictures: wrong })).rejects.toThrow(/its SHA-256 is/);
  const pictures = [{ id: pictureId, name: "x.png", blob: new Blob([bytes(9)]) }];
  expect(await datasets.editDataset(id, { kind: "put", row, pictures })).toMatchObject({ rows: 1, pictures: 1 });
  const zip = await datasets.exportDataset(id);
  const again = await datasets.readDataset(
    { kind: "files", name: "z", files: [{ path: "z.zip", file: zip }] },
    BASE,
    never,
    () => {},
  );
  expect(again).toMatchObject({ rows: 1, pictures: 1, issues: [] });
  await datasets.deleteDataset(id);
});

test("edits one after another do not get in each other's way", async () => {
  const datasets = new Datasets();
  const { id } = await datasets.storeDataset((await draftOf(datasets, 1, 2, 3, 4)).id, "x");
  const { rows } = await datasets.datasetRows(id, { from: 0, count: 9 });
  await Promise.all(rows.slice(1).map((row) => datasets.editDataset(id, { kind: "delete", ids: [row.id] })));
  expect((await datasets.datasetRows(id, { from: 0, count: 9 })).rows).toEqual([{ ...rows[0]!, part: "train" }]);
  await datasets.deleteDataset(id);
});

test("a full disk leaves nothing of a new data set, and the draft can be stored later", async () => {
  const datasets = new Datasets();
  const draft = await draftOf(datasets, 5, 6);
  let puts = 0;
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    if (++puts === 3) throw new DOMException("full", "QuotaExceededError");
    return realPut.call(this, value, key);
  };
  await expect(datasets.storeDataset(draft.id, "x")).rejects.toThrow(/no more storage/);
  IDBObjectStore.prototype.put = realPut;
  expect(await stored("dataset-picture")).toEqual([]);
  expect(await datasets.listDatasets()).toEqual([]);
  const { id } = await datasets.storeDataset(draft.id, "x");
  expect(await stored("dataset-picture")).toHaveLength(2);
  await datasets.deleteDataset(id);
});

test("a report of nothing but errors cannot be stored", async () => {
  const datasets = new Datasets();
  const files = [{ path: "data.csv", file: new Blob(["image,question,answer\nx.png,q,"]) }];
  const draft = await datasets.readDataset({ kind: "files", name: "bad", files }, BASE, never, () => {});
  expect([draft.rows, draft.issueCount]).toEqual([0, 1]);
  await expect(datasets.storeDataset(draft.id, "bad")).rejects.toThrow(/no row that can be learnt/);
});
