import type { EvaluationRecord, RunRecord, StepRecord, TrainSettings } from "../training_records.ts";
import type { Message, ModelSource, Picture, Progress } from "./protocol.ts";

export type { EvaluationRecord, RunRecord, StepRecord, TrainSettings };

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

/** Which tokens are learnt, and how large pictures and rows may be. */
export type SeenOptions = Pick<TrainSettings, "turns" | "maxPixels" | "maxTokens">;

/** What the model will see of a row: every token, and whether its loss counts. */
export interface SeenRow {
  /** In order. A picture's tokens are one span that names it; bytes of one character that several tokens share are one span too. */
  spans: { text: string; count: number; trained: boolean; picture?: number }[];
  tokens: number;
  trained: number;
  /** True when the row is over the limit and would be left out. */
  isTooLong: boolean;
  pictures: {
    pictureId: string;
    width: number;
    height: number;
    resizedWidth: number;
    resizedHeight: number;
    tokens: number;
  }[];
}

/** A picture at the size that the model sees, RGBA. */
export interface SeenPicture {
  width: number;
  height: number;
  rgba: Uint8ClampedArray<ArrayBuffer>;
}

export interface TrainingPlan {
  /** Settings that cannot be used; the rest of the plan is absent then. */
  problems: { field: string; expected: string; found: string; remedy: string }[];
  plan?: {
    trainable: number;
    /** "Trainable parameters = 43,646,976 of 8,810,770,672 (0.50% trained)" */
    trainableLine: string;
    steps: number;
    stepsPerEpoch: number;
    examples: number;
    heldBackExamples: number;
    tokens: number;
    trainedTokens: number;
    /** Tokens of the longest example: it decides the memory. */
    longest: number;
    /** Rows over the limit, left out as a whole; and rows that this model cannot learn, with the reason. */
    tooLong: { number: number; tokens: number }[];
    failed: { number: number; message: string }[];
    /** Rows held back that each evaluation scores. */
    scored: number;
    /** Learning rates of at most 200 steps. */
    rates: { step: number; rate: number }[];
    memory: {
      /** GPU bytes of the whole run, weights included, and what they are for. */
      total: number;
      parts: { name: string; bytes: number }[];
      /** The largest single buffer, and what this device allows. */
      largest: number;
      mostAllowed: number;
      /** What could be reduced: settings as they would be, and the bytes that it gives back; what helps most first. */
      reductions: { words: string; saves: number; settings: TrainSettings }[];
    };
  };
}

/** Where an adapter comes from: PEFT's folder or a zip of it, a Hub repository, or an address. */
export type AdapterSource =
  | { kind: "files"; name: string; files: { path: string; file: Blob }[] }
  | { kind: "hub"; repo: string; revision?: string; token?: string }
  | { kind: "url"; base: string };

/** PEFT's folder as a zip (for vLLM and Unsloth too), or a file for llama.cpp, which can hold language layers only. */
export type AdapterForm = "peft" | "gguf";

/** How an export was proved: it was written, read back and put on the model, and a question answered with both. */
export interface ExportProof {
  /** Tokens whose logits were compared. */
  tokens: number;
  /** ‖logits of the file − logits of the adapter‖ / ‖logits of the adapter‖. */
  difference: number;
}

/** A file, and its proof; without one the model was not loaded, or is training, and the file was read back number by number only. */
export interface ExportedAdapter {
  blob: Blob;
  proof?: ExportProof;
}

/** A merged checkpoint: a zip where none was written to a folder. Without a proof the zip was too large to be opened again. */
export interface MergedModel {
  zip?: Blob;
  /** Read back, so many layers answered one input as the original with its adapter, off by at most so much, which is rounding. */
  proof?: { layers: number; difference: number };
}

export interface AdapterRecord {
  id: string;
  name: string;
  created: number;
  /** The base that its files name; empty where they do not. */
  base: string;
  /** The stored model that it was trained with or compared with. */
  modelId: string;
  origin: "trained" | "imported";
  runId?: string;
  r: number;
  alpha: number;
  rslora: boolean;
  /** How many linear layers it changes, and whether the vision tower's are among them. */
  layers: number;
  hasVision: boolean;
  parameters: number;
  bytes: number;
  warnings: string[];
}

export interface RunOptions {
  name: string;
  /** GPU bytes that the run may take; one that is planned to take more is not started. */
  memoryLimit?: number;
  /** As in `RunRecord`. */
  patience: number;
}

/** What happens in a run, as it happens. */
export type RunEvent =
  | { type: "phase"; phase: string; done: number; total: number }
  /** State, scores and adapter have changed; the log is left out here. */
  | { type: "run"; run: RunRecord }
  /** GPU bytes once everything is allocated. */
  | { type: "memory"; bytes: number; ledger: Record<string, number> }
  | { type: "step"; record: StepRecord }
  /** A row held back was answered, `done` of `total`. */
  | { type: "answer"; sample: EvaluationRecord["samples"][number]; done: number; total: number }
  | { type: "evaluation"; record: EvaluationRecord }
  /** A reset GPU, a damaged checkpoint: the run goes on. */
  | { type: "note"; message: string };

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

  /** What a stored model would see of a row; the model need not be loaded. */
  inspectRow(modelId: string, datasetId: string, rowId: string, options: SeenOptions): Promise<SeenRow>;
  seenPicture(modelId: string, pictureId: string, maxPixels: number): Promise<SeenPicture>;
  defaultTrainSettings(): Promise<TrainSettings>;
  /** Tokenizes every row and says what a run would do and take, before anything is allocated. */
  planTraining(
    modelId: string,
    datasetId: string,
    settings: TrainSettings,
    taskId: string,
    onProgress: (done: number, total: number) => void,
  ): Promise<TrainingPlan>;
  /**
   * "Continue elsewhere": a zip of train.py (Unsloth and TRL, same settings), train.jsonl, test.jsonl and pictures/. Rows that are too
   * long are left out, as in a run here.
   */
  exportScript(
    modelId: string,
    datasetId: string,
    settings: TrainSettings,
    taskId: string,
    onProgress: (done: number, total: number) => void,
  ): Promise<Blob>;

  importAdapter(source: AdapterSource, modelId: string, taskId: string): Promise<AdapterRecord>;
  listAdapters(): Promise<AdapterRecord[]>;
  renameAdapter(id: string, name: string): Promise<AdapterRecord>;
  deleteAdapter(id: string): Promise<void>;
  /** Offers no file that does not read back as the adapter it was made of; where its model is loaded, its logits are compared too. */
  exportAdapter(id: string, form: AdapterForm, taskId: string): Promise<ExportedAdapter>;
  /**
   * The original checkpoint (read again from its source, in 16 or 32 bits) with the adapter merged in: into a folder where the browser can
   * write to one, else as a zip.
   */
  exportMerged(
    source: ModelSource,
    adapterId: string,
    folder: FileSystemDirectoryHandle | undefined,
    taskId: string,
    onProgress: (progress: Progress) => void,
  ): Promise<MergedModel>;

  /**
   * Trains an adapter for a stored model; resolves when the run has finished, is paused or stopped. One run at a time in all tabs
   * (`Busy`). After an error the last checkpoint, the log and the best adapter are kept. A cancelled task ends at once.
   */
  startRun(
    modelId: string,
    datasetId: string,
    settings: TrainSettings,
    options: RunOptions,
    taskId: string,
    onEvent: (event: RunEvent) => void,
  ): Promise<RunRecord>;
  /** Goes on from the newest good checkpoint: the next loss is, bit for bit, what it would have been. */
  resumeRun(id: string, taskId: string, onEvent: (event: RunEvent) => void): Promise<RunRecord>;
  /** Ends the run under way after its step, with a checkpoint. */
  endRun(id: string, how: "paused" | "stopped"): Promise<void>;
  /** For a page that is being hidden: keeps a checkpoint after the step under way. */
  checkpointSoon(): Promise<void>;
  /** Puts an adapter on the loaded model, or takes it off; the base's weights stay where they are. */
  useAdapter(id: string | undefined): Promise<void>;

  listRuns(): Promise<RunRecord[]>;
  loadRun(id: string): Promise<RunRecord>;
  renameRun(id: string, name: string): Promise<RunRecord>;
  deleteRun(id: string): Promise<void>;
  /** CSV, a line for each step. */
  runLog(id: string): Promise<Blob>;
}
