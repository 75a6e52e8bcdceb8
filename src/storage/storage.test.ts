import "fake-indexeddb/auto";
import { afterEach, expect, test, vi } from "vitest";
import { isError } from "../errors.ts";
import {
  deleteManifest,
  deleteRecord,
  deleteShards,
  getManifest,
  getRecord,
  getShard,
  listManifests,
  listRecords,
  listShards,
  modelsWithShards,
  putManifest,
  putRecord,
  putShard,
  storageSpace,
  withLock,
} from "./index.ts";

const realPut = IDBObjectStore.prototype.put;
afterEach(() => {
  IDBObjectStore.prototype.put = realPut;
  vi.unstubAllGlobals();
});
const shard = (index: number, ...bytes: number[]) =>
  [{ index, bytes: bytes.length, sha256: "ab" }, new Uint8Array(bytes)] as const;

test("shards are kept by model and index, listed in order, deleted together", async () => {
  for (const index of [10, 2, 0]) await putShard("m", ...shard(index, index, 1));
  await putShard("m2", ...shard(0, 7));
  expect((await listShards("m")).map(({ index }) => index)).toEqual([0, 2, 10]);
  expect(await getShard("m", 10)).toEqual(new Uint8Array([10, 1]));
  expect(await getShard("m", 1)).toBeUndefined();
  expect(await modelsWithShards()).toEqual(["m", "m2"]);
  await deleteShards("m");
  expect(await listShards("m")).toEqual([]);
  expect(await getShard("m2", 0)).toEqual(new Uint8Array([7]));
  expect(await modelsWithShards()).toEqual(["m2"]);
});

test("a shard whose second part fails leaves nothing behind, also not its first part", async () => {
  let calls = 0;
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    if (++calls === 2) throw new DOMException("full", "QuotaExceededError");
    return realPut.call(this, value, key);
  };
  const error: unknown = await putShard("q", ...shard(0, 1)).catch((e: unknown) => e);
  expect(isError(error, "Quota")).toBe(true);
  IDBObjectStore.prototype.put = realPut;
  expect(await getShard("q", 0)).toBeUndefined();
  expect(await listShards("q")).toEqual([]);
});

test("a shard is not stored before its transaction is: an abort at the end is a failure", async () => {
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    const request = realPut.call(this, value, key);
    request.addEventListener("success", () => this.transaction.abort());
    return request;
  };
  await expect(putShard("late", ...shard(0, 1))).rejects.toThrow(/storage/);
  IDBObjectStore.prototype.put = realPut;
  expect(await listShards("late")).toEqual([]);
});

test("where no Blob can be stored, the bytes are", async () => {
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    if (value instanceof Blob) throw new DOMException("no blobs here", "DataCloneError");
    return realPut.call(this, value, key);
  };
  await putShard("plain", ...shard(0, 1, 2, 3));
  expect(await getShard("plain", 0)).toEqual(new Uint8Array([1, 2, 3]));
});

test("something else in a shard's place is no shard", async () => {
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    return realPut.call(this, value instanceof Blob ? "text" : value, key);
  };
  await putShard("odd", ...shard(0, 1));
  expect(await getShard("odd", 0)).toBeUndefined();
});

test("manifests", async () => {
  await putManifest("a", { id: "a", n: 1 });
  await putManifest("b", { id: "b" });
  await putManifest("a", { id: "a", n: 2 });
  expect(await getManifest("a")).toEqual({ id: "a", n: 2 });
  expect(await listManifests()).toEqual([{ id: "a", n: 2 }, { id: "b" }]);
  await deleteManifest("a");
  expect(await getManifest("a")).toBeUndefined();
});

test("records of one kind do not meet those of another", async () => {
  await putRecord("conversation", "1", { title: "one" });
  await putRecord("conversation", "2", { title: "two" });
  await putRecord("setting", "1", "dark");
  expect(await listRecords("conversation")).toEqual([
    { id: "1", value: { title: "one" } },
    { id: "2", value: { title: "two" } },
  ]);
  await deleteRecord("conversation", "1");
  expect(await getRecord("conversation", "1")).toBeUndefined();
  expect(await getRecord("setting", "1")).toBe("dark");
  await expect(putRecord("setting", "f", () => 0)).rejects.toThrow(/storage/);
});

test("space: what the browser says, or no bound where it says nothing", async () => {
  vi.stubGlobal("navigator", {});
  expect(await storageSpace()).toEqual({ used: 0, quota: Number.POSITIVE_INFINITY, persistent: false });
  vi.stubGlobal("navigator", {
    storage: { estimate: async () => ({ usage: 5, quota: 9 }), persisted: async () => true },
  });
  expect(await storageSpace()).toEqual({ used: 5, quota: 9, persistent: true });
});

test("a lock without Web Locks is held by one at a time and given back after a failure", async () => {
  vi.stubGlobal("navigator", {});
  const inner = withLock("x", "busy now", () => withLock("x", "busy now", async () => 1));
  await expect(inner).rejects.toThrow("busy now");
  await expect(withLock("x", "", async () => Promise.reject(new Error("inside")))).rejects.toThrow("inside");
  expect(await withLock("x", "", async () => withLock("y", "", async () => 2))).toBe(2);
});
