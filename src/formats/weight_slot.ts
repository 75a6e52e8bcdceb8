/**
 * How one slot's numbers are stored and bound on the GPU:
 * - `q4a32`, `q4a64`: 4-bit affine groups of 32 or 64 along K, value = code * scale + offset;
 * - `bf16`: pairs in u32, even element in the low half;
 * - `f32`: plain floats (norm weights, biases).
 */
export type SlotScheme = "q4a32" | "q4a64" | "bf16" | "f32";

/**
 * One weight of the model as the GPU wants it: rows of one or more checkpoint tensors stacked into a matrix [rows, cols].
 * Vectors are [1, cols]. Tensors of more than two dimensions are read as [shape[0], product of the rest].
 */
export interface WeightSlot {
  /** For example "language.layers.0.qkv". */
  name: string;
  /** Stacked in this order; their `rows` add up to the slot's. A 1-D tensor [cols] is one row. */
  sources: { tensor: string; rows: number }[];
  rows: number;
  cols: number;
  scheme: SlotScheme;
}

/** Bytes of one row in the two planes of a slot. The planes on the GPU are `rows` times these, row after row. */
export interface RowLayout {
  /** Elements stored per row: cols, padded with zero weights up to the scheme's unit. */
  paddedCols: number;
  /** Codes plane: 4-bit codes, bf16 pairs or floats. */
  codesBytes: number;
  /** Metadata plane: one u32 (f16 scale low, f16 offset high) per group; 0 for schemes without one. */
  metaBytes: number;
}

/** Weights along K that share one metadata word; 0 for schemes that have none. */
export function groupSize(scheme: SlotScheme): number {
  return scheme === "q4a32" ? 32 : scheme === "q4a64" ? 64 : 0;
}

/** The row layout of architecture.md §3: K padded to a whole group, bf16 rows to 16 bytes, floats not at all. */
export function rowLayout(scheme: SlotScheme, cols: number): RowLayout {
  const group = groupSize(scheme);
  if (group > 0) {
    const groups = Math.ceil(cols / group);
    return { paddedCols: groups * group, codesBytes: (groups * group) / 2, metaBytes: groups * 4 };
  }
  if (scheme === "bf16") {
    const paddedCols = Math.ceil(cols / 8) * 8;
    return { paddedCols, codesBytes: paddedCols * 2, metaBytes: 0 };
  }
  return { paddedCols: cols, codesBytes: cols * 4, metaBytes: 0 };
}
