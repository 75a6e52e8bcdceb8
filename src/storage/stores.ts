import { createStore, promisifyRequest, type UseStore } from "idb-keyval";
import { TabTuneError } from "../errors.ts";

/*
 * idb-keyval keeps one object store in one database, so each kind of thing has a database of its own: that also lets a visitor see
 * in the browser's own settings what takes the space.
 */
const weights = createStore("tabtune-weights", "shards");
const manifests = createStore("tabtune-models", "manifests");
const records = createStore("tabtune-records", "records");

const stores = { weights, manifests, records } as const;

/** Runs one transaction; failures become `Quota` or `Internal` errors that name the database and say what to do. */
export async function transact<T>(
  name: keyof typeof stores,
  mode: IDBTransactionMode,
  action: (store: IDBObjectStore) => Promise<T>,
): Promise<T> {
  const use: UseStore = stores[name];
  try {
    return await use(mode, async (store) => {
      try {
        return await action(store);
      } catch (error) {
        // All or nothing: without this, puts made before the failure would be kept.
        abortQuietly(store.transaction);
        throw error;
      }
    });
  } catch (cause) {
    throw storageError(name, cause);
  }
}

function abortQuietly(transaction: IDBTransaction): void {
  try {
    transaction.abort();
  } catch {
    // It has already ended.
  }
}

/** Resolves when the transaction of this store has been written, rejects when it was aborted. */
export async function committed(store: IDBObjectStore): Promise<void> {
  await promisifyRequest(store.transaction);
}

/** All keys that are arrays beginning with these parts. Binary keys sort after text, arrays after both. */
export function keysUnder(...parts: string[]): IDBKeyRange {
  return IDBKeyRange.bound(parts, [...parts, []]);
}

function storageError(name: string, cause: unknown): TabTuneError {
  const code = cause instanceof Error || cause instanceof DOMException ? cause.name : "";
  if (code === "QuotaExceededError") {
    return new TabTuneError(
      "Quota",
      "The browser gives this page no more storage. What was stored before is kept; delete a model or free disk space, then go on.",
      { cause },
    );
  }
  const message = cause instanceof Error ? cause.message : String(cause);
  return new TabTuneError(
    "Internal",
    `The browser's storage (${name}) failed: ${code} ${message}. A private window or full disk can be the reason; reload the page and try again.`,
    { cause },
  );
}
