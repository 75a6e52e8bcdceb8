import { isError, throwIfCancelled } from "../../errors.ts";
import type { DataRow } from "../data/row.ts";
import type { Example, RowTokenizer, TokenizeOptions } from "./row_tokenizer.ts";

export interface EncodedRows {
  examples: Example[];
  /** Rows over the limit: left out as a whole, never cut. */
  tooLong: { rowId: string; tokens: number }[];
  /** Rows that cannot be learnt with this model, and why. */
  failed: { rowId: string; message: string }[];
}

export interface EncodeOptions extends TokenizeOptions {
  maxTokens: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** After so many milliseconds others get a turn, so that a cancel is heard. */
const SLICE = 50;

/** Tokenizes rows. One row that fails does not stop the others. Throws `Cancelled`. */
export async function encodeRows(
  tokenizer: RowTokenizer,
  rows: readonly DataRow[],
  sizeOf: (pictureId: string) => { width: number; height: number },
  options: EncodeOptions,
): Promise<EncodedRows> {
  const out: EncodedRows = { examples: [], tooLong: [], failed: [] };
  let since = performance.now();
  for (const [i, row] of rows.entries()) {
    throwIfCancelled(options.signal);
    if (performance.now() - since > SLICE) {
      options.onProgress?.(i, rows.length);
      await new Promise((resolve) => setTimeout(resolve));
      since = performance.now();
    }
    try {
      const example = tokenizer.encode(row, sizeOf, options);
      if (example.ids.length > options.maxTokens) out.tooLong.push({ rowId: row.id, tokens: example.ids.length });
      else if (example.trained > 0) out.examples.push(example);
      else out.failed.push({ rowId: row.id, message: "No token of it is learnt." });
    } catch (cause) {
      if (isError(cause, "Cancelled")) throw cause;
      out.failed.push({ rowId: row.id, message: cause instanceof Error ? cause.message : String(cause) });
    }
  }
  return out;
}
