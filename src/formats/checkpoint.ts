import type { FileSet } from "./file_set.ts";

/** The element types that weights are read from. */
export type WeightDtype = "BF16" | "F16" | "F32";

/** Where one tensor lies. `offset` and `bytes` are absolute in `file`; `dtype` is the file's own word. */
export interface TensorInfo {
  name: string;
  dtype: string;
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
  /** SHA-256 over config.json and the weight files' names, sizes, headers and a few of their weights. */
  fingerprint: string;
  /** Little-endian bytes of rows row0 … row0+rows-1 of a tensor seen as [shape[0], rest]; of a 1-D tensor, of its elements. */
  readRows(name: string, row0: number, rows: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}
