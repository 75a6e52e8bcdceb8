import { TabTuneError, throwIfCancelled } from "../errors.ts";
import { MANIFEST_VERSION, type ModelManifest } from "../formats/index.ts";
import {
  deleteManifest,
  deleteRecord,
  deleteShards,
  getManifest,
  getRecord,
  listManifests,
  listShards,
  modelsWithShards,
  putManifest,
  withLock,
} from "../storage/index.ts";
import type { StoredModel } from "./import_types.ts";
import { inlineReader } from "./read_shards.ts";

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
    if ((await inlineReader.read(id, index, shard)).fault) damaged.push(index);
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
