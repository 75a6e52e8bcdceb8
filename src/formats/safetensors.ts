import { shown, TabTuneError } from "../errors.ts";
import type { TensorInfo } from "./checkpoint.ts";
import { decodeFloats, dtypeBytes, isWeightDtype } from "./dtype.ts";
import type { FileSet } from "./file_set.ts";

/** Longest header that is read, and the most tensors it may name. Qwen3-VL-4B's has 77 KB and 482. */
const MAX_HEADER_BYTES = 25_000_000;
const MAX_TENSORS = 200_000;
/** Bytes asked for at first: enough for most headers in one request. */
const FIRST_READ = 1 << 18;

/** Reads and checks the header of one safetensors file. Throws `BadCheckpoint` naming file, tensor, expected and found. */
export async function readSafetensorsHeader(
  files: FileSet,
  path: string,
  signal?: AbortSignal,
): Promise<{ tensors: TensorInfo[]; header: Uint8Array }> {
  const size = await files.size(path, signal);
  if (size < 10) {
    throw bad(path, `expected a safetensors file, found only ${size} bytes. Download it again.`);
  }
  const head = await files.read(path, 0, Math.min(size, FIRST_READ), signal);
  const length = headerLength(path, head, size);
  const header = 8 + length <= head.length ? head.subarray(8, 8 + length) : await files.read(path, 8, length, signal);
  return { tensors: parseSafetensorsHeader(path, header, size), header };
}

function headerLength(path: string, head: Uint8Array, size: number): number {
  const view = new DataView(head.buffer, head.byteOffset, 8);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length < 2 || length > MAX_HEADER_BYTES) {
    throw bad(
      path,
      `expected a header length of 2 to ${MAX_HEADER_BYTES} bytes in its first 8 bytes, found ${length}. Is this a safetensors file (and not a Git LFS pointer or a web page)?`,
    );
  }
  if (8 + length > size) {
    throw bad(
      path,
      `its header says ${length} bytes but the whole file has ${size}. It is truncated; download it again.`,
    );
  }
  return length;
}

/**
 * Checks a header (the JSON bytes, without the length) against the size of its file: known dtypes, sane shapes, byte length =
 * shape × dtype, and tensors that cover the data without gap or overlap, as the format demands.
 * @internal
 */
export function parseSafetensorsHeader(path: string, header: Uint8Array, fileSize: number): TensorInfo[] {
  const entries = parseJsonObject(path, header);
  if (entries.length > MAX_TENSORS)
    throw bad(path, `expected at most ${MAX_TENSORS} tensors, found ${entries.length}.`);
  const start = 8 + header.length;
  const tensors: TensorInfo[] = [];
  for (const [name, value] of entries) {
    if (name === "__metadata__") continue;
    tensors.push(parseEntry(path, name, value, start));
  }
  checkCoverage(path, tensors, start, fileSize);
  return tensors;
}

function parseJsonObject(path: string, header: Uint8Array): [string, unknown][] {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(header);
    value = JSON.parse(text);
  } catch (cause) {
    throw bad(path, "its header is not valid JSON. The file is damaged; download it again.", cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value) || text[0] !== "{") {
    throw bad(path, "its header is not a JSON object. The file is damaged; download it again.");
  }
  const entries = Object.entries(value);
  if (entries.length !== countTopLevelKeys(text)) {
    throw bad(path, "its header names a tensor twice. The file is damaged or was written by a faulty program.");
  }
  return entries;
}

/** Colons at depth one, outside strings. JSON.parse keeps only the last of two equal keys, so the counts then differ. */
function countTopLevelKeys(json: string): number {
  let depth = 0;
  let keys = 0;
  for (let i = 0; i < json.length; i++) {
    const c = json.charCodeAt(i);
    if (c === 0x22) {
      for (i++; json.charCodeAt(i) !== 0x22; i++) if (json.charCodeAt(i) === 0x5c) i++;
    } else if (c === 0x7b || c === 0x5b) depth++;
    else if (c === 0x7d || c === 0x5d) depth--;
    else if (c === 0x3a && depth === 1) keys++;
  }
  return keys;
}

function parseEntry(path: string, name: string, value: unknown, start: number): TensorInfo {
  const entry = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  const { dtype, shape, data_offsets: range } = entry;
  const size = typeof dtype === "string" ? dtypeBytes(dtype) : undefined;
  if (typeof dtype !== "string" || size === undefined) {
    throw bad(path, `tensor ${shown(name)}: expected a known dtype such as BF16, found ${shown(dtype)}.`);
  }
  if (!isCounts(shape) || shape.length > 16) {
    throw bad(path, `tensor ${shown(name)}: expected a shape of whole numbers, found ${shown(shape)}.`);
  }
  if (!isCounts(range) || range.length !== 2 || range[0]! > range[1]!) {
    throw bad(path, `tensor ${shown(name)}: expected data_offsets [begin, end], found ${shown(range)}.`);
  }
  const bytes = range[1]! - range[0]!;
  const expected = shape.reduce((product, n) => product * n, size);
  if (bytes !== expected) {
    throw bad(
      path,
      `tensor ${shown(name)}: ${dtype} [${shape.join(", ")}] needs ${expected} bytes, but its data_offsets hold ${bytes}.`,
    );
  }
  return { name, dtype, shape, file: path, offset: start + range[0]!, bytes };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

function checkCoverage(path: string, tensors: TensorInfo[], start: number, fileSize: number): void {
  // Empty tensors first where several begin at one place.
  const sorted = [...tensors].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = start;
  for (const { name, offset, bytes } of sorted) {
    if (offset !== end) {
      const what = offset < end ? "overlaps the tensor before it" : "leaves a gap before it";
      throw bad(path, `tensor ${shown(name)} ${what}: expected it at byte ${end}, found ${offset}.`);
    }
    end += bytes;
  }
  if (end !== fileSize) {
    const remedy = end > fileSize ? "It is truncated; download it again." : "Bytes follow the last tensor.";
    throw bad(path, `its header describes a file of ${end} bytes, found ${fileSize}. ${remedy}`);
  }
}

/**
 * Every tensor of a safetensors file that is in memory, as floats: F64, F32, F16 or BF16 (F64 is rounded).
 * Throws `BadCheckpoint` that names the file and the tensor, also for NaN and infinity.
 */
export function readSafetensors(
  path: string,
  file: Uint8Array,
): { name: string; shape: number[]; values: Float32Array<ArrayBuffer> }[] {
  if (file.length < 10) throw bad(path, `expected a safetensors file, found only ${file.length} bytes.`);
  const header = file.subarray(8, 8 + headerLength(path, file, file.length));
  return parseSafetensorsHeader(path, header, file.length).map(({ name, dtype, shape, offset, bytes }) => {
    // A copy, so that every element type finds its alignment.
    const raw = new Uint8Array(file.subarray(offset, offset + bytes));
    const values = new Float32Array(shape.reduce((product, n) => product * n, 1));
    let badAt = -1;
    if (dtype === "F64") {
      values.set(new Float64Array(raw.buffer));
      badAt = values.findIndex((value) => !Number.isFinite(value));
    } else if (isWeightDtype(dtype)) badAt = decodeFloats(dtype, raw, values.length, values);
    else throw bad(path, `tensor ${shown(name)}: expected F64, F32, F16 or BF16, found ${dtype}.`);
    if (badAt >= 0) throw bad(path, `tensor ${shown(name)}: element ${badAt} is NaN or infinite. The file is damaged.`);
    return { name, shape, values };
  });
}

/** A tensor for `writeSafetensors`: little-endian bytes of the dtype. */
export interface TensorToWrite {
  name: string;
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
}

/** A small safetensors file in memory, tensors in the order given, data aligned to 8 bytes. */
export function writeSafetensors(tensors: TensorToWrite[], metadata?: Record<string, string>): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  let end = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    const size = dtypeBytes(dtype);
    if (size === undefined || shape.reduce((product, n) => product * n, size) !== bytes.length) {
      throw new TabTuneError(
        "Internal",
        `${name}: ${dtype} [${shape.join(", ")}] does not take ${bytes.length} bytes.`,
      );
    }
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const padded = Math.ceil(json.length / 8) * 8;
  const file = new Uint8Array(8 + padded + end).fill(0x20, 8, 8 + padded);
  new DataView(file.buffer).setUint32(0, padded, true);
  file.set(json, 8);
  let at = 8 + padded;
  for (const { bytes } of tensors) {
    file.set(bytes, at);
    at += bytes.length;
  }
  return file;
}

function bad(path: string, message: string, cause?: unknown): TabTuneError {
  return new TabTuneError("BadCheckpoint", `${path}: ${message}`, cause === undefined ? undefined : { cause });
}
