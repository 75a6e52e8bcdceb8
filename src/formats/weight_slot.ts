/** How a code of `bits` bits becomes a number before scale and offset. */
export type CodeKind = "unsigned" | "signed" | "nf4" | "fp4" | "e4m3";

/**
 * How the metadata words of a group give scale and offset:
 * - `f16_pair`: f16 scale in the low half, f16 offset in the high half;
 * - `bf16_pair`: the same in bf16;
 * - `zero`: the f32 bits of a scale whose low 13 bits are zero (every f16 and every bf16 is one), with a zero point of 0…16 in its low
 *   five bits; offset = -zero * scale;
 * - `f32`: a scale, offset 0;
 * - `f32_pair`: two words, scale and offset.
 */
export type MetaKind = "f16_pair" | "bf16_pair" | "zero" | "f32" | "f32_pair";

export interface Grouping {
  /** 4: byte j of a word holds element j in its low half and element j + 4 in its high half. 8: byte j holds element j. */
  bits: 4 | 8;
  /** Weights along K that share one scale. */
  group: 16 | 32 | 64;
  code: CodeKind;
  meta: MetaKind;
}

/** The schemes whose weights are value(code) * scale + offset with scale and offset of their group. */
const GROUPED = {
  q4a32: { bits: 4, group: 32, code: "unsigned", meta: "f16_pair" },
  q4a64: { bits: 4, group: 64, code: "unsigned", meta: "f16_pair" },
  q4b32: { bits: 4, group: 32, code: "unsigned", meta: "bf16_pair" },
  q4b64: { bits: 4, group: 64, code: "unsigned", meta: "bf16_pair" },
  q4z32: { bits: 4, group: 32, code: "unsigned", meta: "zero" },
  q4z64: { bits: 4, group: 64, code: "unsigned", meta: "zero" },
  q4p32: { bits: 4, group: 32, code: "unsigned", meta: "f32_pair" },
  nf4g32: { bits: 4, group: 32, code: "nf4", meta: "f32" },
  nf4g64: { bits: 4, group: 64, code: "nf4", meta: "f32" },
  fp4g32: { bits: 4, group: 32, code: "fp4", meta: "f32" },
  fp4g64: { bits: 4, group: 64, code: "fp4", meta: "f32" },
  q8s16: { bits: 8, group: 16, code: "signed", meta: "f32" },
  q8s32: { bits: 8, group: 32, code: "signed", meta: "f32" },
  q8p16: { bits: 8, group: 16, code: "unsigned", meta: "f32_pair" },
  q8p32: { bits: 8, group: 32, code: "unsigned", meta: "f32_pair" },
  f8s64: { bits: 8, group: 64, code: "e4m3", meta: "f32" },
} as const satisfies Record<string, Grouping>;

export type GroupedScheme = keyof typeof GROUPED;

/** Every scheme of groups. */
export const GROUPED_SCHEMES = Object.keys(GROUPED) as GroupedScheme[];

/**
 * How one slot's numbers are stored and bound on the GPU:
 * - a grouped scheme. We quantize to `q4a32` and `q4a64`; the others hold the values of published formats exactly;
 * - `bf16`: pairs in u32, even element in the low half;
 * - `f32`: plain floats (norm weights, biases).
 */
export type SlotScheme = GroupedScheme | "bf16" | "f32";

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
  /** Codes plane: 4-bit or 8-bit codes, bf16 pairs or floats. */
  codesBytes: number;
  /** Metadata plane: one or two words (see `MetaKind`) per group; 0 for schemes without groups. */
  metaBytes: number;
}

/** What a scheme of groups is made of; undefined for the others. */
export function grouping(scheme: string): Grouping | undefined {
  return Object.hasOwn(GROUPED, scheme) ? GROUPED[scheme as GroupedScheme] : undefined;
}

/** 32-bit metadata words of one group. */
export function metaWords(meta: MetaKind): number {
  return meta === "f32_pair" ? 2 : 1;
}

/** The row layout of architecture.md §3: K padded to a whole group, bf16 rows to 16 bytes, floats not at all. */
export function rowLayout(scheme: SlotScheme, cols: number): RowLayout {
  const grouped = grouping(scheme);
  if (grouped) {
    const { bits, group, meta } = grouped;
    const groups = Math.ceil(cols / group);
    return {
      paddedCols: groups * group,
      codesBytes: (groups * group * bits) / 8,
      metaBytes: groups * 4 * metaWords(meta),
    };
  }
  if (scheme === "bf16") {
    const paddedCols = Math.ceil(cols / 8) * 8;
    return { paddedCols, codesBytes: paddedCols * 2, metaBytes: 0 };
  }
  return { paddedCols: cols, codesBytes: cols * 4, metaBytes: 0 };
}
