import { TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import { decodeFloats, isWeightDtype } from "../dtype.ts";
import { rowFormat } from "../row_format.ts";

/** The tensors of a checkpoint as its files name them, and their bytes. */
export interface RawTensors {
  tensors: ReadonlyMap<string, TensorInfo>;
  /** config.json as parsed. */
  config: unknown;
  /** Bytes of a tensor from `offset` on; all that follow by default. */
  read(tensor: TensorInfo, offset?: number, bytes?: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

/** A weight that several tensors of the files make up. */
export interface QuantizedWeight {
  /** As the checkpoint's directory shows it: logical shape, and as dtype the format of the rows that `readRows` gives. */
  info: TensorInfo;
  /** Names of the tensors that it is made of: they are no longer in the directory. */
  parts: string[];
  /** Rows in the format that `info.dtype` names. */
  readRows(row0: number, rows: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

/** Finds the weights of one published format among the tensors. Throws `BadCheckpoint` for those that are incomplete or of a kind not read. */
export type QuantizedReader = (raw: RawTensors, signal?: AbortSignal) => Promise<QuantizedWeight[]>;

/** The directory entry of a weight [rows, cols] whose codes lie in `codes`. */
export function weightInfo(
  name: string,
  codes: TensorInfo,
  shape: [rows: number, cols: number],
  dtype: string,
  format: string,
): TensorInfo {
  return { name, dtype, format, shape, file: codes.file, offset: codes.offset, bytes: codes.bytes };
}

/** A tensor that must be there and, where `shape` says so (-1: anything), have this shape. */
export function part(raw: RawTensors, name: string, shape?: readonly number[]): TensorInfo {
  const tensor = raw.tensors.get(name);
  const wanted = shape ? ` [${shape.map((n) => (n < 0 ? "any" : n)).join(", ")}]` : "";
  if (!tensor) throw badPart(name, `expected a tensor${wanted} beside the other parts of this weight, found none`);
  const fits =
    !shape || (shape.length === tensor.shape.length && shape.every((n, i) => n < 0 || n === tensor.shape[i]));
  if (!fits) throw badPart(name, `expected${wanted}, found [${tensor.shape.join(", ")}]`);
  return tensor;
}

/** Rows up to this size may be longer than what they are made of. */
const MOST_ROW_BYTES = 1 << 15;

/**
 * An import reads as many rows as it wants to hold, but one at least, and a row of floats takes eight times its codes. Where there are
 * a few rows, as in every layer, one is smaller than the `stored` bytes that hold all.
 */
export function checkRow({ name, dtype, shape }: TensorInfo, stored: number): void {
  const [rows = 0, ...rest] = shape;
  const rowBytes = rowFormat(dtype)?.rowBytes(rest.reduce((product, n) => product * n, 1)) ?? 0;
  if (rows === 0 || rowBytes <= Math.max(MOST_ROW_BYTES, stored)) return;
  throw badPart(
    name,
    `expected a matrix, found [${shape.join(", ")}], of which one row takes ${rowBytes} bytes where ${stored} hold all`,
  );
}

/** Names the tensor, what was expected and found, and what to do. */
export function badPart(name: string, what: string): TabTuneError {
  return new TabTuneError("BadCheckpoint", `${name}: ${what}. Download the checkpoint again, or choose another.`);
}

/** A float tensor's elements from their bytes. Throws for NaN and infinity. */
export function floatsOf(tensor: TensorInfo, bytes: Uint8Array): Float32Array {
  const { dtype, name } = tensor;
  if (!isWeightDtype(dtype)) throw badPart(name, `expected BF16, F16 or F32, found ${dtype}`);
  const count = bytes.length / (dtype === "F32" ? 4 : 2);
  const values = new Float32Array(count);
  const bad = decodeFloats(dtype, bytes, count, values);
  if (bad >= 0) throw badPart(name, `expected finite numbers, found NaN or infinity in element ${bad}`);
  return values;
}

/** The quantization block of a config, at its top level or under text_config; an empty object without one. */
export function quantizationConfig(config: unknown): Record<string, unknown> {
  const top = record(config);
  for (const place of [top, record(top.text_config)]) {
    for (const key of ["quantization_config", "quantization"]) {
      if (typeof place[key] === "object" && place[key] !== null) return record(place[key]);
    }
  }
  return {};
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

/** The name of a module of which this tensor is a part, for example without ".qweight"; undefined when it is none. */
export function moduleOf(name: string, suffix: string): string | undefined {
  return name.endsWith(suffix) ? name.slice(0, -suffix.length) : undefined;
}

/** Makes a value once; forgets it when it fails, so that the next call tries again. */
export function once<T>(make: (signal?: AbortSignal) => Promise<T>): (signal?: AbortSignal) => Promise<T> {
  let made: Promise<T> | undefined;
  return (signal) => {
    made ??= make(signal).catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}
