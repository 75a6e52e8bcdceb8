import { TabTuneError } from "../errors.ts";
import {
  type FileSet,
  MANIFEST_VERSION,
  type ModelManifest,
  PACKED_INDEX,
  type PackedIndex,
  readPackedIndex,
  readPackedShard,
  readPackedText,
  type VerifiedFiles,
} from "../formats/index.ts";
import { hashOf, modelId } from "./import_id.ts";
import type { ImportJob, ImportRequest } from "./import_types.ts";

/** True for a folder that another visitor has exported. A place that cannot list its files is asked only when it is no checkpoint. */
export async function isPacked(files: FileSet, signal?: AbortSignal): Promise<boolean> {
  const listing = await files.list(signal);
  if (listing) return listing.some(({ path }) => path === PACKED_INDEX);
  return !(await files.has("config.json", signal)) && (await files.has(PACKED_INDEX, signal));
}

/**
 * Opens a folder in our own form: its shards are stored as they are, each compared with its SHA-256, so that the bytes are those of the
 * one who exported it. Throws `BadCheckpoint` when the list does not fit together or the model is not one of ours.
 */
export async function openPacked(
  { shapes, name }: ImportRequest,
  files: VerifiedFiles,
  signal?: AbortSignal,
): Promise<Pick<ImportJob, "manifest" | "make" | "files" | "weightFiles" | "warnings">> {
  const index = await readPackedIndex(files, signal);
  if (!shapes)
    throw new TabTuneError("Internal", "A folder in our own form needs to be told which weights a model has.");
  checkShapes(index, shapes(index.config));
  const texts: Record<string, string> = {};
  for (const text of index.texts) {
    texts[text.path.replace(/^texts\//, "")] = await readPackedText(files, text, signal);
  }
  const { licence, config, scheme, slots, parameters } = index;
  const bytesTotal = index.shards.reduce((sum, { bytes }) => sum + bytes, 0);
  const manifest: ModelManifest = {
    version: MANIFEST_VERSION,
    id: await modelId(files.identity, "packed"),
    name: name ?? index.name,
    source: `${files.describe()}, made from ${index.source}`,
    sourceFingerprint: await hashOf([index.sourceFingerprint, index.shards.map(({ sha256 }) => sha256)]),
    ...(licence === undefined ? {} : { licence }),
    ...{ config, texts, scheme, slots, parameters, bytesTotal },
    shards: index.shards.map(({ bytes, sha256, chunks }) => ({ bytes, sha256, chunks })),
    state: "importing",
    bytesSource: bytesTotal,
    created: Date.now(),
    lastUsed: Date.now(),
  };
  return {
    manifest,
    files,
    weightFiles: [],
    warnings: [],
    make: async (i, _, onBytes, shardSignal) => {
      const bytes = await readPackedShard(files, index.shards[i]!, shardSignal);
      onBytes(bytes.length);
      return bytes;
    },
  };
}

/** The slots are those of a model with this config, no more and no fewer. */
function checkShapes({ slots }: PackedIndex, expected: ReadonlyMap<string, readonly [number, number]>): void {
  const found = new Map(slots.map((slot) => [slot.name, slot]));
  for (const [name, [rows, cols]] of expected) {
    const slot = found.get(name);
    if (slot?.rows === rows && slot.cols === cols) continue;
    throw new TabTuneError(
      "BadCheckpoint",
      `${PACKED_INDEX}: ${name}: expected [${rows}, ${cols}] for its config, found ${slot ? `[${slot.rows}, ${slot.cols}]` : "none"}. Export the model again.`,
    );
  }
  if (found.size !== expected.size || slots.length !== expected.size) {
    throw new TabTuneError(
      "BadCheckpoint",
      `${PACKED_INDEX}: expected ${expected.size} weights for its config, found ${slots.length}. Export the model again.`,
    );
  }
}
