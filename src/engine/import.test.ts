import "fake-indexeddb/auto";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import {
  assemble,
  failure,
  files,
  importNow,
  request,
  SHARD_BYTES,
  shapes,
  slots,
  storedBytes,
  weights,
} from "../../e2e/import_fixture.ts";
import { isError } from "../errors.ts";
import { BlobFileSet, type ModelManifest } from "../formats/index.ts";
import { writeSafetensors } from "../formats/safetensors.ts";
import { listShards, putShard } from "../storage/index.ts";
import { importModel, planImport } from "./import.ts";
import { deleteModel, listModels, openModel, verifyModel } from "./import_models.ts";
import { shardPieces } from "./import_plan.ts";
import { inlineEncoder } from "./import_shard.ts";
import { type LoadedShard, readShards } from "./read_shards.ts";

const realPut = IDBObjectStore.prototype.put;

beforeEach(async () => {
  for (const { id } of await listModels()) await deleteModel(id);
});
afterEach(() => {
  IDBObjectStore.prototype.put = realPut;
  vi.unstubAllGlobals();
});

test("a source in several shard files, f16 and f32 gives what one bf16 file gives", async () => {
  const one = await importNow({ files: files(undefined, "one") });
  const halves = ["q", "norm", "column"];
  const file = (names: string[]) =>
    writeSafetensors(
      names.map((name) => ({ name, dtype: "F32", shape: shapes[name]!, bytes: new Uint8Array(weights[name]!.buffer) })),
    );
  const rest = Object.keys(shapes).filter((name) => !halves.includes(name));
  const map = Object.fromEntries(
    Object.keys(shapes).map((name) => [name, halves.includes(name) ? "a.safetensors" : "b.safetensors"]),
  );
  const parts: Record<string, BlobPart> = {
    "config.json": '{"model_type":"test"}',
    "tokenizer.json": "{}",
    "model.safetensors.index.json": JSON.stringify({ weight_map: map }),
    "a.safetensors": file(halves),
    "b.safetensors": file(rest),
  };
  const set = new BlobFileSet(
    "several",
    Object.entries(parts).map(([path, data]) => ({ path, file: new Blob([data]) })),
  );
  const job = await planImport(request({ files: set }));
  expect(job.warnings).toEqual([expect.stringMatching(/F32.*rounded/)]);
  const several = await importModel(job);
  // Shards follow the order of the files; what they hold is the same.
  const planes = async ({ id }: ModelManifest) => {
    const manifest = await openModel(id);
    const shards: LoadedShard[] = [];
    for await (const shard of readShards(manifest)) shards.push(shard);
    const found = assemble(manifest, shards);
    return Object.fromEntries(manifest.slots.map(({ name }, i) => [name, found[i]]));
  };
  expect(await planes(several)).toEqual(await planes(one));
});

test("NaN weights are named with tensor and row; the model does not look complete", async () => {
  const set = files((tensors) => {
    new Uint16Array(tensors.v!.buffer)[7 * 96 + 3] = 0x7fc0;
  });
  const error = await failure(importNow({ files: set }));
  expect(isError(error, "BadCheckpoint")).toBe(true);
  expect(error.message).toMatch(/^v: .*NaN.* row 7, column 3/);
  const [model] = await listModels();
  expect(model?.state).toBe("importing");
  expect(isError(await failure(openModel(model!.id)), "NotFound")).toBe(true);
});

test("a quota that is too small is said before the first byte is written", async () => {
  vi.stubGlobal("navigator", { storage: { estimate: async () => ({ usage: 1_000_000, quota: 1_001_000 }) } });
  const puts = vi.spyOn(IDBObjectStore.prototype, "put");
  const job = await planImport(request());
  expect(job.quotaFree).toBe(1000);
  const error = await failure(importModel(job));
  puts.mockRestore();
  expect(isError(error, "Quota")).toBe(true);
  expect(error.message).toMatch(/needs 0 MB more storage.*only 0 MB.*nothing has been written/);
  expect(puts).not.toHaveBeenCalled();
});

test("a quota that runs out in the middle: told so, resumable, and the end is as if nothing had happened", async () => {
  const undisturbed = await storedBytes(await importNow({ files: files(undefined, "other place") }));
  let room = 2 * SHARD_BYTES;
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    if (value instanceof Blob) {
      room -= value.size;
      if (room < 0) throw new DOMException("full", "QuotaExceededError");
    }
    return realPut.call(this, value, key);
  };
  const error = await failure(importNow());
  expect(isError(error, "Quota")).toBe(true);
  const half = (await listModels()).find((model) => model.state === "importing")!;
  expect(half.bytesStored).toBeGreaterThan(0);
  expect(half.bytesStored).toBeLessThan(half.bytesTotal);
  expect(isError(await failure(openModel(half.id)), "NotFound")).toBe(true);

  IDBObjectStore.prototype.put = realPut;
  const job = await planImport(request());
  expect(job.existing).toBe("partial");
  expect(job.bytesAlreadyStored).toBe(half.bytesStored);
  const before = (await listShards(job.id)).length;
  let puts = 0;
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    if (value instanceof Blob) puts++;
    return realPut.call(this, value, key);
  };
  const manifest = await importModel(job);
  expect(puts).toBe(manifest.shards.length - before);
  expect(await storedBytes(manifest)).toEqual(undisturbed);
});

test("cancel keeps what is stored; the next import goes on and progress counts what was there", async () => {
  const abort = new AbortController();
  const onProgress = ({ shard }: { shard: number }) => {
    if (shard === 1) abort.abort();
  };
  const error = await failure(importNow({}, { signal: abort.signal, onProgress }));
  expect(isError(error, "Cancelled")).toBe(true);
  const [half] = await listModels();
  expect(half!.bytesStored).toBeGreaterThan(0);
  const seen: { phase: string; bytesDone: number; bytesTotal: number; shard: number; shards: number }[] = [];
  const manifest = await importNow({}, { onProgress: (progress) => seen.push(progress) });
  expect(seen[0]!.phase).toBe("Checking what is stored");
  expect(seen.find(({ phase }) => phase === "Reading and storing")!.bytesDone).toBeGreaterThan(0);
  expect(seen.at(-1)).toMatchObject({ shard: manifest.shards.length, shards: manifest.shards.length });
  expect(seen.at(-1)!.bytesDone / seen.at(-1)!.bytesTotal).toBeGreaterThan(0.95);
  for (let i = 1; i < seen.length; i++) {
    if (seen[i]!.phase === seen[i - 1]!.phase)
      expect(seen[i]!.bytesDone).toBeGreaterThanOrEqual(seen[i - 1]!.bytesDone);
  }
});

test("an import that is already complete is not made again", async () => {
  const manifest = await importNow();
  const job = await planImport(request());
  expect(job.existing).toBe("complete");
  const again = await importModel(job);
  expect(again.created).toBe(manifest.created);
  expect(again.shards).toEqual(manifest.shards);
});

test("a half-written shard of an interrupted import is made again", async () => {
  const abort = new AbortController();
  const stop = ({ shard }: { shard: number }) => shard === 2 && abort.abort();
  await failure(importNow({}, { signal: abort.signal, onProgress: stop }));
  const [half] = await listModels();
  const [first] = await listShards(half!.id);
  await putShard(half!.id, first!, new Uint8Array(first!.bytes));
  const manifest = await importNow();
  expect(await verifyModel(manifest.id)).toEqual({ damaged: [] });
  const fresh = await importNow({ files: files(undefined, "fresh") });
  expect(await storedBytes(manifest)).toEqual(await storedBytes(fresh));
});

test("two importers at once: the second is told so, and the first is not disturbed", async () => {
  const first = importNow();
  const job = await planImport(request());
  const second = importModel(job);
  const error = await failure(second);
  expect(isError(error, "Busy")).toBe(true);
  expect(error.message).toMatch(/another tab/);
  expect((await first).state).toBe("complete");
  expect((await importModel(job)).state).toBe("complete");
});

test("the lock is the browser's where it has one", async () => {
  const held = new Set<string>();
  const locks = {
    request: async (name: string, options: { ifAvailable: boolean }, action: (lock: unknown) => Promise<unknown>) => {
      expect(options.ifAvailable).toBe(true);
      if (held.has(name)) return await action(null);
      held.add(name);
      try {
        return await action({ name });
      } finally {
        held.delete(name);
      }
    },
  };
  vi.stubGlobal("navigator", { locks });
  const job = await planImport(request());
  const results = await Promise.allSettled([importModel(job), importModel(job), deleteModel(job.id)]);
  expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "rejected"]);
});

test("a source that has changed is refused, unless a restart is asked for", async () => {
  const first = await importNow();
  const changed = files((tensors) => void new Uint16Array(tensors.q!.buffer).fill(0x3c00));
  const fewer = request({ files: changed });
  const job = await planImport(fewer);
  expect(job.existing).toBe("changed");
  expect(job.bytesAlreadyStored).toBe(0);
  const error = await failure(importModel(job));
  expect(isError(error, "BadInput")).toBe(true);
  expect(error.message).toMatch(/has changed/);
  expect(await verifyModel(first.id)).toEqual({ damaged: [] });
  const restarted = await importModel(await planImport({ ...fewer, restart: true }));
  expect(restarted.id).toBe(first.id);
  expect((await listShards(first.id)).length).toBe(restarted.shards.length);
  expect(await verifyModel(first.id)).toEqual({ damaged: [] });
});

test("weights that change while they are read cannot slip into a repair", async () => {
  const manifest = await importNow();
  await putShard(manifest.id, { index: 0, bytes: 1, sha256: "0" }, new Uint8Array(1));
  const set = files();
  const job = await planImport(request({ files: set }));
  const read = set.read.bind(set);
  set.read = async (...range) => (await read(...range)).fill(0x3c);
  const error = await failure(importModel(job));
  expect(isError(error, "BadInput")).toBe(true);
  expect(error.message).toMatch(/now gives other weights/);
  expect(await verifyModel(manifest.id)).toEqual({ damaged: [0] });
});

test("importing holds two shards at most: the next is begun only when the one before the last is written", async () => {
  const job = await planImport(request());
  const shardOf = new Map<string, number>();
  for (const [index, shard] of job.manifest.shards.entries()) {
    for (const { tensor, row0 } of shardPieces(shard, slots, job.checkpoint!, 8 << 20))
      shardOf.set(`${tensor} ${row0}`, index);
  }
  // Hashing takes its time, so that a pipeline without a bound would run ahead.
  const digest = crypto.subtle.digest.bind(crypto.subtle);
  const slow = vi.spyOn(crypto.subtle, "digest").mockImplementation(async (...args) => {
    await new Promise((resolve) => setTimeout(resolve, 10));
    return await digest(...args);
  });
  let written = 0;
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    if (value instanceof Blob) written++;
    return realPut.call(this, value, key);
  };
  const ahead: number[] = [];
  const encoder = {
    ...inlineEncoder,
    encode: async (...args: Parameters<typeof inlineEncoder.encode>) => {
      ahead.push(shardOf.get(`${args[0].tensor} ${args[0].row0}`)! - written);
      return await inlineEncoder.encode(...args);
    },
  };
  await importModel(job, { encoder });
  slow.mockRestore();
  expect(written).toBe(job.manifest.shards.length);
  expect(Math.max(...ahead)).toBe(1);
});
