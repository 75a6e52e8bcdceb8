import { computed, signal } from "@preact/signals";
import type {
  DatasetDraft,
  DatasetRow,
  DatasetSummary,
  EvaluationRecord,
  RunRecord,
  StepRecord,
  TrainingPlan,
} from "../../api/index.ts";
import { loaded, models } from "../state.ts";
import type { Form } from "./settings_form.ts";

/** What the Train screen shows. Only `actions/train_*.ts` change it. */

export const VIEWS = {
  data: "Data",
  settings: "Settings",
  run: "Run",
  history: "History",
  adapters: "Adapters",
} as const;
export type View = keyof typeof VIEWS;

/** The part of the screen that the address names (`#/train/history/ID`), and what it is about. */
export const view = signal<{ name: View; id?: string }>({ name: "data" });

// ── Data ──

export const datasets = signal<DatasetSummary[] | undefined>(undefined);
/** The data set that is worked on, and trained with. */
export const datasetId = signal<string | undefined>(undefined);
export const dataset = computed(() => datasets.value?.find(({ id }) => id === datasetId.value));
/** All rows of that data set; undefined while they are read. */
export const rows = signal<DatasetRow[] | undefined>(undefined);

/** Files that are being read. */
export const readingFiles = signal<{ taskId: string; name: string; rows: number; pictures: number } | undefined>(
  undefined,
);
export const draft = signal<DatasetDraft | undefined>(undefined);
export const dataError = signal<string | undefined>(undefined);
/** A row that is looked at as the model sees it, or edited; "new" is one that is not stored yet. */
export const seenRow = signal<DatasetRow | undefined>(undefined);
export const editedRow = signal<DatasetRow | "new" | undefined>(undefined);

// ── Settings ──

/** The stored model that is trained: the one that was chosen, else the loaded one, else the first. */
export const chosenModel = signal<string | undefined>(undefined);
export const model = computed(() => {
  const complete = models.value.filter(({ state }) => state === "complete");
  const wanted = (id: string | undefined) => complete.find((record) => record.id === id);
  return wanted(chosenModel.value) ?? wanted(loaded.value?.id) ?? complete[0];
});

/** Undefined until the usual values have come. */
export const form = signal<Form | undefined>(undefined);
export const usualForm = signal<Form | undefined>(undefined);
export const plan = signal<TrainingPlan | undefined>(undefined);
export const planning = signal<{ done: number; total: number } | undefined>(undefined);
/** Gigabytes of the GPU's memory, as typed; nothing where the visitor has not said. */
export const gpuMemory = signal("");
export const planError = signal<string | undefined>(undefined);

// ── Run ──

export type Sample = EvaluationRecord["samples"][number];

/** The run under way in this tab, or the one that has just ended here. */
export interface LiveRun {
  taskId: string;
  record: RunRecord | undefined;
  name: string;
  log: StepRecord[];
  evaluations: EvaluationRecord[];
  phase: { phase: string; done: number; total: number } | undefined;
  memory: { bytes: number; ledger: Record<string, number> } | undefined;
  notes: string[];
  /** Answers of the evaluation under way. */
  answers: { samples: Sample[]; done: number; total: number };
  /** What the visitor has asked for; it happens after the step under way. */
  ending: "paused" | "stopped" | "cancelled" | undefined;
  isOver: boolean;
  error: string | undefined;
}
export const live = signal<LiveRun | undefined>(undefined);
export const isRunning = computed(() => live.value !== undefined && !live.value.isOver);

// ── History ──

export const runs = signal<RunRecord[] | undefined>(undefined);
/** Ids of the runs that are compared. */
export const compared = signal<string[]>([]);
