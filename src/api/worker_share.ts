import { exportFiles } from "../engine/index.ts";
import { writeZip, writeZipTo } from "../formats/index.ts";
import type { Progress } from "./protocol.ts";
import { progressOf } from "./worker_models.ts";

/** Writes a stored model in our own form to a folder, a file or, without either, into a zip that the browser keeps. */
export async function exportModel(
  id: string,
  target: FileSystemDirectoryHandle | FileSystemFileHandle | undefined,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
): Promise<Blob | undefined> {
  const files = exportFiles(id, { signal, onProgress: progressOf("Exporting", onProgress) });
  if (!target) return await writeZip(files);
  if (target.kind === "file") {
    const writable = await (target as FileSystemFileHandle).createWritable();
    try {
      await writeZipTo(writable, files);
    } catch (error) {
      // What was there before stays.
      await writable.abort().catch(() => undefined);
      throw error;
    }
    return undefined;
  }
  for await (const { path, data } of files) await write(target as FileSystemDirectoryHandle, path, data);
  return undefined;
}

async function write(root: FileSystemDirectoryHandle, path: string, data: string | Uint8Array<ArrayBuffer>) {
  const [name, ...folders] = path.split("/").reverse();
  let folder = root;
  for (const part of folders.reverse()) folder = await folder.getDirectoryHandle(part, { create: true });
  const writable = await (await folder.getFileHandle(name!, { create: true })).createWritable();
  try {
    await writable.write(data);
    await writable.close();
  } catch (error) {
    await writable.abort().catch(() => undefined);
    throw error;
  }
}
