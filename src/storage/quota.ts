export interface StorageSpace {
  /** Bytes used by this site, and the most it may use; Infinity where the browser does not say. */
  used: number;
  quota: number;
  /** True when the browser has promised not to clear this site's data on its own. */
  persistent: boolean;
}

/** The browser's own estimate; it may be off by some megabytes, so running out is handled as well. */
export async function storageSpace(): Promise<StorageSpace> {
  const manager = globalThis.navigator?.storage as StorageManager | undefined;
  const estimate = await manager?.estimate?.().catch(() => undefined);
  const persistent = (await manager?.persisted?.().catch(() => false)) ?? false;
  return { used: estimate?.usage ?? 0, quota: estimate?.quota ?? Number.POSITIVE_INFINITY, persistent };
}
