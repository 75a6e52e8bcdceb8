import { promisifyRequest } from "idb-keyval";
import { committed, transact } from "./stores.ts";

/** Manifests are values of a higher folder: here they only have an id. */
export async function putManifest(id: string, manifest: unknown): Promise<void> {
  await transact("manifests", "readwrite", async (store) => {
    store.put(manifest, id);
    await committed(store);
  });
}

export async function getManifest(id: string): Promise<unknown> {
  return await transact("manifests", "readonly", (store) => promisifyRequest<unknown>(store.get(id)));
}

export async function listManifests(): Promise<unknown[]> {
  return await transact("manifests", "readonly", (store) => promisifyRequest<unknown[]>(store.getAll()));
}

export async function deleteManifest(id: string): Promise<void> {
  await transact("manifests", "readwrite", async (store) => {
    store.delete(id);
    await committed(store);
  });
}
