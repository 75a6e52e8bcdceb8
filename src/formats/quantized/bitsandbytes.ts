import type { TensorInfo } from "../checkpoint.ts";
import { encodeFloats } from "../dtype.ts";
import { CODE_VALUES } from "../quant/codes.ts";
import type { GroupedScheme } from "../weight_slot.ts";
import { badPart, floatsOf, once, part, type QuantizedWeight, type RawTensors, weightInfo } from "./raw_tensors.ts";
import { RowImages } from "./row_images.ts";

const STATE = /^(.*)\.quant_state\.bitsandbytes__(nf4|fp4)$/;
/** Small reads under way at once while a checkpoint is opened. */
const READS_AT_ONCE = 16;
const DTYPES = { bfloat16: "BF16", float16: "F16", float32: "F32" } as const;

/** The JSON beside each weight. */
interface QuantState {
  kind: "nf4" | "fp4";
  blocksize: number;
  /** What bitsandbytes rounds the dequantized weight to. */
  dtype: "BF16" | "F16" | "F32";
  shape: [rows: number, cols: number];
  nested?: { blocksize: number; offset: number };
}

/**
 * Weights that bitsandbytes stored in 4 bits: two codes to a byte, the first in its high half, blocks along the flattened matrix with
 * one absmax each, which may itself be quantized to 8 bits ("nested"). Source: checkpoint-formats.md §2.
 * Kept as they are where each block lies in one row; otherwise rows are dequantized as bitsandbytes does it.
 */
export async function readBitsAndBytes(raw: RawTensors, signal?: AbortSignal): Promise<QuantizedWeight[]> {
  const states = [...raw.tensors.values()].filter(({ name }) => STATE.test(name));
  const found: QuantizedWeight[] = [];
  for (let i = 0; i < states.length; i += READS_AT_ONCE) {
    const some = states.slice(i, i + READS_AT_ONCE);
    found.push(...(await Promise.all(some.map((state) => readWeight(raw, state, signal)))));
  }
  return found;
}

async function readWeight(raw: RawTensors, stateTensor: TensorInfo, signal?: AbortSignal): Promise<QuantizedWeight> {
  const [, name, kind] = STATE.exec(stateTensor.name)! as unknown as [string, string, "nf4" | "fp4"];
  const state = parseState(stateTensor.name, kind, await raw.read(stateTensor, 0, undefined, signal));
  const { blocksize, shape, nested } = state;
  const count = shape[0] * shape[1];
  const blocks = Math.ceil(count / blocksize);
  const codes = part(raw, name);
  // The storage type may be wider than a byte; the last element is then padded.
  if (codes.bytes < Math.ceil(count / 2) || codes.bytes > Math.ceil(count / 2) + 7) {
    throw badPart(
      name,
      `expected ${Math.ceil(count / 2)} bytes for [${shape.join(", ")}] in 4 bits, found ${codes.bytes}`,
    );
  }
  const absmax = part(raw, `${name}.absmax`, [blocks]);
  const map = part(raw, `${name}.quant_map`, [16]);
  const parts = [name, stateTensor.name, absmax.name, map.name];
  let absmaxOf = async (from: number, to: number, cancel?: AbortSignal) =>
    floatsOf(absmax, await raw.read(absmax, from * bytesOf(absmax), (to - from) * bytesOf(absmax), cancel));
  if (nested) {
    const outer = part(raw, `${name}.nested_absmax`, [Math.ceil(blocks / nested.blocksize)]);
    const outerMap = part(raw, `${name}.nested_quant_map`, [256]);
    parts.push(outer.name, outerMap.name);
    const tables = once(async (cancel) => [
      floatsOf(outer, await raw.read(outer, 0, undefined, cancel)),
      floatsOf(outerMap, await raw.read(outerMap, 0, undefined, cancel)),
    ]);
    absmaxOf = async (from, to, cancel) => {
      const [outerAbsmax, outerValues] = await tables(cancel);
      // Two roundings to f32, as the library has them.
      return Float32Array.from(await raw.read(absmax, from, to - from, cancel), (code, i) => {
        const scaled = Math.fround(outerValues![code]! * outerAbsmax![Math.floor((from + i) / nested.blocksize)]!);
        return scaled + nested.offset;
      });
    };
  }
  const checkMap = once(async (cancel) => {
    const values = floatsOf(map, await raw.read(map, 0, undefined, cancel));
    if (values.some((value, i) => Math.abs(value - CODE_VALUES[kind][i]!) > 1e-6)) {
      throw badPart(map.name, `expected the table of ${kind.toUpperCase()}, found another`);
    }
  });
  const scheme = exactScheme(state);
  const format = `bitsandbytes ${kind.toUpperCase()}`;
  return {
    info: weightInfo(name, codes, shape, scheme ?? state.dtype, format),
    parts,
    async readRows(row0, rows, cancel) {
      const [first, end] = [row0 * shape[1], (row0 + rows) * shape[1]];
      const [firstBlock, endBlock] = [Math.floor(first / blocksize), Math.ceil(end / blocksize)];
      const [packed, scales] = await Promise.all([
        raw.read(codes, first >> 1, ((end + 1) >> 1) - (first >> 1), cancel),
        absmaxOf(firstBlock, endBlock, cancel),
        checkMap(cancel),
      ]);
      if (scheme) return keepRows(scheme, packed, scales, rows, shape[1], blocksize);
      const values = Float32Array.from({ length: end - first }, (_, i) => {
        const e = first + i;
        const byte = packed[(e >> 1) - (first >> 1)]!;
        const code = e % 2 === 0 ? byte >> 4 : byte & 15;
        return CODE_VALUES[kind][code]! * scales[Math.floor(e / blocksize) - firstBlock]!;
      });
      return encodeFloats(state.dtype, values);
    },
  };
}

/** Blocks of a row are groups of the scheme, or several of them. */
function exactScheme({ kind, blocksize, shape }: QuantState): GroupedScheme | undefined {
  if (shape[1] % blocksize !== 0 || blocksize % 32 !== 0) return undefined;
  return `${kind}g${blocksize % 64 === 0 ? 64 : 32}`;
}

function keepRows(
  scheme: GroupedScheme,
  packed: Uint8Array,
  scales: Float32Array,
  rows: number,
  cols: number,
  blocksize: number,
): Uint8Array<ArrayBuffer> {
  const images = new RowImages(scheme, rows, cols);
  const words = new Uint32Array(packed.slice().buffer);
  const perRow = cols / blocksize;
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < cols / 8; i++) {
      const word = words[(r * cols) / 8 + i]!;
      images.setNibbles(r, i, ((word & 0x0f0f0f0f) << 4) | ((word >>> 4) & 0x0f0f0f0f));
    }
    images.setMeta(
      r,
      blocksize,
      (g) => scales[r * perRow + g]!,
      () => 0,
    );
  }
  return images.bytes;
}

function bytesOf({ dtype }: TensorInfo): number {
  return dtype === "F32" ? 4 : 2;
}

function parseState(name: string, kind: "nf4" | "fp4", bytes: Uint8Array): QuantState {
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as Record<string, unknown>;
  } catch {
    throw badPart(name, "expected JSON, found something else");
  }
  const { blocksize, shape, dtype, nested_blocksize: nestedBlock, nested_offset: offset } = json ?? {};
  const isPower = (n: unknown) => typeof n === "number" && n >= 32 && n <= 4096 && Number.isInteger(Math.log2(n));
  const isShape =
    Array.isArray(shape) && shape.length === 2 && shape.every((n) => Number.isSafeInteger(n) && n > 0 && n < 2 ** 32);
  if (!isPower(blocksize) || !isShape || typeof dtype !== "string" || !Object.hasOwn(DTYPES, dtype)) {
    const found = JSON.stringify({ blocksize, dtype, shape }).slice(0, 120);
    throw badPart(
      name,
      `expected a block size of 32 to 4096, a float dtype and a shape of two numbers, found ${found}`,
    );
  }
  const state = { kind, blocksize, shape, dtype: DTYPES[dtype as keyof typeof DTYPES] } as QuantState;
  if (nestedBlock === undefined && offset === undefined) return state;
  if (!isPower(nestedBlock) || typeof offset !== "number" || !Number.isFinite(offset)) {
    throw badPart(
      name,
      `expected nested_blocksize and nested_offset, found ${String(nestedBlock)} and ${String(offset)}`,
    );
  }
  return { ...state, nested: { blocksize: nestedBlock as number, offset: Math.fround(offset) } };
}
