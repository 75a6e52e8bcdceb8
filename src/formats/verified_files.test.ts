import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { seeded } from "../../e2e/hub_server.ts";
import { isError } from "../errors.ts";
import { BlobFileSet } from "./blob_files.ts";
import type { FileEntry, FileSet } from "./file_set.ts";
import { MergedFiles, mergeRanges } from "./merged_files.ts";
import { type HashState, hashHex, hashOnward } from "./source_hash.ts";
import { VerifiedFiles } from "./verified_files.ts";

const data = Uint8Array.from({ length: 300_001 }, (_, i) => (i * 7 + (i >> 8)) & 255);
const sha256 = createHash("sha256").update(data).digest("hex");
const hash = async (state: HashState | undefined, bytes: Uint8Array) => hashOnward(state, bytes);

const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

/** One file "w" whose list names this hash; counts what is read of it. */
function source(listed = sha256): FileSet & { reads: [number, number][] } {
  const blobs = new BlobFileSet("x", [{ path: "w", file: new Blob([data]) }]);
  const reads: [number, number][] = [];
  const list = async (): Promise<FileEntry[]> => [{ path: "w", size: data.length, sha256: listed }];
  const read: FileSet["read"] = async (path, offset, length) => {
    reads.push([offset, length]);
    return await blobs.read(path, offset, length);
  };
  const rest = { name: "x", identity: "x", describe: () => "x", has: async () => true, text: async () => "" };
  return { ...rest, list, read, reads, size: async () => data.length };
}

test("a hash that is stored and gone on with is that of all the bytes", () => {
  let state: HashState | undefined;
  for (let i = 0; i < data.length; i += 777) state = structuredClone(hashOnward(state, data.subarray(i, i + 777)));
  expect(hashHex(state)).toBe(sha256);
  expect(hashHex(undefined)).toBe(createHash("sha256").digest("hex"));
});

test.each([
  ["much room", 1 << 20],
  ["little room", 20_000],
])("pieces in any order, some twice and some never, with %s to wait", async (_, room) => {
  const random = seeded(3);
  const files = new VerifiedFiles(source(), room);
  expect(await files.start(["w", "other"], hash)).toEqual(["w"]);
  const starts = Array.from({ length: 60 }, () => Math.floor(random() * (data.length - 9000)));
  await Promise.all(
    starts.map(async (at) => expect(same(await files.read("w", at, 9000), data.slice(at, at + 9000))).toBe(true)),
  );
  await files.finish();
});

test("read in order, nothing is read twice", async () => {
  const inner = source();
  const files = new VerifiedFiles(inner, 1 << 20);
  await files.start(["w"], hash);
  for (let at = 0; at < data.length; at += 10_000) await files.read("w", at, Math.min(10_000, data.length - at));
  await files.finish();
  expect(inner.reads.reduce((sum, [, length]) => sum + length, 0)).toBe(data.length);
});

test("scales that lie behind all codes and come with them are read again, but not the codes", async () => {
  const inner = source();
  const room = 8000;
  const files = new VerifiedFiles(inner, room);
  await files.start(["w"], hash);
  for (let i = 0; i < 27; i++) {
    await files.read("w", 270_000 + i * 1000, 1000);
    await files.read("w", i * 10_000, 10_000);
  }
  await files.finish();
  const read = inner.reads.reduce((sum, [, length]) => sum + length, 0);
  expect(read).toBe(data.length + 27_000 - room);
});

test("goes on from the states of an earlier import", async () => {
  const first = new VerifiedFiles(source(), 1 << 20);
  await first.start(["w"], hash);
  await first.read("w", 0, 120_000);
  const states = structuredClone(await first.settle());
  expect(states.w?.bytesHashed).toBe(120_000);
  const inner = source();
  const second = new VerifiedFiles(inner, 1 << 20);
  await second.start(["w"], hash, states);
  await second.finish();
  expect(inner.reads[0]![0]).toBe(120_000);
});

test("another hash than the list names is an error with the file's name; where none is named, nothing is compared", async () => {
  const files = new VerifiedFiles(source("0".repeat(64)), 1 << 20);
  await files.start(["w"], hash);
  const error: unknown = await files.finish().catch((e: unknown) => e);
  expect(isError(error, "BadCheckpoint")).toBe(true);
  expect((error as Error).message).toMatch(/^w: expected SHA-256 000000000000….*nothing of them is kept/);
  const plain = new VerifiedFiles(new BlobFileSet("x", [{ path: "w", file: new Blob([data]) }]));
  expect(await plain.start(["w"], hash)).toEqual([]);
});

test("small neighbours are one range, large ones and far ones are not", () => {
  const range = (offset: number, bytes: number, path = "a") => ({ path, offset, bytes });
  const merged = mergeRanges([
    ...[range(5000, 100), range(0, 1000), range(1000, 0), range(1000, 4000)],
    ...[range(10_000, 2 << 20), range(600_000, 10), range(0, 10, "b")],
  ]);
  expect(merged.map(({ path, offset, bytes, left }) => [path, offset, bytes, left])).toEqual([
    ["a", 0, 5100, 5100],
    ["a", 600_000, 10, 10],
    ["b", 0, 10, 10],
  ]);
});

test("merged reads give the same bytes with fewer requests", async () => {
  const inner = source();
  const files = new MergedFiles(inner);
  const ranges = Array.from({ length: 100 }, (_, i) => ({ path: "w", offset: i * 3000, bytes: 2000 }));
  files.expect(ranges);
  await Promise.all(
    ranges.map(async ({ offset, bytes }) =>
      expect(same(await files.read("w", offset, bytes), data.slice(offset, offset + bytes))).toBe(true),
    ),
  );
  expect(inner.reads).toEqual([[0, 299_000]]);
});
