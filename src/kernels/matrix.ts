import type { Slice } from "./source.ts";
import type { MatrixScheme } from "./weight_library.ts";

/** Rows `row0 … row0 + rows` of a matrix, small enough to be bound. */
export interface MatrixBlock {
  row0: number;
  rows: number;
  codes: Slice;
  /** Metadata words of schemes with groups; the codes again for bf16. */
  scales: Slice;
}

/** A weight matrix [rows, cols] on the GPU, cut into blocks of whole rows that each fit a binding. */
export interface Matrix {
  label: string;
  scheme: MatrixScheme;
  rows: number;
  cols: number;
  /** 32-bit words of a row's codes; a multiple of 4. */
  rowWords: number;
  blocks: MatrixBlock[];
}
