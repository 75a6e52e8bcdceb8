import type { ByteRange, FileSet } from "./file_set.ts";

/** The element types that weights are read from. */
export type WeightDtype = "BF16" | "F16" | "F32";

/**
 * Where one tensor lies. `offset` and `bytes` are absolute in `file`; of a quantized weight they are those of its codes.
 */
export interface TensorInfo {
  name: string;
  /** The key of its row format (row_format.ts), or the file's own word where there is none. */
  dtype: string;
  /** The published format that a weight was quantized in, for a person ("AWQ"); absent for dense tensors. */
  format?: string;
  shape: number[];
  file: string;
  offset: number;
  bytes: number;
}

/** An opened checkpoint: its config and a directory of tensors; weights are read on demand. */
export interface Checkpoint {
  files: FileSet;
  /** config.json as parsed, not validated further. */
  config: unknown;
  tensors: ReadonlyMap<string, TensorInfo>;
  /** Where the files hold tensors, those too that are parts of a quantized weight. */
  ranges: readonly ByteRange[];
  /** SHA-256 over config.json and the weight files' names, sizes, headers and a few of their weights. */
  fingerprint: string;
  /** Remarks for the visitor, such as which of several files was taken. */
  notes?: readonly string[];
  /**
   * Rows row0 … row0+rows-1 of a tensor seen as [shape[0], rest], in the row format that its dtype names; of a 1-D tensor, its elements.
   */
  readRows(name: string, row0: number, rows: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}
