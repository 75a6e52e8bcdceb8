import { promisifyRequest } from "idb-keyval";
import { isError } from "../errors.ts";
import { committed, keysUnder, transact } from "./stores.ts";

/** What is known of a stored shard without reading it. */
export interface ShardInfo {
  index: number;
  bytes: number;
  /** Lower-case hex of the bytes as they were when written. */
  sha256: string;
}

/*
 * Keys: [model, "data", index] holds the bytes, [model, "info", index] the rest. Both are written in one transaction, so a shard
 * whose info is there was handed over whole; whether it still is, only its hash can tell.
 *
 * The bytes are kept as a Blob: in Chromium 156 a shard of 32 MiB was read at 1,050 to 1,130 MB/s as a Blob and 460 to 500 MB/s as a
 * Uint8Array, and written at 220 to 335 against 195 to 225 MB/s (2 shared cores, 2026-11-24). Some private windows store no Blobs; there
 * it is the array.
 */

/** Writes one shard. Rejects with `Quota` when the browser gives no more room; nothing of the shard is then kept. */
export async function putShard(model: string, info: ShardInfo, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  try {
    await putValue(model, info, new Blob([bytes]));
  } catch (error) {
    if (isError(error, "Quota")) throw error;
    await putValue(model, info, bytes);
  }
}

async function putValue(model: string, info: ShardInfo, value: Blob | Uint8Array): Promise<void> {
  await transact("weights", "readwrite", async (store) => {
    store.put(value, [model, "data", info.index]);
    store.put(info, [model, "info", info.index]);
    await committed(store);
  });
}

/** The bytes of one shard, unchecked; undefined when it is not there or is not bytes at all. */
export async function getShard(model: string, index: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const value = await transact("weights", "readonly", async (store) => {
    return await promisifyRequest<unknown>(store.get([model, "data", index]));
  });
  if (value instanceof Blob) return new Uint8Array(await value.arrayBuffer());
  return value instanceof Uint8Array ? (value as Uint8Array<ArrayBuffer>) : undefined;
}

/** The shards of one model in order of their index. */
export async function listShards(model: string): Promise<ShardInfo[]> {
  const infos = await transact("weights", "readonly", async (store) => {
    return await promisifyRequest<ShardInfo[]>(store.getAll(keysUnder(model, "info")));
  });
  return infos.sort((a, b) => a.index - b.index);
}

export async function deleteShards(model: string): Promise<void> {
  await transact("weights", "readwrite", async (store) => {
    store.delete(keysUnder(model));
    await committed(store);
  });
}

/** Every model that has shards, whether or not it has a manifest. */
export async function modelsWithShards(): Promise<string[]> {
  return await transact("weights", "readonly", async (store) => {
    const found: string[] = [];
    let after: IDBKeyRange | null = null;
    for (;;) {
      const cursor: IDBCursor | null = await promisifyRequest<IDBCursor | null>(store.openKeyCursor(after));
      const key = cursor?.key;
      if (!Array.isArray(key)) return found;
      const model = String(key[0]);
      found.push(model);
      after = IDBKeyRange.lowerBound([model, []], true);
    }
  });
}
