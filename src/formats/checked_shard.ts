import { sha256Hex } from "./fingerprint.ts";
import type { ShardRecord } from "./manifest.ts";

/** A shard's bytes, or what is wrong with it. */
export type CheckedShard = { bytes: Uint8Array<ArrayBuffer>; fault?: undefined } | { bytes?: undefined; fault: string };

/** Reads a shard and compares it with its length and its SHA-256. */
export async function checkedShard(
  shard: ShardRecord,
  read: () => Promise<Uint8Array<ArrayBuffer> | undefined>,
): Promise<CheckedShard> {
  let bytes: Uint8Array<ArrayBuffer> | undefined;
  try {
    bytes = await read();
  } catch (error) {
    return { fault: error instanceof Error ? error.message : String(error) };
  }
  if (!bytes) return { fault: "it is missing" };
  if (bytes.length !== shard.bytes) return { fault: `expected ${shard.bytes} bytes, found ${bytes.length}` };
  const found = await sha256Hex(bytes);
  if (found !== shard.sha256) {
    return { fault: `expected SHA-256 ${shard.sha256.slice(0, 12)}…, found ${found.slice(0, 12)}…` };
  }
  return { bytes };
}
