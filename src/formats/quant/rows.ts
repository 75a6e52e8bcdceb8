import { TabTuneError } from "../../errors.ts";
import type { WeightDtype } from "../checkpoint.ts";
import { aligned16, bf16ToF32, decodeFloats, f16ToF32, f32ToBf16, firstBadBf16 } from "../dtype.ts";
import { groupSize, rowLayout, type SlotScheme } from "../weight_slot.ts";
import { DEFAULT_SEARCH, encodeAffineRow, NIBBLE_SHIFT } from "./affine4.ts";

/** Raw rows of one tensor to be stored in a scheme. Plain data: it may be sent to another worker. */
export interface EncodeJob {
  scheme: SlotScheme;
  dtype: WeightDtype;
  /** `rows * cols` little-endian elements. */
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
 * Brings rows into the layout that the GPU binds. bf16 to `bf16` and anything to `f32` are exact.
 * Throws `BadCheckpoint` naming tensor and row for NaN, infinity, or values that a scheme cannot hold.
 */
export function encodeRows(job: EncodeJob, search = DEFAULT_SEARCH): EncodedRows {
  const { scheme, rows, cols } = job;
  const layout = rowLayout(scheme, cols);
  const codes = new Uint8Array(rows * layout.codesBytes);
  const meta = new Uint8Array(rows * layout.metaBytes);
  const elementBytes = job.dtype === "F32" ? 4 : 2;
  const row = scheme === "f32" ? new Float32Array(codes.buffer) : new Float32Array(cols);
  const words = new Uint32Array(codes.buffer);
  const metaWords = new Uint32Array(meta.buffer);
  const halves = new Uint16Array(codes.buffer);
  const group = groupSize(scheme);
  for (let r = 0; r < rows; r++) {
    const raw = job.raw.subarray(r * cols * elementBytes, (r + 1) * cols * elementBytes);
    const target = scheme === "f32" ? row.subarray(r * cols, (r + 1) * cols) : row;
    const bad =
      scheme === "bf16" && job.dtype === "BF16" ? firstBadBf16(raw, cols) : decodeFloats(job.dtype, raw, cols, target);
    if (bad >= 0) throw badValue(job, r, bad);
    if (group > 0) {
      const ok = encodeAffineRow(
        row,
        cols,
        group,
        search,
        words,
        (r * layout.codesBytes) / 4,
        metaWords,
        (r * layout.metaBytes) / 4,
      );
      if (!ok) throw tooLarge(job, r);
    } else if (scheme === "bf16") {
      const at = (r * layout.codesBytes) / 2;
      if (job.dtype === "BF16") halves.set(aligned16(raw, cols), at);
      else for (let i = 0; i < cols; i++) halves[at + i] = f32ToBf16(row[i]!);
    }
  }
  return { codes, meta };
}

/** The values that the GPU sees, without the padding: the reference for tests of everything that reads these planes. @internal */
export function dequantizeRows(scheme: SlotScheme, planes: EncodedRows, rows: number, cols: number): Float32Array {
  const out = new Float32Array(rows * cols);
  const layout = rowLayout(scheme, cols);
  const group = groupSize(scheme);
  const codes = new DataView(planes.codes.buffer, planes.codes.byteOffset, planes.codes.byteLength);
  const meta = new DataView(planes.meta.buffer, planes.meta.byteOffset, planes.meta.byteLength);
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < cols; k++) {
      const at = r * layout.codesBytes;
      let value: number;
      if (scheme === "f32") value = codes.getFloat32(at + 4 * k, true);
      else if (scheme === "bf16") value = bf16ToF32(codes.getUint16(at + 2 * k, true));
      else {
        const packed = codes.getUint32(at + 4 * (k >> 3), true);
        const code = (packed >>> NIBBLE_SHIFT[k & 7]!) & 15;
        const pair = meta.getUint32(r * layout.metaBytes + 4 * Math.floor(k / group), true);
        value = code * f16ToF32(pair & 0xffff) + f16ToF32(pair >>> 16);
      }
      out[r * cols + k] = value;
    }
  }
  return out;
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
