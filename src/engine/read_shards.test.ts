import { expect, test } from "vitest";
import { isError } from "../errors.ts";
import type { CheckedShard, ModelManifest } from "../formats/index.ts";
import { readShards, type ShardReader } from "./read_shards.ts";

const manifest = (count: number) =>
  ({
    id: "m",
    name: "test",
    source: "somewhere",
    shards: Array.from({ length: count }, () => ({ bytes: 4, sha256: "", chunks: [] })),
  }) as unknown as ModelManifest;

/** A reader whose reads end when the test says so. */
function heldReader(parallel: number) {
  const ends = new Map<number, (shard: CheckedShard) => void>();
  const asked: number[] = [];
  const reader: ShardReader = {
    parallel,
    read: (_, index) => {
      asked.push(index);
      return new Promise((resolve) => ends.set(index, resolve));
    },
  };
  return { reader, asked, end: (index: number, fault?: string) => ends.get(index)!(fault ? { fault } : whole(index)) };
}

const whole = (index: number): CheckedShard => ({ bytes: Uint8Array.of(index) });
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => expect.unreachable("nothing failed"),
    (error: Error) => error,
  );

test("reading begins before anyone asks, ends in any order, and hands over in order", async () => {
  const { reader, asked, end } = heldReader(2);
  const shards = readShards(manifest(5), { reader })[Symbol.asyncIterator]();
  expect(asked).toEqual([0, 1, 2, 3]);
  const first = shards.next();
  end(3);
  end(1);
  end(0);
  expect((await first).value).toMatchObject({ index: 0, bytes: Uint8Array.of(0) });
  expect((await shards.next()).value).toMatchObject({ index: 1, bytes: Uint8Array.of(1) });
  end(2);
  end(4);
  expect((await shards.next()).value.index).toBe(2);
  expect((await shards.next()).value.index).toBe(3);
  expect((await shards.next()).value.index).toBe(4);
  expect((await shards.next()).done).toBe(true);
});

test("no more shards are in memory than the reader works on and two more", async () => {
  let held = 0;
  let most = 0;
  const reader: ShardReader = {
    parallel: 3,
    read: async (_, index) => {
      most = Math.max(most, ++held);
      return whole(index);
    },
  };
  for await (const _ of readShards(manifest(40), { reader })) {
    await new Promise((resolve) => setTimeout(resolve));
    held--;
  }
  expect(most).toBe(5);
  expect(held).toBe(0);
});

test("a damaged shard is named, also when later ones are read before it", async () => {
  const { reader, end } = heldReader(4);
  const seen: number[] = [];
  const reading = (async () => {
    for await (const { index } of readShards(manifest(4), { reader })) seen.push(index);
  })();
  end(3, "it is missing");
  end(2);
  end(0);
  end(1, "expected SHA-256 12…, found 34…");
  const error = await failure(reading);
  expect(isError(error, "DamagedShard")).toBe(true);
  expect(error.message).toMatch(
    /^Shard 2 of 4 of test is damaged: expected SHA-256 12…, found 34…\. Import .* somewhere/,
  );
  expect(seen).toEqual([0]);
});

test("a cancel is seen while a read takes long, and nothing more is begun", async () => {
  const { reader, asked, end } = heldReader(1);
  const controller = new AbortController();
  const { signal } = controller;
  const shards = readShards(manifest(9), { reader, signal })[Symbol.asyncIterator]();
  end(0);
  await shards.next();
  const next = shards.next();
  expect(asked).toEqual([0, 1, 2, 3]);
  controller.abort();
  expect(isError(await failure(next), "Cancelled")).toBe(true);
  expect(asked).toEqual([0, 1, 2, 3]);
  expect(
    isError(await failure(readShards(manifest(9), { reader, signal })[Symbol.asyncIterator]().next()), "Cancelled"),
  ).toBe(true);
});
