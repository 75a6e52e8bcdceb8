import { batch } from "@preact/signals";
import { callback, type DatasetChange, type DatasetSource, type DatasetSummary } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import {
  dataError,
  dataset,
  datasetId,
  datasets,
  draft,
  editedRow,
  readingFiles,
  rows,
  seenRow,
} from "../train/state.ts";
import { attempt, messageOf, toast } from "./notices.ts";
import { readSetting, writeSetting } from "./settings.ts";
import { fileName, saveFile } from "./train_files.ts";

/** Lists the data sets and opens the one that was open last. */
export async function refreshDatasets(): Promise<void> {
  await attempt("The list of data sets could not be read", async () => {
    const list = await engine().listDatasets();
    datasets.value = list;
    if (datasetId.peek() && list.some(({ id }) => id === datasetId.peek())) return;
    const last = await readSetting<string>("trainDataset");
    if (list.some(({ id }) => id === last)) await openDataset(last!);
  });
}

export async function openDataset(id: string | undefined): Promise<void> {
  batch(() => {
    datasetId.value = id;
    rows.value = undefined;
    seenRow.value = undefined;
    editedRow.value = undefined;
    dataError.value = undefined;
  });
  void writeSetting("trainDataset", id ?? "");
  if (id) await readRows(id);
}

async function readRows(id: string): Promise<void> {
  try {
    const all = await engine().datasetRows(id, { from: 0, count: Number.MAX_SAFE_INTEGER });
    if (datasetId.peek() === id) rows.value = all.rows;
  } catch (error) {
    dataError.value = messageOf(error);
  }
}

function take(summary: DatasetSummary): void {
  const rest = (datasets.peek() ?? []).filter(({ id }) => id !== summary.id);
  datasets.value = [summary, ...rest].sort((a, b) => b.updated - a.updated);
}

// ── Reading ──

/** Reads what was dropped or picked; nothing is stored before the visitor has seen the report. */
export async function readFiles(source: DatasetSource): Promise<void> {
  if (readingFiles.peek()) return;
  await discardDraft();
  const taskId = crypto.randomUUID();
  const name = source.kind === "example" ? "the example" : source.name;
  dataError.value = undefined;
  readingFiles.value = { taskId, name, rows: 0, pictures: 0 };
  try {
    draft.value = await engine().readDataset(
      source,
      taskId,
      callback((count, pictures) => {
        if (readingFiles.peek()?.taskId === taskId) readingFiles.value = { taskId, name, rows: count, pictures };
      }),
    );
  } catch (error) {
    if (!isError(error, "Cancelled")) dataError.value = messageOf(error);
  } finally {
    readingFiles.value = undefined;
  }
}

export function cancelReading(): void {
  const { taskId } = readingFiles.peek() ?? {};
  if (taskId)
    void engine()
      .cancel(taskId)
      .catch(() => {});
}

export async function discardDraft(): Promise<void> {
  const read = draft.peek();
  draft.value = undefined;
  if (read)
    await engine()
      .discardDraft(read.id)
      .catch(() => {});
}

export async function storeDraft(name: string): Promise<void> {
  const read = draft.peek();
  if (!read) return;
  try {
    const summary = await engine().storeDataset(read.id, name);
    draft.value = undefined;
    take(summary);
    await openDataset(summary.id);
  } catch (error) {
    dataError.value = messageOf(error);
  }
}

/** An empty data set, to be typed in. */
export async function createDataset(): Promise<void> {
  await attempt("The data set could not be made", async () => {
    const summary = await engine().createDataset("My data set");
    take(summary);
    await openDataset(summary.id);
  });
}

// ── Changing ──

/** Applies one change to the open data set. True when it was taken. */
export async function change(what: DatasetChange): Promise<boolean> {
  const id = datasetId.peek();
  if (!id) return false;
  try {
    dataError.value = undefined;
    take(await engine().editDataset(id, what));
    await readRows(id);
    return true;
  } catch (error) {
    dataError.value = messageOf(error);
    return false;
  }
}

export async function deleteRows(ids: string[]): Promise<void> {
  if (!(await change({ kind: "delete", ids }))) return;
  toast(ids.length === 1 ? "The row was deleted." : `${ids.length} rows were deleted.`, {
    action: { label: "Undo", run: () => void undo() },
  });
}

export async function undo(): Promise<void> {
  if (dataset.peek()?.canUndo) await change({ kind: "undo" });
}

export async function redo(): Promise<void> {
  if (dataset.peek()?.canRedo) await change({ kind: "redo" });
}

export async function renameDataset(id: string, name: string): Promise<void> {
  await attempt("The data set could not be renamed", async () => take(await engine().renameDataset(id, name)));
}

export async function deleteDataset(id: string, name: string): Promise<void> {
  await attempt("The data set could not be deleted", async () => {
    await engine().deleteDataset(id);
    datasets.value = (datasets.peek() ?? []).filter((d) => d.id !== id);
    if (datasetId.peek() === id) await openDataset(undefined);
    toast(`“${name}” was deleted.`);
  });
}

export async function exportDataset(id: string, name: string): Promise<void> {
  await attempt("The data set could not be exported", async () =>
    saveFile(await engine().exportDataset(id), `${fileName(name)}.zip`),
  );
}
