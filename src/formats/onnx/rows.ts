import { TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import { isWeightDtype } from "../dtype.ts";
import { int4Rows, int4Scheme, wordsOf } from "../quantized/int4.ts";
import { badPart, checkRow, floatsOf, weightInfo } from "../quantized/raw_tensors.ts";
import { RowImages } from "../quantized/row_images.ts";
import type { RecentReads } from "../recent_reads.ts";
import type { GroupedScheme } from "../weight_slot.ts";
import type { OnnxTensor } from "./graph.ts";
import type { BlockWeight, DenseWeight, OnnxWeight } from "./weights.ts";

/** Bytes [offset, offset + bytes) of a tensor; all of it by default. */
export type ReadTensor = (
  tensor: TensorInfo,
  offset?: number,
  bytes?: number,
  signal?: AbortSignal,
) => Promise<Uint8Array<ArrayBuffer>>;

/** A weight as a checkpoint shows it. */
export interface WeightRows {
  info: TensorInfo;
  /** The tensors that it is made of. */
  parts: readonly TensorInfo[];
  readRows(row0: number, rows: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

/** The largest matrix that is read as a whole to turn it round. */
const MOST_TURNED = 1 << 30;

/** Matrices that lie turned round, as a whole. */
type Recent = RecentReads<Uint8Array<ArrayBuffer>>;

/** The rows of a weight under a name of the checkpoint. Throws `BadCheckpoint` when its parts do not fit each other. */
export function weightRows(name: string, weight: OnnxWeight, read: ReadTensor, recent: Recent): WeightRows {
  return weight.kind === "dense" ? denseRows(name, weight, read, recent) : blockRows(name, weight, read);
}

/** Rows row0 … row0 + rows of a fused matrix, as a weight of their own. */
export function partOfRows(name: string, whole: WeightRows, row0: number, rows: number): WeightRows {
  const { shape, bytes } = whole.info;
  const info = { ...whole.info, name, shape: [rows, ...shape.slice(1)], bytes: (bytes / shape[0]!) * rows };
  return { ...whole, info, readRows: (first, count, signal) => whole.readRows(row0 + first, count, signal) };
}

function denseRows(name: string, { tensor, isTurned }: DenseWeight, read: ReadTensor, recent: Recent): WeightRows {
  check(tensor);
  const { shape, bytes, dtype, file, offset } = tensor;
  const info = { name, dtype, file, offset, bytes };
  if (!isTurned) {
    const rowBytes = shape[0] ? bytes / shape[0] : 0;
    return {
      info: { ...info, shape },
      parts: [tensor],
      readRows: (row0, rows, signal) => read(tensor, row0 * rowBytes, rows * rowBytes, signal),
    };
  }
  const [cols, out] = shape as [number, number];
  if (shape.length !== 2 || bytes > MOST_TURNED) {
    throw badPart(
      tensor.name,
      `expected a matrix of at most ${MOST_TURNED} bytes, found [${shape.join(", ")}] (${bytes} bytes)`,
    );
  }
  return {
    info: { ...info, shape: [out, cols] },
    parts: [tensor],
    async readRows(row0, rows, signal) {
      const all = await recent.get(`${file}:${offset}`, bytes, () => read(tensor, 0, bytes, signal));
      return dtype === "F32"
        ? turned(new Uint32Array(all.buffer), new Uint32Array(rows * cols), out, row0, rows)
        : turned(new Uint16Array(all.buffer), new Uint16Array(rows * cols), out, row0, rows);
    },
  };
}

/** Columns row0 … row0 + rows of [cols, out] as rows. */
function turned<T extends Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>>(
  all: T,
  into: T,
  out: number,
  row0: number,
  rows: number,
): Uint8Array<ArrayBuffer> {
  const cols = rows === 0 ? 0 : into.length / rows;
  for (let k = 0; k < cols; k++) for (let r = 0; r < rows; r++) into[r * cols + k] = all[k * out + row0 + r]!;
  return new Uint8Array(into.buffer);
}

/** Codes of either width, two's complement (I4) told as unsigned ones with a zero point in the middle. */
function blockRows(name: string, weight: BlockWeight, read: ReadTensor): WeightRows {
  const { codes, scales, zeros, bits, block, fault } = weight;
  const parts = [codes, scales, ...(zeros ? [zeros] : [])];
  for (const tensor of parts) check(tensor);
  if (fault) throw badPart(name, `expected blocks in their plain order along its rows, found ${fault}`);
  const isBytes = codes.dtype === "U8";
  const rows = weight.shape?.[0] ?? codes.shape[0] ?? 0;
  const cols = weight.shape?.[1] ?? (codes.shape.at(-1) ?? 0) * (isBytes ? 8 / bits : 1);
  const blocks = Math.ceil(cols / block);
  const rowBytes = weight.shape ? (blocks * block * bits) / 8 : (cols * bits) / 8;
  const isKnown = (bits === 4 || bits === 8) && block >= 16 && Number.isInteger(Math.log2(block));
  const isRow = isBytes || (bits === 4 && !weight.shape && ["U4", "I4"].includes(codes.dtype));
  if (!isKnown || !isRow) {
    throw badPart(
      codes.name,
      `expected codes of 4 or 8 bits in blocks of at least 16, found ${codes.dtype}, ${bits} bits, blocks of ${block}`,
    );
  }
  const isSize = (n: number) => Number.isInteger(n) && n > 0;
  if (![rows, cols, rowBytes].every(isSize) || codes.bytes !== rows * rowBytes || count(scales) !== rows * blocks) {
    throw badPart(
      codes.name,
      `expected the codes and scales of ${rows} rows of ${blocks} blocks, found [${codes.shape.join(", ")}] and [${scales.shape.join(", ")}]`,
    );
  }
  const zerosOf = zeros && zeroPoints(zeros, rows, blocks, bits, read);
  const group = blocks === 1 ? cols : block;
  const scheme = schemeOf(weight, group, cols);
  const scaleBytes = scales.bytes / (rows * blocks);
  const flip = codes.dtype === "I4" ? 0x88888888 : 0;
  const info = weightInfo(name, codes, [rows, cols], scheme ?? "F32", `ONNX ${bits}-bit`);
  checkRow(
    info,
    parts.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  return {
    info,
    parts,
    async readRows(row0, some, signal) {
      const [codeBytes, scaleValues, zeroOf] = await Promise.all([
        read(codes, row0 * rowBytes, some * rowBytes, signal),
        read(scales, row0 * blocks * scaleBytes, some * blocks * scaleBytes, signal).then((raw) =>
          floatsOf(scales, raw),
        ),
        zerosOf?.(row0, some, signal),
      ]);
      const scale = (r: number, g: number) => scaleValues[r * blocks + g]!;
      const zero = zeroOf ?? (() => 2 ** (bits - 1));
      if (bits === 8) return byteRows(scheme!, codeBytes, rowBytes, some, cols, group, scale, zero);
      const words = rowWords(codeBytes, some, rowBytes);
      const perRow = words.length / (some || 1);
      return int4Rows(scheme, some, cols, {
        group,
        codes(images) {
          for (let r = 0; r < some; r++) {
            for (let i = 0; 8 * i < cols; i++) images.setNibbles(r, i, words[r * perRow + i]! ^ flip);
          }
        },
        scale,
        zero,
      });
    },
  };
}

/** The scheme that holds the values as they are; undefined when the blocks are too short for any. */
function schemeOf({ scales, zeros, bits }: BlockWeight, group: number, cols: number): GroupedScheme | undefined {
  const isWide = group >= cols || group % 32 === 0;
  if (bits === 8) return zeros ? (isWide ? "q8p32" : "q8p16") : isWide ? "q8s32" : "q8s16";
  // A zero point that is no whole number needs an offset of its own.
  if (zeros && isWeightDtype(zeros.dtype)) return isWide ? "q4p32" : undefined;
  return int4Scheme(scales, group, cols);
}

type Zero = (r: number, g: number) => number;

/** Zero points: floats, packed codes whose rows are padded to a byte, or 4-bit numbers without a gap. */
function zeroPoints(zeros: OnnxTensor, rows: number, blocks: number, bits: number, read: ReadTensor) {
  const { dtype } = zeros;
  const isFloat = isWeightDtype(dtype);
  const isFlat = bits === 4 && (dtype === "U4" || dtype === "I4");
  // In bits; a flat row may begin inside a byte.
  const rowBits = isFloat
    ? 8 * blocks * (dtype === "F32" ? 4 : 2)
    : isFlat
      ? 4 * blocks
      : 8 * Math.ceil((blocks * bits) / 8);
  if (!(isFloat || isFlat || dtype === "U8") || zeros.bytes !== Math.ceil((rows * rowBits) / 8)) {
    throw badPart(
      zeros.name,
      `expected zero points of ${rows} rows of ${blocks} blocks, found ${dtype} [${zeros.shape.join(", ")}]`,
    );
  }
  return async (row0: number, some: number, signal?: AbortSignal): Promise<Zero> => {
    const first = Math.floor((row0 * rowBits) / 8);
    const raw = await read(zeros, first, Math.ceil(((row0 + some) * rowBits) / 8) - first, signal);
    if (isFloat) {
      const values = floatsOf(zeros, raw);
      return (r, g) => values[r * blocks + g]!;
    }
    if (bits === 8) return (r, g) => raw[r * blocks + g]!;
    const flip = dtype === "I4" ? 8 : 0;
    const skipped = ((row0 * rowBits) / 4) % 2;
    return (r, g) => {
      const at = skipped + (r * rowBits) / 4 + g;
      return ((raw[at >> 1]! >> (4 * (at & 1))) & 15) ^ flip;
    };
  };
}

function byteRows(
  scheme: GroupedScheme,
  codes: Uint8Array,
  rowBytes: number,
  rows: number,
  cols: number,
  group: number,
  scale: Zero,
  zero: Zero,
): Uint8Array<ArrayBuffer> {
  const images = new RowImages(scheme, rows, cols);
  const isSigned = scheme === "q8s32" || scheme === "q8s16";
  for (let r = 0; r < rows; r++) {
    const row = codes.subarray(r * rowBytes, r * rowBytes + cols);
    images.setBytes(r, isSigned ? row.map((code) => code ^ 0x80) : row);
    images.setMeta(
      r,
      group,
      (g) => scale(r, g),
      (g) => -zero(r, g) * scale(r, g),
    );
  }
  return images.bytes;
}

/** Each row as whole words. */
function rowWords(bytes: Uint8Array, rows: number, rowBytes: number): Uint32Array {
  if (rowBytes % 4 === 0) return wordsOf(bytes);
  const padded = new Uint8Array(rows * Math.ceil(rowBytes / 4) * 4);
  for (let r = 0; r < rows; r++)
    padded.set(bytes.subarray(r * rowBytes, (r + 1) * rowBytes), (r * padded.length) / rows);
  return wordsOf(padded);
}

const count = ({ shape }: OnnxTensor) => shape.reduce((product, n) => product * n, 1);

function check({ name, file, fault }: OnnxTensor): void {
  if (fault) throw new TabTuneError("BadCheckpoint", `${file}: tensor ${name}: ${fault}.`);
}
