import { isError, TabTuneError, throwIfCancelled } from "../../errors.ts";
import { sha256Hex } from "../../formats/index.ts";
import { baseName, type DataFile, FileTree } from "./file_tree.ts";
import { type DraftRow, type PictureSource, parseRow, partOfName, type RowShape, shapeOf } from "./parse_row.ts";
import { readTable, type TableKind, tableKind } from "./read_table.ts";
import { type DataRow, error, type Problem, type RowIssue, type RowPart, show } from "./row.ts";

/** A picture of a data set, kept once for all rows that show it. */
export interface DataPicture {
  /** SHA-256 of the bytes. */
  id: string;
  name: string;
  blob: Blob;
  width: number;
  height: number;
}

export interface ReadResult {
  name: string;
  /** How the rows were written, for a person. */
  formats: string[];
  rows: DataRow[];
  pictures: Map<string, DataPicture>;
  /** The first `MAX_ISSUES`; `issueCount` counts all. */
  issues: RowIssue[];
  issueCount: number;
  /** Rows met, those with errors included. */
  rowsRead: number;
}

export interface ReadOptions {
  /** Finds out whether a picture can be decoded, and its size. Throws `BadImage`. */
  probe(blob: Blob, name: string): Promise<{ width: number; height: number }>;
  signal?: AbortSignal;
  onProgress?: (rows: number, pictures: number) => void;
}

const MAX_ISSUES = 1000;
const MAX_ROWS = 200_000;
const MAX_PICTURE_BYTES = 64 << 20;
/** A folder with more tables than this holds one for each picture (ChartQA's "annotations" and "tables"), and no rows. */
const MAX_TABLES = 100;

/**
 * Turns what was dropped into rows: finds the tables, sees how each is written, and looks up every picture.
 * One bad row never spoils the rest: it becomes an issue that names file, row, field, expected, found and what to do.
 * Throws `BadInput` where there is no table at all, `Cancelled`.
 */
export async function readDataset(
  name: string,
  dropped: readonly { path: string; file: Blob }[],
  options: ReadOptions,
): Promise<ReadResult> {
  const tree = await FileTree.open(dropped, options.signal);
  const reader = new Reader(name, tree, options);
  for (const [file, kind] of reader.tables()) await reader.read(file, kind);
  return reader.finish();
}

class Reader {
  #tree: FileTree;
  #options: ReadOptions;
  #result: ReadResult;
  /** Pictures by path, so that one that several rows show is read once. */
  #seen = new Map<string, DataPicture | Problem>();
  #unknown: RowIssue[] = [];

  constructor(name: string, tree: FileTree, options: ReadOptions) {
    this.#tree = tree;
    this.#options = options;
    this.#result = { name, formats: [], rows: [], pictures: new Map(), issues: [], issueCount: 0, rowsRead: 0 };
  }

  /** Files that may hold rows, in order of path. Throws `BadInput` when there are none. */
  tables(): [DataFile, TableKind][] {
    const folders = new Map<string, [DataFile, TableKind][]>();
    for (const file of this.#tree.files) {
      const kind = tableKind(file.path);
      if (!kind) continue;
      const folder = file.path.slice(0, -baseName(file.path).length);
      folders.set(folder, [...(folders.get(folder) ?? []), [file, kind]]);
    }
    if (folders.size === 0) {
      const some = this.#tree.files.slice(0, 3).map((f) => f.path);
      throw new TabTuneError(
        "BadInput",
        `Expected a table of questions and answers (.jsonl, .json, .csv or .parquet), found only ${some.join(", ")}${this.#tree.files.length > 3 ? " …" : ""}. Drop the whole folder, table and pictures together.`,
      );
    }
    const out: [DataFile, TableKind][] = [];
    for (const [folder, tables] of folders) {
      if (tables.length <= MAX_TABLES) out.push(...tables);
      else {
        this.#report(folder || "the folder", undefined, {
          ...error(
            "file",
            "a few tables",
            `${tables.length} of them`,
            "They look like one for each picture and were left out.",
          ),
          severity: "warning",
        });
      }
    }
    return out.sort(([a], [b]) => (a.path < b.path ? -1 : 1));
  }

  async read(file: DataFile, kind: TableKind): Promise<void> {
    const result = this.#result;
    const part = partOfName(baseName(file.path)) ?? partOfFolder(file.path);
    let shape: RowShape | undefined;
    let n = 0;
    try {
      for await (const { value, problem } of readTable(file, kind, this.#options.signal)) {
        throwIfCancelled(this.#options.signal);
        n++;
        shape = shapeOf(value) ?? shape;
        if (!shape && !problem) {
          // A settings file, or a table of something else: said once, not for each row.
          this.#unknown.push({ ...notRows(value), file: file.path });
          return;
        }
        if (++result.rowsRead > MAX_ROWS) {
          const remedy = "The rest was left out; split the data set.";
          this.#report(file.path, n, error("file", `at most ${MAX_ROWS} rows`, "more", remedy));
          return;
        }
        if (problem) this.#report(file.path, n, problem);
        else await this.#row(value, shape!, file, n, part);
        this.#options.onProgress?.(result.rowsRead, result.pictures.size);
      }
      if (shape && !result.formats.includes(shape)) result.formats.push(shape);
    } catch (cause) {
      if (isError(cause, "Cancelled")) throw cause;
      const found = cause instanceof Error ? cause.message : String(cause);
      this.#report(file.path, undefined, error("file", "a table that can be read", found, "Write the file again."));
    }
  }

  async #row(value: unknown, shape: RowShape, file: DataFile, n: number, part: DataRow["part"]): Promise<void> {
    const { row: draft, problems } = parseRow(value, shape);
    const row = draft && (await this.#place(draft, file, problems));
    for (const problem of problems) this.#report(file.path, n, problem);
    if (!row) return;
    const own = row.part ?? part;
    this.#result.rows.push({ ...row, ...(own ? { part: own } : {}), id: `r${this.#result.rows.length + 1}` });
  }

  /** Replaces sources by pictures; with one missing there is no row. */
  async #place(draft: DraftRow, file: DataFile, problems: Problem[]): Promise<Omit<DataRow, "id"> | undefined> {
    const messages: DataRow["messages"] = [];
    for (const { role, parts } of draft.turns) {
      const placed: RowPart[] = [];
      for (const part of parts) {
        if (part.type === "text") placed.push(part);
        else if (part.type === "picture") {
          const picture = await this.#picture(part.source, file, problems);
          if (!picture) return undefined;
          placed.push({ type: "image", pictureId: picture.id });
        }
      }
      messages.push({ role, parts: placed });
    }
    return { messages, ...(draft.part ? { part: draft.part } : {}) };
  }

  async #picture(source: PictureSource, table: DataFile, problems: Problem[]): Promise<DataPicture | undefined> {
    if (source.kind !== "path") {
      const found = await this.#load(source.kind === "bytes" ? source.name : "picture", async () => bytesOf(source));
      if ("id" in found) return found;
      problems.push(found);
      return undefined;
    }
    const found = this.#tree.find(source.path, table.path);
    if (!found || found === "several") {
      const what = found ? "several files of this name in other folders" : "no such file among those dropped";
      const remedy = found ? "Write the path with its folder." : "Drop the folder of pictures together with the table.";
      problems.push(error("picture", show(source.path), what, remedy));
      return undefined;
    }
    const { path, size } = found.file;
    if (!found.exact) {
      const remedy = "Look whether it is the right one.";
      problems.push({ ...error("picture", show(source.path), `${path}, taken instead`, remedy), severity: "warning" });
    }
    let picture = this.#seen.get(path);
    if (!picture) {
      picture = await this.#load(baseName(path), async () => {
        if (size > MAX_PICTURE_BYTES)
          throw new Error(`it has ${size} bytes, and at most ${MAX_PICTURE_BYTES} are taken`);
        return new Uint8Array(await (await found.file.blob(this.#options.signal)).arrayBuffer());
      });
      this.#seen.set(path, picture);
    }
    if ("id" in picture) return picture;
    problems.push(picture);
    return undefined;
  }

  async #load(name: string, read: () => Promise<Uint8Array<ArrayBuffer>>): Promise<DataPicture | Problem> {
    try {
      const bytes = await read();
      const id = await sha256Hex(bytes);
      const known = this.#result.pictures.get(id);
      if (known) return known;
      const blob = new Blob([bytes], { type: mimeOf(bytes) });
      const picture = { id, name, blob, ...(await this.#options.probe(blob, name)) };
      this.#result.pictures.set(id, picture);
      return picture;
    } catch (cause) {
      if (isError(cause, "Cancelled")) throw cause;
      const found = cause instanceof Error ? cause.message : String(cause);
      return error("picture", `“${name}” to be a picture`, found, "Replace the picture or remove the row.");
    }
  }

  #report(file: string, row: number | undefined, problem: Problem): void {
    this.#result.issueCount++;
    if (this.#result.issues.length >= MAX_ISSUES) return;
    this.#result.issues.push({ file, ...(row === undefined ? {} : { row }), ...problem });
  }

  finish(): ReadResult {
    const result = this.#result;
    // A folder that merely is called "test" holds nothing back when there is nothing else.
    if (result.rows.every((row) => row.part === "heldBack")) for (const row of result.rows) delete row.part;
    for (const issue of this.#unknown) {
      const { file, ...problem } = issue;
      // Beside real rows it is a remark; alone it is why there are none.
      this.#report(file, undefined, { ...problem, severity: result.rowsRead > 0 ? "warning" : "error" });
    }
    return result;
  }
}

function notRows(value: unknown): Problem {
  const keys =
    typeof value === "object" && value !== null ? `fields ${Object.keys(value).slice(0, 8).join(", ")}` : show(value);
  return error(
    "file",
    "rows with messages, conversations, or a picture, a question and an answer",
    keys.slice(0, 160),
    "It was left out. If it holds the examples, name the columns image, question and answer.",
  );
}

/** "ChartQA/val/val_human.json" belongs to what is held back, also where only the folder says so. */
function partOfFolder(path: string): DataRow["part"] {
  const folder = path.split("/").at(-2);
  return folder === undefined ? undefined : partOfName(folder);
}

function bytesOf(source: Exclude<PictureSource, { kind: "path" }>): Uint8Array<ArrayBuffer> {
  if (source.kind === "bytes") return new Uint8Array(source.bytes);
  const base64 = source.url.startsWith("data:") ? source.url.slice(source.url.indexOf(",") + 1) : source.url;
  if (source.url.startsWith("data:") && !/^data:[^,]*;base64,/.test(source.url)) {
    throw new Error(`expected a base64 data URL, found ${show(source.url.slice(0, 40))}`);
  }
  if (base64.length > MAX_PICTURE_BYTES * 1.4) throw new Error(`it has over ${MAX_PICTURE_BYTES} bytes`);
  let text: string;
  try {
    text = atob(base64);
  } catch {
    throw new Error("the base64 text is damaged");
  }
  return Uint8Array.from(text, (c) => c.charCodeAt(0));
}

/** So that a stored picture can be shown as it is. */
function mimeOf(bytes: Uint8Array): string {
  if (bytes[0] === 0x89 && bytes[1] === 0x50) return "image/png";
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return "image/jpeg";
  if (bytes[0] === 0x47 && bytes[1] === 0x49) return "image/gif";
  return bytes[0] === 0x52 && bytes[1] === 0x49 ? "image/webp" : "";
}
