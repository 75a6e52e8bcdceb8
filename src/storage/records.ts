import { promisifyRequest } from "idb-keyval";
import { committed, keysUnder, transact } from "./stores.ts";

/** What records are kept of; later issues add kinds. */
export type RecordKind =
  | "conversation"
  | "picture"
  | "setting"
  | "self-test"
  | "model-texts"
  | "import-hashes"
  | "dataset"
  | "dataset-rows"
  | "dataset-picture"
  | "adapter"
  | "adapter-file"
  | "run"
  | "run-checkpoint"
  | "picture-features";

/** Any structured-clonable value under a kind and an id; it replaces what was there. Rejects with `Quota` when there is no room. */
export async function putRecord(kind: RecordKind, id: string, value: unknown): Promise<void> {
  await transact("records", "readwrite", async (store) => {
    store.put(value, [kind, id]);
    await committed(store);
  });
}

/** Undefined when there is none. The caller checks what comes back: an older version of the page may have written it. */
export async function getRecord(kind: RecordKind, id: string): Promise<unknown> {
  return await transact("records", "readonly", (store) => promisifyRequest<unknown>(store.get([kind, id])));
}

/** All records of a kind with their ids, in order of id. */
export async function listRecords(kind: RecordKind): Promise<{ id: string; value: unknown }[]> {
  return await transact("records", "readonly", async (store) => {
    const range = keysUnder(kind);
    const values = promisifyRequest<unknown[]>(store.getAll(range));
    const keys = promisifyRequest<IDBValidKey[]>(store.getAllKeys(range));
    const [found, ids] = await Promise.all([values, keys]);
    return found.map((value, i) => ({ id: String((ids[i] as string[])[1]), value }));
  });
}

/** Ids of a kind in order, without reading the values. */
export async function listRecordIds(kind: RecordKind): Promise<string[]> {
  return await transact("records", "readonly", async (store) => {
    const keys = await promisifyRequest<IDBValidKey[]>(store.getAllKeys(keysUnder(kind)));
    return keys.map((key) => String((key as string[])[1]));
  });
}

export async function deleteRecord(kind: RecordKind, id: string): Promise<void> {
  await transact("records", "readwrite", async (store) => {
    store.delete([kind, id]);
    await committed(store);
  });
}
