import { TabTuneError, throwIfCancelled } from "../errors.ts";
import { MANIFEST_VERSION, type ModelManifest, type ShardRecord, sha256Hex } from "../formats/index.ts";
import {
  deleteManifest,
  deleteRecord,
  deleteShards,
  getManifest,
  getRecord,
  getShard,
  listManifests,
  listShards,
  modelsWithShards,
  putManifest,
  withLock,
} from "../storage/index.ts";
import type { LoadedShard, StoredModel } from "./import_types.ts";

/** The manifest as stored (its texts are kept apart, because they are large and lists do not need them). */
export async function findManifest(id: string): Promise<ModelManifest | undefined> {
  const value = await getManifest(id);
  return isManifest(value) ? value : undefined;
}

export async function storeManifest(manifest: ModelManifest): Promise<void> {
  await putManifest(manifest.id, { ...manifest, texts: {} });
}

/** Another version of this page may have written it, so only what all versions have is taken for granted. */
function isManifest(value: unknown): value is ModelManifest {
  const manifest = value as Partial<ModelManifest> | null | undefined;
  return (
    typeof manifest === "object" &&
    manifest !== null &&
    typeof manifest.id === "string" &&
    Array.isArray(manifest.slots) &&
    Array.isArray(manifest.shards)
  );
}

/** A complete model, with its texts. Throws `NotFound` when there is none, or only part of one. */
export async function openModel(id: string): Promise<ModelManifest> {
  const manifest = await findManifest(id);
  if (!manifest) throw new TabTuneError("NotFound", `There is no imported model ${id}. Import it first.`);
  if (manifest.state !== "complete") {
    throw new TabTuneError("NotFound", `The import of ${manifest.name} is not finished. Start it again to go on.`);
  }
  const texts = (await getRecord("model-texts", id)) as Record<string, string> | undefined;
  if (manifest.version !== MANIFEST_VERSION || !texts) {
    throw new TabTuneError(
      "NotFound",
      `${manifest.name} was stored by another version of this page. Delete it and import it again.`,
    );
  }
  const used = { ...manifest, lastUsed: Date.now() };
  await storeManifest(used);
  return { ...used, texts };
}

/**
 * The shards in order, each checked against its SHA-256, one read ahead: at most two are in memory if the caller lets go of each
 * before it asks for the next. Throws `DamagedShard` that names the shard.
 */
export async function* readShards(manifest: ModelManifest, signal?: AbortSignal): AsyncGenerator<LoadedShard> {
  const load = (index: number): Promise<LoadedShard> | undefined => {
    if (index >= manifest.shards.length) return undefined;
    const promise = loadShard(manifest, index, signal);
    promise.catch(() => undefined); // It is awaited one turn later.
    return promise;
  };
  let next = load(0);
  for (let index = 0; next; index++) {
    const shard = await next;
    next = load(index + 1);
    throwIfCancelled(signal);
    yield shard;
  }
}

async function loadShard(manifest: ModelManifest, index: number, signal?: AbortSignal): Promise<LoadedShard> {
  throwIfCancelled(signal);
  const shard = manifest.shards[index]!;
  const { bytes, fault } = await wrongWith(shard, () => getShard(manifest.id, index));
  if (bytes) return { index, bytes, chunks: shard.chunks };
  throw new TabTuneError(
    "DamagedShard",
    `Shard ${index + 1} of ${manifest.shards.length} of ${manifest.name} is damaged: ${fault}. Import the model again from ${manifest.source}: only what is damaged is fetched.`,
  );
}

/** Reads a shard and says what is wrong with it; the bytes come back when nothing is. */
export async function wrongWith(
  shard: ShardRecord,
  read: () => Promise<Uint8Array<ArrayBuffer> | undefined>,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; fault?: undefined } | { bytes?: undefined; fault: string }> {
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

/** Reads every shard of a model and returns the indices of those that are damaged or missing. */
export async function verifyModel(
  id: string,
  options: { signal?: AbortSignal; onProgress?: (bytesDone: number, bytesTotal: number) => void } = {},
): Promise<{ damaged: number[] }> {
  const manifest = await findManifest(id);
  if (!manifest) throw new TabTuneError("NotFound", `There is no imported model ${id}.`);
  const damaged: number[] = [];
  let done = 0;
  for (const [index, shard] of manifest.shards.entries()) {
    throwIfCancelled(options.signal);
    if ((await wrongWith(shard, () => getShard(id, index))).fault) damaged.push(index);
    done += shard.bytes;
    options.onProgress?.(done, manifest.bytesTotal);
  }
  return { damaged };
}

/** Every model in storage, complete or not, the last used first. Shards that belong to none are freed. */
export async function listModels(): Promise<StoredModel[]> {
  await cleanStorage();
  const models: StoredModel[] = [];
  for (const manifest of (await listManifests()).filter(isManifest)) {
    const shards = await listShards(manifest.id);
    const { id, name, source, scheme, state, bytesTotal, parameters, created, lastUsed } = manifest;
    const { licence, format, verifiedFiles } = manifest;
    const bytesStored = shards.reduce((sum, shard) => sum + shard.bytes, 0);
    models.push({
      ...{ id, name, source, scheme, state, bytesStored, bytesTotal, parameters, created, lastUsed },
      ...(licence === undefined ? {} : { licence }),
      ...(format === undefined ? {} : { format }),
      ...(verifiedFiles === undefined ? {} : { verifiedFiles }),
    });
  }
  return models.sort((a, b) => b.lastUsed - a.lastUsed);
}

/** Longest name of a model. */
const MAX_NAME = 120;

/** Gives a model another name. Throws `NotFound`, or `BadInput` for an empty one. */
export async function renameModel(id: string, name: string): Promise<void> {
  const manifest = await findManifest(id);
  if (!manifest) throw new TabTuneError("NotFound", `There is no imported model ${id}.`);
  const clean = name.trim().slice(0, MAX_NAME);
  if (clean === "") throw new TabTuneError("BadInput", "Expected a name, found nothing. Type at least one letter.");
  await storeManifest({ ...manifest, name: clean });
}

/** Removes a model and all its shards. Throws `Busy` while it is being imported. */
export async function deleteModel(id: string): Promise<void> {
  await withLock(`tabtune-model-${id}`, "This model is being imported. Cancel the import first.", () =>
    removeModel(id),
  );
}

/** The same for a caller that holds the model's lock. */
export async function removeModel(id: string): Promise<void> {
  await deleteManifest(id);
  await deleteShards(id);
  await deleteRecord("model-texts", id);
  await deleteRecord("import-hashes", id);
}

/** A tab closed while deleting can leave shards that no manifest points to. */
async function cleanStorage(): Promise<void> {
  for (const id of await modelsWithShards()) {
    // An import writes its manifest before its first shard, so shards without one belong to nobody.
    if ((await getManifest(id)) !== undefined) continue;
    await deleteShards(id);
  }
}
