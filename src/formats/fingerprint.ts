import type { FileSet } from "./file_set.ts";

/** Spots of a weight file that go into the fingerprint, and bytes of each. */
const SAMPLES = 8;
const SAMPLE_BYTES = 1024;

/**
 * Size and hash of a few spots: another training of the same model has the same header, but not the same weights. Reading all of
 * them to be sure would cost as much as the import.
 */
export async function samplePrint(files: FileSet, path: string, start: number, signal?: AbortSignal): Promise<unknown> {
  const size = await files.size(path, signal);
  const length = Math.min(SAMPLE_BYTES, size - start);
  const spots = Array.from(
    { length: SAMPLES },
    (_, i) => start + Math.floor((i * (size - start - length)) / (SAMPLES - 1)),
  );
  const samples = await Promise.all(
    [...new Set(spots)].map(async (spot) => await sha256Hex(await files.read(path, spot, length, signal))),
  );
  return [size, samples];
}

/** Lower-case hex. */
export async function sha256Hex(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
