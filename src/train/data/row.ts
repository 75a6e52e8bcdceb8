/** A piece of a turn. A picture is named by the SHA-256 of its bytes. */
export type RowPart = { type: "text"; text: string } | { type: "image"; pictureId: string };

export interface RowTurn {
  role: "system" | "user" | "assistant";
  parts: RowPart[];
}

/** A training example: a conversation whose assistant turns are learnt. */
export interface DataRow {
  /** Unique in its data set and kept through edits. */
  id: string;
  messages: RowTurn[];
  /** Set where the source said to which part of the split the row belongs (files called train, val, test, …). */
  part?: DataPart;
}

export type DataPart = "train" | "heldBack";

/** What is wrong with a row, or with a file. Rows with an error are left out; rows with warnings are taken. */
export interface RowIssue {
  severity: "error" | "warning";
  file: string;
  /** Counted from 1 within its file; absent when the whole file is meant. */
  row?: number;
  field: string;
  expected: string;
  found: string;
  /** What to do. */
  remedy: string;
}

/** An issue before it is known where the row stood. */
export type Problem = Omit<RowIssue, "file" | "row">;

export const error = (field: string, expected: string, found: string, remedy: string): Problem => ({
  severity: "error",
  field,
  expected,
  found,
  remedy,
});

/** A value in a message: short, whatever a hostile file puts there. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  let text: string;
  try {
    const plain = (_: string, v: unknown) =>
      typeof v === "bigint" ? Number(v) : v instanceof Uint8Array ? `${v.length} bytes` : v;
    text = JSON.stringify(value, plain) ?? String(value);
  } catch {
    text = "something nested very deeply";
  }
  return text.length > 100 ? `${text.slice(0, 97)}…` : text;
}
