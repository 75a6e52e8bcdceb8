import { TabTuneError } from "../../errors.ts";
import { sha256Hex } from "../../formats/index.ts";
import { shuffled } from "../random.ts";
import { checkTurns } from "./parse_row.ts";
import type { DataPart, DataRow, Problem } from "./row.ts";

/** How rows are divided: as their source says, or by chance, rows that show one picture always together. */
export type Split = { kind: "given" } | { kind: "random"; seed: number; heldBack: number };

/** The values of a data set; its pictures are stored apart, by hash. */
export interface Dataset {
  rows: readonly DataRow[];
  split: Split;
}

export type DatasetEdit =
  /** Replaces the row of the same id, or adds it `at` a place (the end where absent). */
  { kind: "put"; row: DataRow; at?: number } | { kind: "delete"; ids: string[] } | { kind: "split"; split: Split };

/** How many steps back an editor knows. */
const MAX_UNDO = 200;

/** Edits with undo and redo. Rows are values: every edit makes a new list and the old one is kept. */
export class DatasetEditor {
  #now: Dataset;
  #before: Dataset[] = [];
  #after: Dataset[] = [];

  constructor(dataset: Dataset) {
    this.#now = dataset;
  }

  get dataset(): Dataset {
    return this.#now;
  }

  get canUndo(): boolean {
    return this.#before.length > 0;
  }

  get canRedo(): boolean {
    return this.#after.length > 0;
  }

  /** Pictures of the data set as it is, was and can be again. */
  pictures(): Set<string> {
    return picturesOf([this.#now, ...this.#before, ...this.#after].flatMap(({ rows }) => rows));
  }

  /** Throws `BadInput` for a row that could not be learnt or a split that cannot be made; nothing has changed then. */
  apply(edit: DatasetEdit): void {
    const next = changed(this.#now, edit);
    this.#before.push(this.#now);
    if (this.#before.length > MAX_UNDO) this.#before.shift();
    this.#after = [];
    this.#now = next;
  }

  undo(): void {
    const before = this.#before.pop();
    if (!before) return;
    this.#after.push(this.#now);
    this.#now = before;
  }

  redo(): void {
    const after = this.#after.pop();
    if (!after) return;
    this.#before.push(this.#now);
    this.#now = after;
  }
}

function changed(dataset: Dataset, edit: DatasetEdit): Dataset {
  const { rows } = dataset;
  switch (edit.kind) {
    case "put": {
      const problems: Problem[] = [];
      checkTurns(edit.row.messages, problems);
      const wrong = problems.find((p) => p.severity === "error");
      if (wrong) {
        throw new TabTuneError(
          "BadInput",
          `This row cannot be learnt: ${wrong.field}: expected ${wrong.expected}, found ${wrong.found}. ${wrong.remedy}`,
        );
      }
      const at = rows.findIndex((row) => row.id === edit.row.id);
      if (at >= 0) return { ...dataset, rows: rows.with(at, edit.row) };
      return { ...dataset, rows: rows.toSpliced(edit.at ?? rows.length, 0, edit.row) };
    }
    case "delete": {
      const gone = new Set(edit.ids);
      return { ...dataset, rows: rows.filter((row) => !gone.has(row.id)) };
    }
    case "split":
      checkSplit(edit.split, rows);
      return { ...dataset, split: edit.split };
  }
}

function checkSplit(split: Split, rows: readonly DataRow[]): void {
  if (split.kind === "given") {
    if (rows.some((row) => row.part === "heldBack")) return;
    throw new TabTuneError(
      "BadInput",
      "The source held no rows back, so there is no split of its own. Choose a share.",
    );
  }
  const { seed, heldBack } = split;
  if (!Number.isInteger(seed)) throw new TabTuneError("BadInput", `Seed: expected a whole number, found ${seed}.`);
  if (!(heldBack >= 0 && heldBack < 1)) {
    throw new TabTuneError(
      "BadInput",
      `Share held back: expected 0 to less than 1, found ${heldBack}. At 0.1 every tenth picture is kept for testing.`,
    );
  }
}

/** SHA-256 of what is learnt: rows in order and the split, not names, ids or the way of storing. Equal data has equal hashes. */
export async function datasetHash({ rows, split }: Dataset): Promise<string> {
  const plain = rows.map(({ messages, part }) => [
    part ?? null,
    messages.map(({ role, parts }) => [
      role,
      parts.map((p) => (p.type === "text" ? ["t", p.text] : ["i", p.pictureId])),
    ]),
  ]);
  return await sha256Hex(new TextEncoder().encode(JSON.stringify([plain, Object.entries(split).sort()])));
}

/** Hashes of all pictures that rows show, each once. */
export function picturesOf(rows: readonly DataRow[]): Set<string> {
  const parts = rows.flatMap((row) => row.messages.flatMap((turn) => turn.parts));
  return new Set(parts.flatMap((part) => (part.type === "image" ? [part.pictureId] : [])));
}

/** The part of each row, in order of rows. */
export function partsOf({ rows, split }: Dataset): DataPart[] {
  if (split.kind === "given") return rows.map((row) => row.part ?? "train");
  const groups = groupsByPicture(rows);
  const order = shuffled(groups.length, split.seed);
  const parts: DataPart[] = rows.map(() => "train");
  let wanted = Math.round(rows.length * split.heldBack);
  // At least one of each where there is a choice at all.
  if (split.heldBack > 0 && groups.length > 1) wanted = Math.max(1, wanted);
  let taken = 0;
  for (const g of order.slice(1)) {
    if (taken >= wanted) break;
    for (const i of groups[g]!) parts[i] = "heldBack";
    taken += groups[g]!.length;
  }
  return parts;
}

/** Rows joined by pictures: a chart with five questions must not be learnt from one and tested with another. */
function groupsByPicture(rows: readonly DataRow[]): number[][] {
  const parent = rows.map((_, i) => i);
  const root = (i: number): number => {
    let at = i;
    while (parent[at] !== at) {
      parent[at] = parent[parent[at]!]!;
      at = parent[at]!;
    }
    return at;
  };
  const owner = new Map<string, number>();
  rows.forEach((row, i) => {
    for (const picture of picturesOf([row])) {
      const first = owner.get(picture);
      if (first === undefined) owner.set(picture, i);
      else parent[root(i)] = root(first);
    }
  });
  const groups = new Map<number, number[]>();
  rows.forEach((_, i) => {
    const r = root(i);
    const group = groups.get(r);
    if (group) group.push(i);
    else groups.set(r, [i]);
  });
  return [...groups.values()];
}
