import type { Checkpoint, FileSet, GgufChoice, ModelManifest, ShardChunk, WeightSlot } from "../formats/index.ts";

/** What to import and how. */
export interface ImportRequest {
  files: FileSet;
  /** A word for lists and ids ("q4a32", "bf16"); the slots say what is really stored. */
  scheme: string;
  /** The model's own list; throws `BadCheckpoint` or `UnsupportedModel` when the checkpoint is not one of its kind. */
  slots: (checkpoint: Checkpoint) => WeightSlot[];
  /** Which of several GGUF files to take. */
  gguf?: GgufChoice;
  /** Shown in lists; the file set's name when absent. */
  name?: string;
  /** Throw away what an earlier import of this source left when the source has changed since. */
  restart?: boolean;
  /** Upper bound of a shard in bytes; 32 MiB when absent. */
  shardBytes?: number;
}

/** A planned import: nothing has been written and no weight has been read. */
export interface ImportJob {
  id: string;
  /** The manifest as it will be, with state "importing" and the hashes of shards not yet made left empty. */
  manifest: ModelManifest;
  checkpoint: Checkpoint;
  /** What storage already holds: nothing, a part of this very import, all of it, or an import of older files. */
  existing: "none" | "partial" | "complete" | "changed";
  bytesToRead: number;
  bytesToStore: number;
  bytesAlreadyStored: number;
  /** Bytes that storage can still take, Infinity where the browser does not say. */
  quotaFree: number;
  /** From the request. */
  restart: boolean;
  warnings: string[];
}

export interface ImportProgress {
  phase: "Checking what is stored" | "Reading and storing";
  /** Bytes of the source. */
  bytesDone: number;
  bytesTotal: number;
  /** Shards done and in all. */
  shard: number;
  shards: number;
  bytesPerSecond: number;
  /** Infinity until it can be told. */
  secondsLeft: number;
}

/** A verified shard on its way to the GPU. `bytes` may be dropped or reused by the caller as soon as it is uploaded. */
export interface LoadedShard {
  index: number;
  bytes: Uint8Array<ArrayBuffer>;
  chunks: ShardChunk[];
}

/** One row of the list of models. */
export interface StoredModel {
  id: string;
  name: string;
  source: string;
  scheme: string;
  state: ModelManifest["state"];
  bytesStored: number;
  bytesTotal: number;
  parameters: number;
  licence?: string;
  created: number;
  lastUsed: number;
}
