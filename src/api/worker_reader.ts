import * as Comlink from "comlink";
import { type CheckedShard, checkedShard, type ShardRecord } from "../formats/index.ts";
import { getShard } from "../storage/index.ts";

/** A helper of the engine's worker: reads and hashes stored shards, so that a load uses more than one core. */
const reader = {
  async read(model: string, index: number, record: ShardRecord): Promise<CheckedShard> {
    const shard = await checkedShard(record, () => getShard(model, index));
    return shard.bytes ? Comlink.transfer(shard, [shard.bytes.buffer]) : shard;
  },
};

Comlink.expose(reader);
export type ReaderApi = typeof reader;
