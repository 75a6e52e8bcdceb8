import { TabTuneError } from "../errors.ts";
import { HttpFileSet, sha256Hex } from "../formats/index.ts";
import { probeImage } from "../processor/index.ts";
import { deleteRecord, getRecord, listRecords, putRecord, withLock } from "../storage/index.ts";
import {
  type DataRow,
  type Dataset,
  DatasetEditor,
  datasetHash,
  exportDataset,
  partsOf,
  picturesOf,
  type ReadResult,
  readDataset,
} from "../train/index.ts";
import type { Picture } from "./protocol.ts";
import type { DatasetDraft, DatasetRow, DatasetSource, DatasetSummary, TrainApi } from "./train_protocol.ts";
import { deleteFeaturesOfPictures } from "./worker_features.ts";

/** The example that comes with the app: dot charts, a kind that the demo model was not trained on. A zip as `exportDataset` writes it. */
const EXAMPLE = { folder: "datasets/dots/", file: "dots.zip", name: "Dot charts (example)" };
const DRAFT_SAMPLE = 20;
/** A tenth of the pictures is held back unless the visitor says otherwise. */
const DEFAULT_SPLIT = { kind: "random", seed: 3407, heldBack: 0.1 } as const;

/** As stored: rows are a record of their own, so that lists stay small, and each picture is one for all data sets. */
type Stored = Omit<DatasetSummary, "canUndo" | "canRedo">;
interface StoredPicture {
  name: string;
  blob: Blob;
  width: number;
  height: number;
}

/** What a run learns from. */
export interface TrainingData {
  name: string;
  hash: string;
  rows: readonly DataRow[];
  /** The part of each row, in order of rows. */
  parts: ("train" | "heldBack")[];
  /** Throws `NotFound` for a picture that is gone. */
  sizeOf(pictureId: string): { width: number; height: number };
}

/** Data sets of the worker: drafts that were read, stored ones, and editors with their undo. */
export class Datasets {
  #drafts = new Map<string, ReadResult>();
  #editors = new Map<string, { editor: DatasetEditor; updated: number }>();

  async readDataset(
    source: DatasetSource,
    base: URL,
    signal: AbortSignal,
    onProgress: (rows: number, pictures: number) => void,
  ): Promise<DatasetDraft> {
    const { name, files } = source.kind === "files" ? source : await exampleFiles(base, signal);
    let last = 0;
    const read = await readDataset(name, files, {
      probe: probeImage,
      signal,
      onProgress(rows, pictures) {
        if (performance.now() - last < 100) return;
        last = performance.now();
        onProgress(rows, pictures);
      },
    });
    const id = crypto.randomUUID();
    this.#drafts.set(id, read);
    const { pictures, rows, ...rest } = read;
    return {
      ...rest,
      id,
      rows: rows.length,
      pictures: pictures.size,
      bytes: [...pictures.values()].reduce((sum, p) => sum + p.blob.size, 0),
      sample: rowsOf({ rows, split: splitOf(rows) }).slice(0, DRAFT_SAMPLE),
    };
  }

  async discardDraft(draftId: string): Promise<void> {
    this.#drafts.delete(draftId);
  }

  async storeDataset(draftId: string, name: string): Promise<DatasetSummary> {
    const draft = this.#drafts.get(draftId);
    if (!draft) throw new TabTuneError("NotFound", "What was read is no longer in memory. Drop the files again.");
    if (draft.rows.length === 0) {
      throw new TabTuneError(
        "BadInput",
        "There is no row that can be learnt. The report says what each of them lacks.",
      );
    }
    return await locked(async () => {
      const fresh: string[] = [];
      try {
        for (const { id, name: file, blob, width, height } of draft.pictures.values()) {
          if (await putPicture(id, { name: file, blob, width, height })) fresh.push(id);
        }
        const summary = await this.#create(name, draft.formats, { rows: draft.rows, split: splitOf(draft.rows) });
        this.#drafts.delete(draftId);
        return summary;
      } catch (error) {
        for (const id of fresh) await deleteRecord("dataset-picture", id);
        throw error;
      }
    });
  }

  async createDataset(name: string): Promise<DatasetSummary> {
    return await locked(() => this.#create(name, [], { rows: [], split: DEFAULT_SPLIT }));
  }

  async #create(name: string, formats: string[], dataset: Dataset): Promise<DatasetSummary> {
    const now = Date.now();
    const facts = { id: crypto.randomUUID(), name: name.trim() || "Data set", created: now, formats };
    return this.#withUndo(await save(facts, dataset, now));
  }

  async listDatasets(): Promise<DatasetSummary[]> {
    return (await stored()).map((s) => this.#withUndo(s)).sort((a, b) => b.updated - a.updated);
  }

  async renameDataset(id: string, name: string): Promise<DatasetSummary> {
    return await locked(async () => {
      const summary = { ...(await find(id)), name: name.trim() || "Data set" };
      await putRecord("dataset", id, summary);
      return this.#withUndo(summary);
    });
  }

  /** Deletes a data set and the pictures that no other one shows, undone rows of open editors included. */
  async deleteDataset(id: string): Promise<void> {
    await locked(async () => {
      const gone = picturesOf(await rowsById(id));
      for (const picture of this.#editors.get(id)?.editor.pictures() ?? []) gone.add(picture);
      this.#editors.delete(id);
      await deleteRecord("dataset", id);
      await deleteRecord("dataset-rows", id);
      for (const { id: other } of await stored()) {
        const kept = this.#editors.get(other)?.editor.pictures() ?? picturesOf(await rowsById(other));
        for (const picture of kept) gone.delete(picture);
      }
      for (const picture of gone) await deleteRecord("dataset-picture", picture);
      await deleteFeaturesOfPictures(gone);
    });
  }

  async datasetRows(id: string, { from, count, part }: Parameters<TrainApi["datasetRows"]>[1]) {
    const { dataset } = await this.#open(id);
    const rows = rowsOf(dataset).filter((row) => !part || row.part === part);
    return { rows: rows.slice(from, from + count), total: rows.length };
  }

  async datasetPicture(pictureId: string): Promise<Picture> {
    for (const { pictures } of this.#drafts.values()) {
      const found = pictures.get(pictureId);
      if (found) return { id: found.id, name: found.name, blob: found.blob };
    }
    const { name, blob } = await picture(pictureId);
    return { id: pictureId, name, blob };
  }

  async editDataset(id: string, change: Parameters<TrainApi["editDataset"]>[1]): Promise<DatasetSummary> {
    return await locked(async () => {
      const editor = await this.#open(id);
      if (change.kind === "undo") editor.undo();
      else if (change.kind === "redo") editor.redo();
      else if (change.kind === "put") {
        await putNewPictures(change.pictures);
        for (const shown of picturesOf([change.row])) await picture(shown);
        const old = editor.dataset.rows.find((row) => row.id === change.row.id);
        editor.apply({ ...change, row: { ...(old?.part ? { part: old.part } : {}), ...change.row } });
      } else editor.apply(change);
      const { created, formats, name } = await find(id);
      const summary = await save({ id, name, created, formats }, editor.dataset, Date.now());
      this.#editors.set(id, { editor, updated: summary.updated });
      return this.#withUndo(summary);
    });
  }

  async exportDataset(id: string): Promise<Blob> {
    const { dataset } = await this.#open(id);
    return await exportDataset(dataset, this.picture);
  }

  /** A stored picture's bytes. Throws `NotFound`. */
  readonly picture = async (pictureId: string): Promise<Blob> => (await picture(pictureId)).blob;

  /** Pictures that rows of a data set show; none when it is gone. */
  async picturesOf(id: string): Promise<ReadonlySet<string>> {
    return picturesOf(await rowsById(id).catch(() => []));
  }

  /** The rows (or one of them) with the sizes of their pictures. */
  async forTraining(id: string, rowId?: string): Promise<TrainingData> {
    const { hash, name } = await find(id);
    const { dataset } = await this.#open(id);
    const rows = rowId === undefined ? dataset.rows : dataset.rows.filter((row) => row.id === rowId);
    const sizes = new Map<string, { width: number; height: number }>();
    for (const pictureId of picturesOf(rows)) {
      const found = (await getRecord("dataset-picture", pictureId)) as StoredPicture | undefined;
      if (found) sizes.set(pictureId, found);
    }
    const sizeOf = (pictureId: string) => {
      const size = sizes.get(pictureId);
      if (!size) throw gone(pictureId);
      return size;
    };
    const parts = partsOf(dataset);
    return {
      name,
      hash,
      rows,
      parts: rows === dataset.rows ? parts : rows.map((row) => parts[dataset.rows.indexOf(row)]!),
      sizeOf,
    };
  }

  /** The editor of a data set; a new one when another tab has changed it meanwhile. */
  async #open(id: string): Promise<DatasetEditor> {
    const summary = await find(id);
    const open = this.#editors.get(id);
    if (open?.updated === summary.updated) return open.editor;
    const editor = new DatasetEditor({ rows: await rowsById(id), split: summary.split });
    this.#editors.set(id, { editor, updated: summary.updated });
    return editor;
  }

  #withUndo(summary: Stored): DatasetSummary {
    const editor = this.#editors.get(summary.id)?.editor;
    return { ...summary, canUndo: editor?.canUndo ?? false, canRedo: editor?.canRedo ?? false };
  }
}

async function exampleFiles(base: URL, signal: AbortSignal) {
  const files = new HttpFileSet(new URL(EXAMPLE.folder, base).href);
  const bytes = await files.read(EXAMPLE.file, 0, await files.size(EXAMPLE.file, signal), signal);
  return { name: EXAMPLE.name, files: [{ path: EXAMPLE.file, file: new Blob([bytes]) }] };
}

let turn: Promise<unknown> = Promise.resolve();

/** One change after another in this tab, and no other tab in between. */
function locked<T>(action: () => Promise<T>): Promise<T> {
  const busy = "Another tab is changing data sets just now. Try again in a moment.";
  const job = turn.then(() => withLock("datasets", busy, action));
  turn = job.catch(() => {});
  return job;
}

function splitOf(rows: readonly DataRow[]): Dataset["split"] {
  return rows.some((row) => row.part === "heldBack") ? { kind: "given" } : DEFAULT_SPLIT;
}

function rowsOf(dataset: Dataset): DatasetRow[] {
  const parts = partsOf(dataset);
  return dataset.rows.map(({ id, messages }, i) => ({ id, messages, part: parts[i]!, number: i + 1 }));
}

async function save(
  facts: Pick<Stored, "id" | "name" | "created" | "formats">,
  dataset: Dataset,
  updated: number,
): Promise<Stored> {
  const heldBackRows = partsOf(dataset).filter((part) => part === "heldBack").length;
  const summary: Stored = {
    ...facts,
    updated,
    rows: dataset.rows.length,
    trainRows: dataset.rows.length - heldBackRows,
    heldBackRows,
    pictures: picturesOf(dataset.rows).size,
    split: dataset.split,
    hasGivenSplit: dataset.rows.some((row) => row.part === "heldBack"),
    hash: await datasetHash(dataset),
  };
  await putRecord("dataset-rows", facts.id, dataset.rows);
  await putRecord("dataset", facts.id, summary);
  return summary;
}

async function stored(): Promise<Stored[]> {
  return (await listRecords("dataset")).map(({ value }) => value as Stored);
}

async function find(id: string): Promise<Stored> {
  const found = (await getRecord("dataset", id)) as Stored | undefined;
  if (!found) throw new TabTuneError("NotFound", "This data set is not stored in this browser any more.");
  return found;
}

async function rowsById(id: string): Promise<DataRow[]> {
  return ((await getRecord("dataset-rows", id)) as DataRow[] | undefined) ?? [];
}

async function picture(id: string): Promise<StoredPicture> {
  const found = (await getRecord("dataset-picture", id)) as StoredPicture | undefined;
  if (found) return found;
  throw gone(id);
}

function gone(pictureId: string): TabTuneError {
  const short = `${pictureId.slice(0, 8)}…`;
  return new TabTuneError("NotFound", `A picture (${short}) of this data set is gone. Drop the files again.`);
}

/** False when it was there already. Throws `Quota`. */
async function putPicture(id: string, value: StoredPicture): Promise<boolean> {
  if ((await getRecord("dataset-picture", id)) !== undefined) return false;
  await putRecord("dataset-picture", id, value);
  return true;
}

/** Pictures of a typed-in row, looked at before they are kept. Throws `BadImage`, and `BadInput` when an id is not the bytes' hash. */
async function putNewPictures(pictures: readonly Picture[]): Promise<void> {
  for (const { id, name, blob } of pictures) {
    const size = await probeImage(blob, name);
    const hash = await sha256Hex(new Uint8Array(await blob.arrayBuffer()));
    if (hash !== id)
      throw new TabTuneError("BadInput", `“${name}” was sent as picture ${id}, but its SHA-256 is ${hash}.`);
    await putPicture(id, { name, blob, ...size });
  }
}
