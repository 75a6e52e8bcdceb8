import { shown, TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import type { FileSet } from "../file_set.ts";
import { GGML_TYPES, OTHER_GGML_TYPES } from "./blocks.ts";
import { ByteCursor } from "./cursor.ts";

export type GgufScalar = string | number | boolean;
/** A metadata value; whole numbers above 2^53 are rounded. */
export type GgufMeta = GgufScalar | readonly GgufScalar[];

/** One opened file: what stands before its weights. */
export interface GgufFile {
  path: string;
  metadata: ReadonlyMap<string, GgufMeta>;
  /** Under the file's own names, shapes in PyTorch's order. */
  tensors: TensorInfo[];
  /** All bytes before the data, for fingerprints. */
  head: Uint8Array;
}

/** Bytes asked for at first, and by how much more if that was not enough: Qwen3-VL's vocabulary takes 6 MB. */
const FIRST_READ = 1 << 20;
const GROWTH = 8;
/** The longest head that is read, and the most tensors in a file. */
const MAX_HEAD_BYTES = 64 << 20;
const MAX_TENSORS = 100_000;
const MAX_KEY_BYTES = 65_535;
const MAX_NAME_BYTES = 64;
const STRING = 8;
const ARRAY = 9;

/** Bytes of a value type where it has a fixed size; for the others the fewest. Source: checkpoint-formats.md §4.1. */
const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];

/**
 * Reads and checks everything before the weights of one GGUF file, version 2 or 3. Reads as much of it as that takes.
 * Throws `BadCheckpoint` naming file, thing, expected and found.
 */
export async function readGgufFile(files: FileSet, path: string, signal?: AbortSignal): Promise<GgufFile> {
  return await readHead(files, path, (cursor) => parseHead(path, cursor), signal);
}

/**
 * The metadata up to and with the first of these keys that are all there, read from a small part of the file: writers put
 * `general.*` first. Ends before the tensors.
 */
export async function peekGguf(
  files: FileSet,
  path: string,
  keys: readonly string[],
  signal?: AbortSignal,
): Promise<ReadonlyMap<string, GgufMeta>> {
  const enough = (metadata: ReadonlyMap<string, GgufMeta>) => keys.every((key) => metadata.has(key));
  return await readHead(
    files,
    path,
    (cursor) => parseMetadata(path, cursor, parseCounts(path, cursor).keys, enough),
    signal,
  );
}

async function readHead<T>(
  files: FileSet,
  path: string,
  parse: (cursor: ByteCursor) => T,
  signal?: AbortSignal,
): Promise<T> {
  const size = await files.size(path, signal);
  let bytes = await files.read(path, 0, Math.min(size, FIRST_READ), signal);
  for (;;) {
    const cursor = new ByteCursor(path, bytes, size);
    const result = cursor.attempt(() => parse(cursor));
    if (result) return result.value;
    if (cursor.needed > MAX_HEAD_BYTES) {
      throw bad(path, `its metadata is longer than ${MAX_HEAD_BYTES} bytes; TabTune reads no longer ones.`);
    }
    const more = Math.min(size, MAX_HEAD_BYTES, Math.max(cursor.needed, bytes.length * GROWTH));
    const whole = new Uint8Array(more);
    whole.set(bytes);
    whole.set(await files.read(path, bytes.length, more - bytes.length, signal), bytes.length);
    bytes = whole;
  }
}

function parseCounts(path: string, cursor: ByteCursor): { tensors: number; keys: number } {
  const magic = cursor.size < 24 ? "" : String.fromCharCode(...cursor.bytes(4));
  if (magic !== "GGUF") {
    const what = cursor.size < 24 ? `only ${cursor.size} bytes` : JSON.stringify(magic);
    throw bad(
      path,
      `expected a file that begins with GGUF, found ${what}. Is it a Git LFS pointer? Download it again.`,
    );
  }
  const version = cursor.u32();
  if ((version & 0xffff) === 0) {
    throw bad(path, "its numbers are big-endian. Convert it for little-endian machines, or get another file.");
  }
  if (version !== 2 && version !== 3) {
    throw bad(path, `expected GGUF version 2 or 3, found ${version}. Get a newer conversion of this model.`);
  }
  const tensors = cursor.count("tensors", 32);
  if (tensors > MAX_TENSORS) throw bad(path, `expected at most ${MAX_TENSORS} tensors, found ${tensors}.`);
  return { tensors, keys: cursor.count("metadata keys", 13) };
}

function parseMetadata(
  path: string,
  cursor: ByteCursor,
  keys: number,
  enough?: (metadata: ReadonlyMap<string, GgufMeta>) => boolean,
): Map<string, GgufMeta> {
  const metadata = new Map<string, GgufMeta>();
  for (let i = 0; i < keys && !enough?.(metadata); i++) {
    const key = cursor.name(`metadata key ${i}`, MAX_KEY_BYTES);
    if (metadata.has(key)) throw bad(path, `metadata key ${shown(key)} is there twice. The file is damaged.`);
    metadata.set(key, parseValue(path, cursor, key));
  }
  return metadata;
}

function parseValue(path: string, cursor: ByteCursor, key: string): GgufMeta {
  const type = cursor.u32();
  if (type !== ARRAY) return parseScalar(path, cursor, key, type);
  const element = cursor.u32();
  if (element === ARRAY || element >= VALUE_BYTES.length) {
    throw bad(
      path,
      `metadata key ${shown(key)}: expected an array of plain values, found elements of type ${element}.`,
    );
  }
  const count = cursor.count(`elements of ${shown(key)}`, VALUE_BYTES[element]!);
  const values: GgufScalar[] = [];
  for (let i = 0; i < count; i++) values.push(parseScalar(path, cursor, key, element));
  return values;
}

function parseScalar(path: string, cursor: ByteCursor, key: string, type: number): GgufScalar {
  if (type === STRING) return cursor.text(`metadata key ${shown(key)}`);
  if (type >= VALUE_BYTES.length) {
    throw bad(path, `metadata key ${shown(key)}: expected a value type from 0 to 12, found ${type}.`);
  }
  const value = cursor.number(type);
  if (type !== 7) return value;
  if (value > 1) throw bad(path, `metadata key ${shown(key)}: expected false or true (0 or 1), found ${value}.`);
  return value === 1;
}

function parseHead(path: string, cursor: ByteCursor): GgufFile {
  const counts = parseCounts(path, cursor);
  const metadata = parseMetadata(path, cursor, counts.keys);
  const alignment = metadata.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || !Number.isInteger(Math.log2(alignment)) || alignment > 1 << 20) {
    throw bad(path, `general.alignment: expected a power of two up to ${1 << 20}, found ${shown(alignment)}.`);
  }
  const tensors: TensorInfo[] = [];
  const names = new Set<string>();
  for (let i = 0; i < counts.tensors; i++) {
    const tensor = parseTensor(path, cursor, i, alignment);
    if (names.has(tensor.name)) throw bad(path, `tensor ${shown(tensor.name)} is there twice. The file is damaged.`);
    names.add(tensor.name);
    tensors.push(tensor);
  }
  const start = Math.ceil(cursor.at / alignment) * alignment;
  for (const tensor of tensors) tensor.offset += start;
  checkPlaces(path, tensors, start, cursor.size);
  return { path, metadata, tensors, head: cursor.before() };
}

/** `offset` is still relative to the data. */
function parseTensor(path: string, cursor: ByteCursor, index: number, alignment: number): TensorInfo {
  const name = cursor.name(`tensor ${index}`, MAX_NAME_BYTES);
  const dims = cursor.u32();
  if (dims < 1 || dims > 4) throw bad(path, `tensor ${shown(name)}: expected 1 to 4 dimensions, found ${dims}.`);
  const shape = Array.from({ length: dims }, () => cursor.number(10)).reverse();
  const id = cursor.u32();
  const type = GGML_TYPES.get(id);
  if (!type) {
    throw new TabTuneError(
      "UnsupportedModel",
      `${path}: tensor ${shown(name)}: its type is ${OTHER_GGML_TYPES.get(id) ?? "one that TabTune does not know"} (ggml type ${id}). Choose a file in ${[...GGML_TYPES.values()].map((t) => t.name).join(", ")}, such as Q4_K_M or Q8_0.`,
    );
  }
  const offset = cursor.number(10);
  const elements = shape.reduce((product, n) => product * n, 1);
  if (shape.some((n) => n < 1) || !Number.isSafeInteger(elements * type.bytes)) {
    throw bad(path, `tensor ${shown(name)}: expected a shape of positive numbers, found [${shape.join(", ")}].`);
  }
  const row = shape.at(-1)!;
  if (row % type.block !== 0) {
    throw bad(
      path,
      `tensor ${shown(name)}: rows in ${type.name} need a multiple of ${type.block} values, found ${row}.`,
    );
  }
  if (offset % alignment !== 0 || !Number.isSafeInteger(offset)) {
    throw bad(path, `tensor ${shown(name)}: expected an offset that is a multiple of ${alignment}, found ${offset}.`);
  }
  return { name, dtype: type.name, shape, file: path, offset, bytes: (elements / type.block) * type.bytes };
}

function checkPlaces(path: string, tensors: TensorInfo[], start: number, size: number): void {
  let end = start;
  for (const { name, offset, bytes } of [...tensors].sort((a, b) => a.offset - b.offset)) {
    if (offset < end) {
      throw bad(
        path,
        `tensor ${shown(name)} overlaps the one before it: expected it from byte ${end} on, found ${offset}.`,
      );
    }
    end = offset + bytes;
    if (end > size) {
      throw bad(
        path,
        `tensor ${shown(name)} ends at byte ${end}, but the file has ${size}. It is truncated; download it again.`,
      );
    }
  }
}

function bad(path: string, message: string): TabTuneError {
  return new TabTuneError("BadCheckpoint", `${path}: ${message}`);
}
