import { throwIfCancelled } from "../../errors.ts";
import { parquetRows, parseCsv } from "../../formats/index.ts";
import type { DataFile } from "./file_tree.ts";
import { error, type Problem, show } from "./row.ts";

/** A row as its file has it, before it is known what it means. */
export interface RawRow {
  value: unknown;
  /** Set where the row could not even be read. */
  problem?: Problem;
}

/** Texts that are read as a whole: JavaScript's strings end near 512 MiB. */
const MAX_TEXT_BYTES = 400 << 20;
/** Longest line of a .jsonl file, in characters: a large picture as a data URL still fits. */
const MAX_LINE = 64 << 20;

export type TableKind = "jsonl" | "json" | "csv" | "parquet";

/** What a file's name says about it; undefined for pictures and the rest. */
export function tableKind(path: string): TableKind | undefined {
  const ending = path.toLowerCase().match(/\.(jsonl|ndjson|json|csv|tsv|parquet)$/)?.[1];
  if (ending === "ndjson") return "jsonl";
  return ending === "tsv" ? "csv" : (ending as TableKind | undefined);
}

/**
 * Rows of a table in order; the content decides where it contradicts the name. A line that cannot be read is one row with a problem.
 * Throws `BadInput` only where nothing of a file can be read.
 */
export async function* readTable(file: DataFile, kind: TableKind, signal?: AbortSignal): AsyncGenerator<RawRow> {
  const blob = await file.blob(signal);
  const head = await blob.slice(0, 1 << 12).text();
  if (kind === "parquet" || head.startsWith("PAR1")) {
    for await (const value of parquetRows(blob, file.path, signal)) yield { value };
  } else if (kind === "jsonl" || (kind === "json" && looksLikeLines(head))) {
    yield* readLines(blob, signal);
  } else if (blob.size > MAX_TEXT_BYTES) {
    const remedy = "Save it as .jsonl, one row to a line: that has no limit.";
    yield { value: undefined, problem: error("file", `at most ${MAX_TEXT_BYTES} bytes`, `${blob.size} bytes`, remedy) };
  } else if (kind === "csv" && !/^\ufeff?\s*[[{]/.test(head)) {
    const { rows, problems } = parseCsv(await blob.text());
    for (const [i, value] of rows.entries()) {
      const found = problems.get(i);
      const remedy = "Put texts with commas or quotes between quotes, and double quotes inside.";
      yield found ? { value, problem: error("line", "one cell for each heading", found, remedy) } : { value };
    }
  } else yield* readJson(await blob.text());
}

/** True where the first line is a whole object and something follows it. */
function looksLikeLines(head: string): boolean {
  const [first, ...rest] = head.trimStart().split("\n");
  if (!first?.startsWith("{") || rest.join("").trim() === "") return false;
  try {
    JSON.parse(first);
    return true;
  } catch {
    return false;
  }
}

function* readJson(text: string): Generator<RawRow> {
  let json: unknown;
  try {
    json = JSON.parse(text.replace(/^\ufeff/, ""));
  } catch (cause) {
    const found = cause instanceof Error ? cause.message.slice(0, 120) : String(cause);
    yield { value: undefined, problem: error("file", "JSON", found, "Correct the file, or save it as .jsonl.") };
    return;
  }
  if (Array.isArray(json)) for (const value of json) yield { value };
  else if (typeof json === "object" && json !== null) {
    // {"data": [...]}, {"train": [...]}, or one row alone.
    const lists = Object.entries(json).filter(([, v]) => Array.isArray(v) && v.length > 0 && typeof v[0] === "object");
    const named = lists.filter(([key]) => !/^(messages|conversations?|prompt|completion|images?)$/i.test(key));
    if (named.length === 0) yield { value: json };
    for (const [, rows] of named) for (const value of rows as unknown[]) yield { value };
  } else {
    yield { value: undefined, problem: error("file", "a list of rows", show(json), "Save the rows as a JSON list.") };
  }
}

/** A .jsonl file of any size, line by line. */
async function* readLines(blob: Blob, signal?: AbortSignal): AsyncGenerator<RawRow> {
  const decoder = new TextDecoder();
  let rest = "";
  const step = 1 << 20;
  for (let at = 0; at < blob.size; at += step) {
    throwIfCancelled(signal);
    rest += decoder.decode(await blob.slice(at, at + step).arrayBuffer(), { stream: at + step < blob.size });
    if (rest.length > MAX_LINE) {
      const remedy = "Put a line break after each row.";
      yield { value: undefined, problem: error("line", `at most ${MAX_LINE} characters`, "a longer one", remedy) };
      return;
    }
    const lines = rest.split("\n");
    rest = lines.pop()!;
    for (const line of lines) if (line.trim() !== "") yield readLine(line);
  }
  if (rest.trim() !== "") yield readLine(rest);
}

function readLine(line: string): RawRow {
  try {
    return { value: JSON.parse(line) };
  } catch {
    const remedy = "Write each row as one JSON object on one line.";
    return { value: undefined, problem: error("line", "a JSON object", show(line), remedy) };
  }
}
