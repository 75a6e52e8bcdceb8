import { TabTuneError, throwIfCancelled } from "../errors.ts";
import {
  type CheckedShard,
  checkedShard,
  type ModelManifest,
  type ShardChunk,
  type ShardRecord,
} from "../formats/index.ts";
import { getShard } from "../storage/index.ts";

/** Reads stored shards and compares them with their hashes: here, or in other workers. */
export interface ShardReader {
  /** How many it works on at once. */
  readonly parallel: number;
  read(model: string, index: number, shard: ShardRecord): Promise<CheckedShard>;
}

/** A verified shard on its way to the GPU. `bytes` may be dropped or reused by the caller as soon as it is uploaded. */
export interface LoadedShard {
  index: number;
  bytes: Uint8Array<ArrayBuffer>;
  chunks: ShardChunk[];
}

/** Shards that wait for their turn beside those that a reader works on. */
const WAITING = 2;

export const inlineReader: ShardReader = {
  parallel: 1,
  read: async (model, index, shard) => await checkedShard(shard, () => getShard(model, index)),
};

/**
 * The shards in order, each checked against its SHA-256. Reading begins at once and goes on while the caller works: at most `WAITING` more
 * than the reader works on are in memory, if the caller lets go of each before it asks for the next. Throws `DamagedShard` that names the
 * shard, and `Cancelled` also while it waits for one.
 */
export function readShards(
  manifest: ModelManifest,
  { reader = inlineReader, signal }: { reader?: ShardReader; signal?: AbortSignal } = {},
): AsyncIterable<LoadedShard> {
  const queue: Promise<LoadedShard>[] = [];
  let next = 0;
  const begin = () => {
    if (next >= manifest.shards.length || signal?.aborted) return;
    const promise = load(manifest, next++, reader);
    promise.catch(() => undefined); // It is awaited when its turn comes.
    queue.push(promise);
  };
  for (let i = 0; i < reader.parallel + WAITING; i++) begin();
  return (async function* () {
    const cancelled = new Promise<never>((_, reject) => {
      signal?.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
    });
    cancelled.catch(() => undefined);
    for (const _ of manifest.shards) {
      throwIfCancelled(signal);
      const loaded = await Promise.race([queue.shift()!, cancelled]).finally(() => throwIfCancelled(signal));
      yield loaded;
      begin();
    }
  })();
}

async function load(manifest: ModelManifest, index: number, reader: ShardReader): Promise<LoadedShard> {
  const shard = manifest.shards[index]!;
  const { bytes, fault } = await reader.read(manifest.id, index, shard);
  if (bytes) return { index, bytes, chunks: shard.chunks };
  throw new TabTuneError(
    "DamagedShard",
    `Shard ${index + 1} of ${manifest.shards.length} of ${manifest.name} is damaged: ${fault}. Import the model again from ${manifest.source}: only what is damaged is fetched.`,
  );
}
