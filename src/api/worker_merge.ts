import { throwIfCancelled } from "../errors.ts";
import { type FileSet, type FileToZip, openCheckpoint, writeZip } from "../formats/index.ts";
import { type Adapter, type MergedFile, mergedFiles } from "../train/index.ts";

/**
 * Writes a checkpoint with an adapter merged in: into a folder, or as a zip that the browser keeps on disk.
 * Throws `BadInput`, `BadCheckpoint`, `Cancelled`, and what the source throws.
 */
export async function exportMerged(
  files: FileSet,
  adapter: Adapter,
  folder: FileSystemDirectoryHandle | undefined,
  signal: AbortSignal,
  onProgress: (bytesDone: number, bytesTotal: number) => void,
): Promise<Blob | undefined> {
  const merged = await mergedFiles(await openCheckpoint(files, signal), adapter, signal);
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
    return await writeZip(list);
  }
  for (const file of merged) {
    throwIfCancelled(signal);
    const handle = await folder.getFileHandle(file.path, { create: true });
    // Closes the file when all is written; what failed leaves the old file as it was.
    await streamOf(file).pipeTo(await handle.createWritable(), { signal });
  }
  return undefined;
}
