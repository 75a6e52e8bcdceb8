import type { Message, Picture } from "./protocol.ts";

/** What crosses between page and worker about data sets, adapters and training runs. Same rules as `protocol.ts`. */

/** Where rows come from: dropped or picked files, folders or zips of them, or the example that comes with the app. */
export type DatasetSource =
  | { kind: "files"; name: string; files: { path: string; file: Blob }[] }
  | { kind: "example" };

/** What is wrong with a row or a file. Rows with an error are left out; rows with warnings are taken. */
export interface DatasetIssue {
  severity: "error" | "warning";
  file: string;
  /** Counted from 1 within its file; absent when the whole file is meant. */
  row?: number;
  field: string;
  expected: string;
  found: string;
  remedy: string;
}

/** A training example. Ids stay through edits; pictures come from `datasetPicture`. */
export interface DatasetRow {
  id: string;
  messages: Message[];
  part: "train" | "heldBack";
  /** Counted from 1 in the whole data set. */
  number: number;
}

/** Rows as they were read, not stored yet. It lives in the worker until it is stored or discarded. */
export interface DatasetDraft {
  id: string;
  name: string;
  /** How the rows were written: "ChartQA", "messages", … */
  formats: string[];
  rowsRead: number;
  rows: number;
  pictures: number;
  /** Of pictures. */
  bytes: number;
  /** The first 1,000. */
  issues: DatasetIssue[];
  issueCount: number;
  /** The first 20. */
  sample: DatasetRow[];
}

/** How rows are divided: as their source says (offered where it does), or by chance, rows that show one picture together. */
export type DatasetSplit = { kind: "given" } | { kind: "random"; seed: number; heldBack: number };

export interface DatasetSummary {
  id: string;
  name: string;
  created: number;
  updated: number;
  formats: string[];
  rows: number;
  trainRows: number;
  heldBackRows: number;
  pictures: number;
  split: DatasetSplit;
  /** True where the source said which rows are held back. */
  hasGivenSplit: boolean;
  /** SHA-256 of rows and split: equal data has equal hashes. */
  hash: string;
  canUndo: boolean;
  canRedo: boolean;
}

export type DatasetChange =
  /** Replaces the row of this id, or adds it `at` a place (the end where absent). `pictures` are those that are new. */
  | { kind: "put"; row: Pick<DatasetRow, "id" | "messages">; at?: number; pictures: Picture[] }
  | { kind: "delete"; ids: string[] }
  | { kind: "split"; split: DatasetSplit }
  | { kind: "undo" }
  | { kind: "redo" };

/** The part of the worker that serves the Train page; errors and task ids as in `EngineApi`. */
export interface TrainApi {
  /** Reads rows and pictures and reports what is wrong; nothing is stored. */
  readDataset(
    source: DatasetSource,
    taskId: string,
    onProgress: (rows: number, pictures: number) => void,
  ): Promise<DatasetDraft>;
  storeDataset(draftId: string, name: string): Promise<DatasetSummary>;
  discardDraft(draftId: string): Promise<void>;

  listDatasets(): Promise<DatasetSummary[]>;
  /** An empty data set, to be typed in. */
  createDataset(name: string): Promise<DatasetSummary>;
  renameDataset(id: string, name: string): Promise<DatasetSummary>;
  deleteDataset(id: string): Promise<void>;
  datasetRows(
    id: string,
    range: { from: number; count: number; part?: "train" | "heldBack" },
  ): Promise<{ rows: DatasetRow[]; total: number }>;
  /** Of a stored data set or a draft. */
  datasetPicture(pictureId: string): Promise<Picture>;
  editDataset(id: string, change: DatasetChange): Promise<DatasetSummary>;
  /** A zip of train.jsonl, test.jsonl and pictures/ that this page and TRL read. */
  exportDataset(id: string): Promise<Blob>;
}
