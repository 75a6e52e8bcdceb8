import { TabTuneError } from "../errors.ts";

/** Locks of this worker, for browsers without Web Locks; other tabs are then not seen. */
const held = new Set<string>();

/** Runs `action` while holding a lock that all tabs of this site share. Throws `Busy` with this message when another holds it. */
export async function withLock<T>(name: string, busyMessage: string, action: () => Promise<T>): Promise<T> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (locks) {
    return (await locks.request(name, { ifAvailable: true }, async (lock) => {
      if (!lock) throw new TabTuneError("Busy", busyMessage);
      return await action();
    })) as T;
  }
  if (held.has(name)) throw new TabTuneError("Busy", busyMessage);
  held.add(name);
  try {
    return await action();
  } finally {
    held.delete(name);
  }
}
