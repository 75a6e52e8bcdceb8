import { type AdapterRecord, callback, type MergedModel, type ModelSource, type Progress } from "../../api/index.ts";
import { engine } from "../engine_link.ts";
import { fileName, saveFile } from "./train_files.ts";

/** Not in the DOM's types yet; absent in browsers that cannot write to folders. */
type FolderPicker = (options: { mode: "readwrite" }) => Promise<FileSystemDirectoryHandle>;

/**
 * Asks where to, and writes the merged checkpoint there. Rejects with `AbortError` when no folder is chosen.
 * @returns what was compared after reading it back
 */
export async function mergeAdapter(
  { id, name }: AdapterRecord,
  source: ModelSource,
  taskId: string,
  onProgress: (progress: Progress) => void,
): Promise<MergedModel["proof"]> {
  const pick = (globalThis as { showDirectoryPicker?: FolderPicker }).showDirectoryPicker;
  const folder = pick && (await pick({ mode: "readwrite" }));
  const { zip, proof } = await engine().exportMerged(source, id, folder, taskId, callback(onProgress));
  if (zip) saveFile(zip, `${fileName(name)}-merged.zip`);
  return proof;
}

export function cancelMerge(taskId: string): void {
  void engine()
    .cancel(taskId)
    .catch(() => {});
}
