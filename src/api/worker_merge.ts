import { throwIfCancelled } from "../errors.ts";
import { BlobFileSet, type FileSet, type FileToZip, openCheckpoint, openZip, writeZip } from "../formats/index.ts";
import { type Adapter, type MergedFile, mergedFiles, proveMerged } from "../train/index.ts";
import type { MergedModel } from "./train_protocol.ts";

/** Larger files of a zip cannot be opened again in one piece. */
const MOST_UNZIPPED = 512 << 20;

/**
 * Writes a checkpoint with an adapter merged in, into a folder or as a zip that the browser keeps on disk, and proves it from what was
 * written.
 * Throws `Internal` when the proof fails, `BadInput`, `BadCheckpoint`, `Cancelled`, and what the source throws.
 */
export async function exportMerged(
  files: FileSet,
  adapter: Adapter,
  folder: FileSystemDirectoryHandle | undefined,
  signal: AbortSignal,
  onProgress: (bytesDone: number, bytesTotal: number) => void,
): Promise<MergedModel> {
  const original = await openCheckpoint(files, signal);
  const merged = await mergedFiles(original, adapter, signal);
  const prove = async (written: { path: string; file: Blob }[]) => {
    const again = await openCheckpoint(new BlobFileSet("merged", written), signal);
    return await proveMerged(original, again, adapter, signal);
  };
  const total = merged.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  const streamOf = (file: MergedFile) => {
    const chunks = file.chunks(signal);
    return new ReadableStream<Uint8Array<ArrayBuffer>>({
      async pull(controller) {
        const next = await chunks.next();
        if (next.done) {
          controller.close();
          return;
        }
        done += next.value.length;
        onProgress(done, total);
        controller.enqueue(next.value);
      },
    });
  };
  if (!folder) {
    const list = merged.map((file): FileToZip => ({ path: file.path, data: streamOf(file) }));
    const zip = await writeZip(list);
    if (merged.some(({ size }) => size > MOST_UNZIPPED)) return { zip };
    const written = (await openZip(zip, "merged.zip")).map(async ({ path, read }) => {
      return { path, file: new Blob([await read(signal)]) };
    });
    return { zip, proof: await prove(await Promise.all(written)) };
  }
  const written: { path: string; file: Blob }[] = [];
  for (const file of merged) {
    throwIfCancelled(signal);
    const handle = await folder.getFileHandle(file.path, { create: true });
    // Closes the file when all is written; what failed leaves the old file as it was.
    await streamOf(file).pipeTo(await handle.createWritable(), { signal });
    written.push({ path: file.path, file: await handle.getFile() });
  }
  return { proof: await prove(written) };
}
