import { decodeFloats } from "./dtype.ts";
import { GGUF_ROWS } from "./gguf/row_formats.ts";
import { firstBadGroup, openRow } from "./quant/planes.ts";
import { GROUPED_SCHEMES, type GroupedScheme, rowLayout } from "./weight_slot.ts";

/**
 * How the rows of a tensor are written, as `Checkpoint.readRows` gives them: each row is whole in itself, its metadata included.
 * A format reader whose files keep scales elsewhere brings rows into one of these forms.
 */
export interface RowFormat {
  /** Bytes of one row of `cols` weights. */
  rowBytes(cols: number): number;
  /** The values of one row into `out`, which may be longer. Returns the index of the first NaN or infinity, or -1. */
  decode(raw: Uint8Array, cols: number, out: Float32Array): number;
  /** The schemes that hold these values as they are, the smallest first, and a copy of one row into its planes. Dense formats have none. */
  exact?: readonly {
    scheme: GroupedScheme;
    /**
     * Fills one row of the planes of `rowLayout(scheme, cols)`; both begin as zeros. Returns the index of the first NaN or infinity
     * (or of the group that holds it), or -1.
     */
    repack(raw: Uint8Array, cols: number, codes: Uint8Array, meta: Uint8Array): number;
  }[];
}

function dense(dtype: "BF16" | "F16" | "F32"): RowFormat {
  const size = dtype === "F32" ? 4 : 2;
  return {
    rowBytes: (cols) => cols * size,
    decode: (raw, cols, out) => decodeFloats(dtype, raw, cols, out),
  };
}

/** A row of a scheme's planes, codes and then metadata. Readers of formats with scattered metadata give these; the key is the scheme. */
function planes(scheme: GroupedScheme): RowFormat {
  const split = (raw: Uint8Array, cols: number) => {
    const { codesBytes, metaBytes } = rowLayout(scheme, cols);
    return [raw.subarray(0, codesBytes), raw.subarray(codesBytes, codesBytes + metaBytes)] as const;
  };
  return {
    rowBytes: (cols) => {
      const { codesBytes, metaBytes } = rowLayout(scheme, cols);
      return codesBytes + metaBytes;
    },
    decode: (raw, cols, out) => openRow(scheme, ...split(raw, cols), cols, out),
    exact: [
      {
        scheme,
        repack(raw, cols, codes, meta) {
          const [rowCodes, rowMeta] = split(raw, cols);
          codes.set(rowCodes);
          meta.set(rowMeta);
          return firstBadGroup(scheme, codes, meta, cols);
        },
      },
    ],
  };
}

const FORMATS = new Map<string, RowFormat>([
  ["BF16", dense("BF16")],
  ["F16", dense("F16")],
  ["F32", dense("F32")],
  ...GROUPED_SCHEMES.map((scheme) => [scheme, planes(scheme)] as const),
  ...GGUF_ROWS,
]);

/** The row format of a tensor's dtype; undefined when weights cannot be read from it. */
export function rowFormat(dtype: string): RowFormat | undefined {
  return FORMATS.get(dtype);
}

/** The smallest scheme that holds the rows of all these tensors exactly; undefined when there is none. */
export function exactScheme(dtypes: readonly (string | undefined)[]): GroupedScheme | undefined {
  const lists = dtypes.map((dtype) => rowFormat(dtype ?? "")?.exact?.map(({ scheme }) => scheme) ?? []);
  return lists[0]?.find((scheme) => lists.every((list) => list.includes(scheme)));
}
