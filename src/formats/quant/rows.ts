import { TabTuneError } from "../../errors.ts";
import { aligned16, f32ToBf16, firstBadBf16 } from "../dtype.ts";
import { type RowFormat, rowFormat } from "../row_format.ts";
import { grouping, rowLayout, type SlotScheme } from "../weight_slot.ts";
import { DEFAULT_SEARCH, encodeAffineRow } from "./affine4.ts";

/** Raw rows of one tensor to be stored in a scheme. Plain data: it may be sent to another worker. */
export interface EncodeJob {
  scheme: SlotScheme;
  /** Key of the rows' format. */
  dtype: string;
  /** `rows` rows in that format. */
  raw: Uint8Array<ArrayBuffer>;
  rows: number;
  cols: number;
  /** For messages: the tensor, and the row of it that comes first. */
  tensor: string;
  row0: number;
}

/** The two planes of `rowLayout`, row after row. */
export interface EncodedRows {
  codes: Uint8Array<ArrayBuffer>;
  meta: Uint8Array<ArrayBuffer>;
}

/**
 * Brings rows into the layout that the GPU binds. Exact into the scheme that the rows' format asks for, from bf16 into `bf16`, and from
 * anything into `f32`. Throws `BadCheckpoint` naming tensor and row for NaN, infinity, or values that a scheme cannot hold.
 */
export function encodeRows(job: EncodeJob, search = DEFAULT_SEARCH): EncodedRows {
  const { scheme, rows, cols } = job;
  const layout = rowLayout(scheme, cols);
  const planes = { codes: new Uint8Array(rows * layout.codesBytes), meta: new Uint8Array(rows * layout.metaBytes) };
  const format = rowFormat(job.dtype);
  if (!format) throw new TabTuneError("Internal", `${job.tensor}: no format of rows is named ${job.dtype}.`);
  const encode = rowEncoder(job, format, search);
  const rowBytes = format.rowBytes(cols);
  for (let r = 0; r < rows; r++) {
    encode(
      r,
      job.raw.subarray(r * rowBytes, (r + 1) * rowBytes),
      planes.codes.subarray(r * layout.codesBytes, (r + 1) * layout.codesBytes),
      planes.meta.subarray(r * layout.metaBytes, (r + 1) * layout.metaBytes),
    );
  }
  return planes;
}

type EncodeRow = (r: number, raw: Uint8Array, codes: Uint8Array, meta: Uint8Array) => void;

/** How one row is brought into the job's scheme. */
function rowEncoder(job: EncodeJob, format: RowFormat, search: number): EncodeRow {
  const { scheme, dtype, cols } = job;
  const row = new Float32Array(cols);
  const decode = (r: number, raw: Uint8Array, out: Float32Array) => {
    const bad = format.decode(raw, cols, out);
    if (bad >= 0) throw badValue(job, r, bad);
  };
  const exact = format.exact?.find((way) => way.scheme === scheme);
  if (exact) {
    return (r, raw, codes, meta) => {
      const bad = exact.repack(raw, cols, codes, meta);
      if (bad >= 0) throw badValue(job, r, bad);
    };
  }
  if (scheme === "f32")
    return (r, raw, codes) => decode(r, raw, new Float32Array(codes.buffer, codes.byteOffset, cols));
  if (scheme === "bf16" && dtype === "BF16") {
    return (r, raw, codes) => {
      const bad = firstBadBf16(raw, cols);
      if (bad >= 0) throw badValue(job, r, bad);
      new Uint16Array(codes.buffer, codes.byteOffset, cols).set(aligned16(raw, cols));
    };
  }
  if (scheme === "bf16") {
    return (r, raw, codes) => {
      decode(r, raw, row);
      const halves = new Uint16Array(codes.buffer, codes.byteOffset, cols);
      for (let i = 0; i < cols; i++) halves[i] = f32ToBf16(row[i]!);
    };
  }
  if (scheme !== "q4a32" && scheme !== "q4a64") {
    throw new TabTuneError("Internal", `${job.tensor}: rows of ${dtype} cannot be stored as ${scheme}.`);
  }
  const { group } = grouping(scheme)!;
  return (r, raw, codes, meta) => {
    decode(r, raw, row);
    const words = new Uint32Array(codes.buffer, codes.byteOffset, codes.length / 4);
    const metaWords = new Uint32Array(meta.buffer, meta.byteOffset, meta.length / 4);
    if (!encodeAffineRow(row, cols, group, search, words, 0, metaWords, 0)) throw tooLarge(job, r);
  };
}

function badValue(job: EncodeJob, row: number, column: number): TabTuneError {
  return new TabTuneError(
    "BadCheckpoint",
    `${job.tensor}: expected finite weights, found NaN or infinity in row ${job.row0 + row}, column ${column}. The checkpoint is damaged or its training diverged.`,
  );
}

function tooLarge(job: EncodeJob, row: number): TabTuneError {
  return new TabTuneError(
    "BadCheckpoint",
    `${job.tensor}: expected weights within ±65504 for 4-bit storage, found a larger one in row ${job.row0 + row}. Import it as bf16 instead.`,
  );
}
