import type { Checkpoint, FileSet, GgufChoice, ModelManifest, VerifiedFiles, WeightSlot } from "../formats/index.ts";
import type { RowEncoder } from "./import_shard.ts";

/** What to import and how. */
export interface ImportRequest {
  files: FileSet;
  /** A word for lists and ids ("q4a32", "bf16"); the slots say what is really stored. */
  scheme: string;
  /** The model's own list; throws `BadCheckpoint` or `UnsupportedModel` when the checkpoint is not one of its kind. */
  slots: (checkpoint: Checkpoint) => WeightSlot[];
  /** Which of several GGUF or ONNX files to take. */
  gguf?: GgufChoice;
  /** [rows, cols] of every slot that a model of this config has: what a folder in our own form is compared with. */
  shapes?: (config: unknown) => ReadonlyMap<string, readonly [number, number]>;
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
  /** Absent where the source is in our own form. */
  checkpoint?: Checkpoint;
  /** Makes the bytes of one shard, whatever else exists. `onBytes` counts what has been read of the source. */
  make: (
    index: number,
    encoder: RowEncoder,
    onBytes: (bytes: number) => void,
    signal?: AbortSignal,
  ) => Promise<Uint8Array<ArrayBuffer>>;
  /** The source's files, through which all of its weights are read. */
  files: VerifiedFiles;
  /** Weight files that will be read, and how many of them the source names a SHA-256 for. */
  weightFiles: string[];
  hashedFiles: number;
  /**
   * What storage already holds: nothing, a part of this very import, all of it, an import of other files, or one that another
   * version of this page has made.
   */
  existing: "none" | "partial" | "complete" | "changed" | "outdated";
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
  phase: "Checking what is stored" | "Reading and storing" | "Comparing the files' checksums";
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
  /** What it was made from, for a person. */
  format?: string;
  /** Weight files that were compared with a SHA-256 of their source. */
  verifiedFiles?: number;
  created: number;
  lastUsed: number;
}
