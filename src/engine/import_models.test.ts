import "fake-indexeddb/auto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createStore, delMany } from "idb-keyval";
import { beforeEach, expect, test } from "vitest";
import {
  assemble,
  failure,
  files,
  importNow,
  request,
  slots,
  slotValues,
  storedBytes,
} from "../../e2e/import_fixture.ts";
import { isError } from "../errors.ts";
import { BlobFileSet, type Checkpoint, type SlotScheme, type WeightSlot } from "../formats/index.ts";
import { dequantizeRows } from "../formats/quant/planes.ts";
import { listShards, putShard } from "../storage/index.ts";
import { importModel, planImport } from "./import.ts";
import { deleteModel, listModels, openModel, verifyModel } from "./import_models.ts";
import { type LoadedShard, readShards } from "./read_shards.ts";

beforeEach(async () => {
  for (const { id } of await listModels()) await deleteModel(id);
});

test("what is imported comes back as the weights of the checkpoint", async () => {
  const manifest = await importNow();
  const opened = await openModel(manifest.id);
  expect(opened).toMatchObject({ state: "complete", licence: "apache-2.0", config: { model_type: "test" } });
  expect(opened.texts).toEqual({ "tokenizer.json": '{"hello":"é"}' });
  expect(opened.shards.length).toBeGreaterThan(2);
  expect(opened.parameters).toBe(80 * 96 + 96 + 240 + 5);
  const shards: LoadedShard[] = [];
  for await (const shard of readShards(opened)) shards.push(shard);
  const planes = assemble(opened, shards);
  slots.forEach((slot, i) => {
    const found = dequantizeRows(slot.scheme, planes[i] as never, slot.rows, slot.cols);
    const expected = slotValues(slot);
    if (slot.scheme !== "q4a32") expect([...found]).toEqual(expected);
    else found.forEach((x, k) => void expect(Math.abs(x - expected[k]!)).toBeLessThan(0.1 / 15));
  });
});

test.each<[string, (id: string, bytes: Uint8Array<ArrayBuffer>) => Promise<void>]>([
  [
    "one flipped bit",
    async (id, bytes) => {
      bytes[100]! ^= 4;
      await putShard(id, { index: 1, bytes: bytes.length, sha256: "0" }, bytes);
    },
  ],
  ["half of it", async (id, bytes) => await putShard(id, { index: 1, bytes: 9, sha256: "0" }, bytes.slice(0, 500))],
  [
    "nothing",
    async (id) => {
      const store = createStore("tabtune-weights", "shards");
      await delMany(
        [
          [id, "data", 1],
          [id, "info", 1],
        ],
        store,
      );
    },
  ],
])("a shard with %s is detected, named and repaired", async (_, damage) => {
  const manifest = await importNow();
  const good = await storedBytes(manifest);
  await damage(manifest.id, good[1]!.slice());
  const read = async () => {
    const seen: number[] = [];
    for await (const shard of readShards(manifest)) seen.push(shard.index);
    return seen;
  };
  const error = await failure(read());
  expect(isError(error, "DamagedShard")).toBe(true);
  expect(error.message).toMatch(new RegExp(`^Shard 2 of ${manifest.shards.length} of test is damaged`));
  expect(await verifyModel(manifest.id)).toEqual({ damaged: [1] });

  let reads = 0;
  const set = files();
  const original = set.read.bind(set);
  set.read = async (path, offset, length, signal) => {
    reads += length;
    return await original(path, offset, length, signal);
  };
  const job = await planImport(request({ files: set }));
  const before = reads;
  await importModel(job);
  expect(reads - before).toBeLessThan(job.bytesToRead);
  expect(await verifyModel(manifest.id)).toEqual({ damaged: [] });
  expect(await storedBytes(manifest)).toEqual(good);
  expect(await read()).toEqual([...manifest.shards.keys()]);
});

test("models are listed with what they take, deleted with all shards, and orphans are freed", async () => {
  const a = await importNow();
  const b = await importNow({ files: files(undefined, "b"), name: "B" });
  const models = await listModels();
  expect(models.map((model) => model.name).sort()).toEqual(["B", "test"]);
  for (const model of models) {
    expect(model).toMatchObject({ state: "complete", bytesStored: a.bytesTotal, bytesTotal: a.bytesTotal });
  }
  await deleteModel(a.id);
  expect((await listModels()).map((model) => model.id)).toEqual([b.id]);
  expect(await listShards(a.id)).toEqual([]);
  expect(await verifyModel(b.id)).toEqual({ damaged: [] });
  await putShard("orphan", { index: 0, bytes: 3, sha256: "0" }, new Uint8Array(3));
  expect((await listModels()).map((model) => model.id)).toEqual([b.id]);
  expect(await listShards("orphan")).toEqual([]);
  expect(await verifyModel(b.id)).toEqual({ damaged: [] });
});

test("opening what is not there says so", async () => {
  expect(isError(await failure(openModel("nothing")), "NotFound")).toBe(true);
  expect(isError(await failure(verifyModel("nothing")), "NotFound")).toBe(true);
});

const reference = fileURLToPath(new URL("../../../shared/reference/s-0/checkpoint", import.meta.url));
test.skipIf(!existsSync(reference))(
  "the reference checkpoint (../shared/reference/s-0) as bf16 is exact, as 4 bits is close",
  { timeout: 60_000 },
  async () => {
    const parts = readdirSync(reference).map((path) => ({
      path,
      file: new Blob([readFileSync(`${reference}/${path}`)]),
    }));
    const set = new BlobFileSet("s-0", parts);
    const slotsOf = (scheme: SlotScheme) => (checkpoint: Checkpoint) =>
      [...checkpoint.tensors.values()].map(({ name, shape }) => {
        const flat = shape.length === 1;
        const rows = flat ? 1 : shape[0]!;
        const cols = flat ? shape[0]! : shape.slice(1).reduce((a, b) => a * b);
        return { name, sources: [{ tensor: name, rows }], rows, cols, scheme: flat ? "f32" : scheme } as WeightSlot;
      });
    for (const scheme of ["bf16", "q4a32"] as const) {
      const job = await planImport({ files: set, scheme, slots: slotsOf(scheme), shardBytes: 1 << 18 });
      const manifest = await importModel(job);
      const shards: LoadedShard[] = [];
      for await (const shard of readShards(manifest)) shards.push(shard);
      const planes = assemble(manifest, shards);
      for (const [i, slot] of manifest.slots.entries()) {
        const found = dequantizeRows(slot.scheme, planes[i] as never, slot.rows, slot.cols);
        const raw = await job.checkpoint!.readRows(slot.name, 0, job.checkpoint!.tensors.get(slot.name)!.shape[0]!);
        const expected = new Float32Array(Uint32Array.from(new Uint16Array(raw.buffer), (u) => u << 16).buffer);
        if (slot.scheme !== "q4a32") expect(found).toEqual(expected);
        else {
          let error = 0;
          let norm = 0;
          expected.forEach((x, k) => {
            error += (x - found[k]!) ** 2;
            norm += x * x;
          });
          expect(Math.sqrt(error / norm), slot.name).toBeLessThan(0.1);
        }
      }
    }
  },
);
