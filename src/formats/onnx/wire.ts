import { TabTuneError } from "../../errors.ts";
import type { FileSet } from "../file_set.ts";

/** One field of a protobuf message. `at` is where its payload begins, or, of a varint, stands for nothing. */
export interface Field {
  field: number;
  wire: number;
  /** Payload [at, end) of a length-delimited or fixed field, absolute in the file. */
  at: number;
  end: number;
  /** Of a varint, as a signed 64-bit number; above 2^53 rounded. */
  value: number;
}

const VARINT = 0;
const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

/** The longest tag with the longest varint behind it. */
const MAX_PREFIX = 20;
const FIRST_READ = 64 << 10;
const LARGEST_READ = 4 << 20;

/** A protobuf file that is read as far as its fields are looked at: what is skipped is never asked for. */
export class ProtoFile {
  readonly path: string;
  readonly size: number;
  readonly #files: FileSet;
  readonly #signal: AbortSignal | undefined;
  #start = 0;
  #bytes = new Uint8Array(0);

  private constructor(files: FileSet, path: string, size: number, signal?: AbortSignal) {
    this.#files = files;
    this.path = path;
    this.size = size;
    this.#signal = signal;
  }

  static async open(files: FileSet, path: string, signal?: AbortSignal): Promise<ProtoFile> {
    return new ProtoFile(files, path, await files.size(path, signal), signal);
  }

  /** Bytes [at, end), in a message loaded before or read now; reads ahead the farther the longer it goes on without a jump. */
  async bytes(at: number, end: number): Promise<Message> {
    const loaded = this.#start + this.#bytes.length;
    if (at < this.#start || end > loaded) {
      const goesOn = at >= this.#start && at <= loaded;
      const length = Math.max(end - at, goesOn ? Math.min(2 * this.#bytes.length, LARGEST_READ) : FIRST_READ);
      this.#bytes = await this.#files.read(this.path, at, Math.min(length, this.size - at), this.#signal);
      this.#start = at;
    }
    return new Message(this.path, this.#bytes.subarray(at - this.#start, end - this.#start), at);
  }

  /** The fields of the message at [start, end), one after another; payloads are not read. */
  async *fields(start: number, end: number): AsyncGenerator<Field> {
    for (let at = start; at < end; ) {
      const field = (await this.bytes(at, Math.min(end, at + MAX_PREFIX))).field(at, end);
      yield field;
      at = field.end;
    }
  }
}

/** A protobuf message in memory. Every position is one of the whole file, also inside nested messages. */
export class Message {
  readonly #path: string;
  readonly #bytes: Uint8Array;
  readonly #start: number;

  constructor(path: string, bytes: Uint8Array, start: number) {
    this.#path = path;
    this.#bytes = bytes;
    this.#start = start;
  }

  /** The field that begins at `at` of a message that ends at `end`. */
  field(at: number, end: number): Field {
    const [tag, first] = this.#varint(at, end);
    const [field, wire] = [Math.floor(tag / 8), tag % 8];
    if (field < 1) throw this.#damaged(at);
    if (wire === VARINT) {
      const [value, next] = this.#varint(first, end);
      return { field, wire, at: first, end: next, value };
    }
    const fixed = wire === FIXED64 ? 8 : wire === FIXED32 ? 4 : 0;
    const [length, payload] = wire === BYTES ? this.#varint(first, end) : [fixed, first];
    // Groups (3 and 4) are older than ONNX.
    if ((wire !== BYTES && fixed === 0) || length < 0 || length > end - payload) throw this.#damaged(at);
    return { field, wire, at: payload, end: payload + length, value: 0 };
  }

  /** All fields of a message that lies in these bytes. */
  *fields(start = this.#start, end = this.#start + this.#bytes.length): Generator<Field> {
    for (let at = start; at < end; ) {
      const field = this.field(at, end);
      yield field;
      at = field.end;
    }
  }

  text({ at, end, wire }: Field): string {
    if (wire !== BYTES) throw this.#damaged(at);
    return LENIENT.decode(this.#bytes.subarray(at - this.#start, end - this.#start));
  }

  /** The numbers of a repeated integer: one, or packed. */
  integers({ at, end, wire, value }: Field): number[] {
    if (wire === VARINT) return [value];
    if (wire !== BYTES) throw this.#damaged(at);
    const values: number[] = [];
    for (let next = at; next < end; ) {
      const [value, after] = this.#varint(next, end);
      values.push(value);
      next = after;
    }
    return values;
  }

  f32({ at, end, wire }: Field): number {
    if (wire !== FIXED32) throw this.#damaged(at);
    const bytes = this.#bytes.slice(at - this.#start, end - this.#start);
    return new DataView(bytes.buffer).getFloat32(0, true);
  }

  /** A varint as a signed 64-bit number, and where it ends. */
  #varint(at: number, end: number): [value: number, next: number] {
    let [low, high] = [0, 0];
    for (let i = 0; i < 10 && at + i < end; i++) {
      const byte = this.#bytes[at + i - this.#start];
      if (byte === undefined) break;
      // Seven bits each: four whole bytes in the low 28, the rest above.
      if (i < 4) low += (byte & 0x7f) * 2 ** (7 * i);
      else high += (byte & 0x7f) * 2 ** (7 * (i - 4));
      if (byte < 0x80) {
        const isNegative = high >= 2 ** 35;
        return [low + (isNegative ? high - 2 ** 36 : high) * 2 ** 28, at + i + 1];
      }
    }
    throw this.#damaged(at);
  }

  #damaged(at: number): TabTuneError {
    return new TabTuneError(
      "BadCheckpoint",
      `${this.#path}: expected a field of an ONNX file at byte ${at}, found none. The file is truncated or damaged; download it again.`,
    );
  }
}

const LENIENT = new TextDecoder();
