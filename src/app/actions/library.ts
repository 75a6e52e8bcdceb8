import type { ModelRecord } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import { importTask, loaded } from "../state.ts";
import { refreshModels, runTask } from "./models.ts";
import { attempt, toast } from "./notices.ts";
import { saveFile } from "./train_files.ts";

/** Not in the DOM's types, and not in every browser. */
interface Pickers {
  showDirectoryPicker?: (options: { mode: "readwrite" }) => Promise<FileSystemDirectoryHandle>;
  showSaveFilePicker?: (options: { suggestedName: string }) => Promise<FileSystemFileHandle>;
}
const pickers = globalThis as unknown as Pickers;

export const canPickFolders = () => pickers.showDirectoryPicker !== undefined;

export async function renameModel(id: string, name: string): Promise<void> {
  await attempt("The model could not be renamed", async () => {
    await engine().renameModel(id, name);
    if (loaded.peek()?.id === id) loaded.value = { ...loaded.peek()!, name: name.trim() };
    await refreshModels();
  });
}

/** Writes a model to a place of the visitor's choice, as it is made; where none can be chosen, as a download. */
export async function exportModel({ id, name }: ModelRecord, as: "folder" | "zip"): Promise<void> {
  await attempt(`${name} could not be exported`, async () => {
    const file = `${name.replace(/[^\w.-]+/g, "-")}.zip`;
    let target: FileSystemDirectoryHandle | FileSystemFileHandle | undefined;
    try {
      if (as === "folder") {
        const parent = await pickers.showDirectoryPicker?.({ mode: "readwrite" });
        target = await parent?.getDirectoryHandle(file.replace(/\.zip$/, ""), { create: true });
      } else target = await pickers.showSaveFilePicker?.({ suggestedName: file });
    } catch (error) {
      // The visitor has closed the picker.
      if (error instanceof DOMException && error.name === "AbortError") return;
      throw error;
    }
    try {
      const blob = await runTask(importTask, { kind: "export", modelId: id, name }, (taskId, onProgress) =>
        engine().exportModel(id, target, taskId, onProgress),
      );
      if (blob) saveFile(blob, file);
      toast(`${name} was exported.`);
    } catch (error) {
      if (!isError(error, "Cancelled")) throw error;
    }
  });
}
