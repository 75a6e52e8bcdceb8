import type { WeightSlot } from "./weight_slot.ts";

/** Raised whenever the bytes of a stored shard would come out differently; older imports are then imported again. */
export const MANIFEST_VERSION = 2;

/**
 * Rows row0 … row0+rows-1 of one slot inside a shard. Offsets are from the shard's first byte and multiples of 16.
 * On the GPU the rows belong at `row0 * rowLayout(...).codesBytes` of the slot's codes plane, metadata alike.
 */
export interface ShardChunk {
  /** Index into the manifest's slots. */
  slot: number;
  row0: number;
  rows: number;
  codesOffset: number;
  codesBytes: number;
  metaOffset: number;
  metaBytes: number;
}

/** One stored shard. `sha256` (lower-case hex) is empty while the shard has not been written. */
export interface ShardRecord {
  bytes: number;
  sha256: string;
  chunks: ShardChunk[];
}

/** All that is known about an imported model besides its shards' bytes. Written with state "complete" last of all. */
export interface ModelManifest {
  version: number;
  id: string;
  name: string;
  /** Where it came from, for a person. */
  source: string;
  /** SHA-256 over the checkpoint's fingerprint, the slots and the shards' layout: when it differs, so do the shards. */
  sourceFingerprint: string;
  licence?: string;
  /** The published form that it was made from, for a person. */
  format?: string;
  /** Weight files whose SHA-256 was compared with what the source names, when it names any. */
  verifiedFiles?: number;
  /** config.json as parsed. */
  config: unknown;
  /**
   * Small text files by path: tokenizer.json, tokenizer_config.json, generation_config.json, preprocessor_config.json,
   * processor_config.json, chat_template.jinja, chat_template.json; those that the source has.
   */
  texts: Record<string, string>;
  /** The scheme that was asked for; each slot says what it really uses. */
  scheme: string;
  slots: WeightSlot[];
  shards: ShardRecord[];
  state: "importing" | "complete";
  /** Parameters in all slots. */
  parameters: number;
  /** Bytes of all shards, and bytes of the source that they are made from. */
  bytesTotal: number;
  bytesSource: number;
  /** Milliseconds since 1970. */
  created: number;
  lastUsed: number;
}
