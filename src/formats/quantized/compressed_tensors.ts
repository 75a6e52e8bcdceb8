import { TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import type { GroupedScheme } from "../weight_slot.ts";
import { groupOf, type Int4Rows, int4Rows, int4Scheme, wordsOf } from "./int4.ts";
import {
  badPart,
  floatsOf,
  moduleOf,
  once,
  part,
  type QuantizedWeight,
  quantizationConfig,
  type RawTensors,
  weightInfo,
} from "./raw_tensors.ts";
import { RowImages } from "./row_images.ts";

const PACKED = ".weight_packed";

/**
 * Weights of llm-compressor's `pack-quantized` in 4 or 8 bits, symmetric or not, per group or channel, with groups in the order of
 * importance too ("actorder"). Source: checkpoint-formats.md §3.1.
 */
export async function readCompressedTensors(raw: RawTensors, signal?: AbortSignal): Promise<QuantizedWeight[]> {
  const found: QuantizedWeight[] = [];
  for (const packed of raw.tensors.values()) {
    const module = moduleOf(packed.name, PACKED);
    if (module !== undefined) found.push(readWeight(raw, module, packed, await bitsOf(raw, module, packed, signal)));
  }
  return found;
}

function readWeight(raw: RawTensors, module: string, packed: TensorInfo, bits: 4 | 8): QuantizedWeight {
  const config = quantizationConfig(raw.config);
  const [out, rowWords] = packed.shape as [number, number];
  const perWord = 32 / bits;
  const cols = rowWords * perWord;
  const scales = part(raw, `${module}.weight_scale`, [out, -1]);
  const groups = scales.shape[1]!;
  const group = groupOf(cols, groups, scales.name, undefined);
  const shape = raw.tensors.get(`${module}.weight_shape`);
  const zeros = raw.tensors.get(`${module}.weight_zero_point`);
  if (zeros) wordsPart(raw, zeros.name, [Math.ceil(out / perWord), groups]);
  else if (isAsymmetric(config)) {
    throw badPart(
      `${module}.weight_zero_point`,
      "expected zero points, since the config says that they are not all zero, found none",
    );
  }
  const order = raw.tensors.get(`${module}.weight_g_idx`);
  if (order) wordsPart(raw, order.name, [cols]);
  const kept = bits === 4 ? int4Scheme(scales, group, cols) : int8Scheme(zeros !== undefined, group, cols);
  // Columns of one group are strewn over the row.
  const scheme = order ? undefined : kept;
  const groupOfColumn = once(async (signal) => {
    const found = order && new Int32Array((await raw.read(order, 0, undefined, signal)).buffer);
    // The library's sign for an order that was not set.
    if (!found || found.includes(-1)) return Int32Array.from({ length: cols }, (_, k) => Math.floor(k / group));
    const wrong = found.findIndex((g) => g < 0 || g >= groups);
    if (wrong < 0) return found;
    throw badPart(order.name, `expected groups 0 to ${groups - 1}, found ${found[wrong]} at column ${wrong}`);
  });
  const scaleBytes = groups * (scales.dtype === "F32" ? 4 : 2);
  return {
    info: weightInfo(`${module}.weight`, packed, [out, cols], scheme ?? "F32", formatName(bits, order !== undefined)),
    parts: [packed, scales, shape, zeros, order].flatMap((tensor) => (tensor ? [tensor.name] : [])),
    async readRows(row0, rows, signal) {
      // Zero points are packed over as many rows as there are codes in a word.
      const [zero0, zeroEnd] = [Math.floor(row0 / perWord), Math.ceil((row0 + rows) / perWord)];
      const [codeBytes, scaleRows, zeroRows] = await Promise.all([
        raw.read(packed, row0 * rowWords * 4, rows * rowWords * 4, signal),
        raw.read(scales, row0 * scaleBytes, rows * scaleBytes, signal),
        zeros ? raw.read(zeros, zero0 * groups * 4, (zeroEnd - zero0) * groups * 4, signal) : undefined,
      ]);
      const codes = wordsOf(codeBytes);
      const scaleOf = floatsOf(scales, scaleRows);
      const zeroWords = zeroRows ? wordsOf(zeroRows) : undefined;
      const most = 2 ** bits - 1;
      const scale = (r: number, g: number) => scaleOf[r * groups + g]!;
      const zero = (r: number, g: number) => {
        if (!zeroWords) return (most + 1) / 2;
        const row = row0 + r;
        const word = zeroWords[(Math.floor(row / perWord) - zero0) * groups + g]!;
        return (word >>> (bits * (row % perWord))) & most;
      };
      if (!scheme) {
        const of = await groupOfColumn(signal);
        const values = Float32Array.from({ length: rows * cols }, (_, e) => {
          const [r, k] = [Math.floor(e / cols), e % cols];
          const code = (codes[r * rowWords + Math.floor(k / perWord)]! >>> (bits * (k % perWord))) & most;
          return (code - zero(r, of[k]!)) * scale(r, of[k]!);
        });
        return new Uint8Array(values.buffer);
      }
      if (bits === 8) return int8Rows(scheme, codeBytes, rows, cols, { group, scale, ...(zeros ? { zero } : {}) });
      return int4Rows(scheme, rows, cols, {
        group,
        codes(images) {
          for (let r = 0; r < rows; r++) {
            for (let i = 0; i < rowWords; i++) images.setNibbles(r, i, codes[r * rowWords + i]!);
          }
        },
        scale,
        zero,
      });
    },
  };
}

const formatName = (bits: number, isOrdered: boolean) =>
  `compressed-tensors${bits === 8 ? " in 8 bits" : ""}${isOrdered ? " with act-order" : ""}`;

/** The scheme that holds 8-bit codes: signed ones with a scale, or unsigned ones with an offset of -zero * scale. */
function int8Scheme(hasZeros: boolean, group: number, cols: number): GroupedScheme | undefined {
  const size = group >= cols || group % 32 === 0 ? 32 : 16;
  if (size === 16 && group % 16 !== 0) return undefined;
  return hasZeros ? `q8p${size}` : `q8s${size}`;
}

/** Codes are one byte each, with 128 for 0; without zero points that is what signed codes are. */
function int8Rows(
  scheme: GroupedScheme,
  codes: Uint8Array,
  rows: number,
  cols: number,
  { group, scale, zero }: Pick<Int4Rows, "group" | "scale"> & Partial<Pick<Int4Rows, "zero">>,
): Uint8Array<ArrayBuffer> {
  const images = new RowImages(scheme, rows, cols);
  for (let r = 0; r < rows; r++) {
    const row = codes.subarray(r * cols, (r + 1) * cols);
    images.setBytes(r, zero ? row : row.map((code) => code ^ 0x80));
    const second = (g: number) => (zero ? -zero(r, g) * scale(r, g) : 0);
    images.setMeta(r, group, (g) => scale(r, g), second);
  }
  return images.bytes;
}

/** A tensor of words with this shape. */
function wordsPart(raw: RawTensors, name: string, shape: readonly number[]): void {
  const { dtype } = part(raw, name, shape);
  if (dtype !== "I32") throw badPart(name, `expected I32, found ${dtype}`);
}

/** Bits of a code. Where the config names several, the logical shape beside the weight says which: every word is full. */
async function bitsOf(raw: RawTensors, module: string, packed: TensorInfo, signal?: AbortSignal): Promise<4 | 8> {
  const config = quantizationConfig(raw.config);
  const named = new Set(weightSettings(config).map(({ num_bits: bits }) => bits));
  const format = config.format ?? "pack-quantized";
  const isKnown = packed.dtype === "I32" && packed.shape.length === 2 && format === "pack-quantized";
  if (isKnown && [...named].every((bits) => bits === 4 || bits === 8)) {
    if (named.size <= 1) return named.has(8) ? 8 : 4;
    const shape = part(raw, `${module}.weight_shape`, [2]);
    const [low] = wordsOf(await raw.read(shape, shape.bytes / 2, undefined, signal));
    return packed.shape[1]! * 4 === low ? 8 : 4;
  }
  throw new TabTuneError(
    "BadCheckpoint",
    `${packed.name}: expected compressed-tensors in the format pack-quantized with 4 or 8 bits, found ${String(format)}, ${packed.dtype} and ${[...named].map(String).join(", ") || "no"} bits. Choose a W4A16 or W8A16 checkpoint or the original one.`,
  );
}

/** Groups of a config are objects with the settings of their weights. */
function weightSettings(config: Record<string, unknown>): Record<string, unknown>[] {
  const groups = Object.values((config.config_groups ?? {}) as Record<string, { weights?: unknown } | null>);
  return groups.map((group) => (group?.weights ?? {}) as Record<string, unknown>);
}

function isAsymmetric(config: Record<string, unknown>): boolean {
  const settings = weightSettings(config);
  return settings.length > 0 && settings.every(({ symmetric }) => symmetric === false);
}
