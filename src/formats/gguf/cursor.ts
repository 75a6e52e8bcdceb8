import { TabTuneError } from "../../errors.ts";

/** Thrown and caught in here: what was asked for lies in the file, but not in what has been read of it. */
class NotYet extends Error {}

/** Reads little-endian values one after another from the beginning of a file of which only a first part is in memory. */
export class ByteCursor {
  /** Where the next value begins. */
  at = 0;
  /** Bytes of the file that must be in memory to go on. */
  needed = 0;
  readonly size: number;
  #path: string;
  #bytes: Uint8Array;
  #view: DataView;

  /** @param size bytes of the whole file */
  constructor(path: string, bytes: Uint8Array, size: number) {
    this.#path = path;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.size = size;
  }

  /** What `parse` returns, or undefined when it needs bytes that have not been read; `needed` then says how many. */
  attempt<T>(parse: () => T): { value: T } | undefined {
    try {
      return { value: parse() };
    } catch (error) {
      if (error instanceof NotYet) return undefined;
      throw error;
    }
  }

  /** Moves on by n bytes and returns where they begin. */
  #take(n: number, what: string): number {
    if (this.at + n > this.size) {
      throw this.#bad(
        `${what} needs ${n} bytes from byte ${this.at} on, but the file has ${this.size}. It is truncated or damaged; download it again.`,
      );
    }
    this.needed = this.at + n;
    if (this.needed > this.#bytes.length) throw new NotYet();
    this.at += n;
    return this.at - n;
  }

  bytes(n: number): Uint8Array {
    const at = this.#take(n, "the header");
    return this.#bytes.subarray(at, at + n);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4, "a number"), true);
  }

  /** A value of one of GGUF's number types; 64-bit ones above 2^53 are rounded. */
  number(type: number): number {
    const view = this.#view;
    const read = NUMBERS[type]!;
    return read.get(view, this.#take(read.bytes, "a number"));
  }

  /** A u64 that counts things of at least `bytes` each that follow: no more than the file can hold. */
  count(what: string, bytes: number): number {
    const count = this.number(10);
    const most = Math.floor((this.size - this.at) / bytes);
    if (count > most) {
      throw this.#bad(
        `its header says ${count} ${what}, but what follows has room for ${most}. It is damaged; download it again.`,
      );
    }
    return count;
  }

  /** A string as GGUF writes it; what is no UTF-8 in it is replaced. */
  text(what: string): string {
    const at = this.#string(what);
    return LENIENT.decode(this.#bytes.subarray(at, this.at));
  }

  /** A string of 1 to `most` bytes of sound UTF-8. */
  name(what: string, most: number): string {
    const at = this.#string(what);
    const length = this.at - at;
    if (length < 1 || length > most) {
      throw this.#bad(`${what}: expected a name of 1 to ${most} bytes, found ${length}.`);
    }
    try {
      return STRICT.decode(this.#bytes.subarray(at, this.at));
    } catch {
      throw this.#bad(`${what}: its name is not UTF-8. The file is damaged; download it again.`);
    }
  }

  #string(what: string): number {
    const length = this.number(10);
    return this.#take(length, what);
  }

  /** A copy of everything before the cursor. */
  before(): Uint8Array {
    return this.#bytes.slice(0, this.at);
  }

  #bad(message: string): TabTuneError {
    return new TabTuneError("BadCheckpoint", `${this.#path}: ${message}`);
  }
}

const LENIENT = new TextDecoder();
const STRICT = new TextDecoder("utf-8", { fatal: true });

interface NumberType {
  bytes: number;
  get: (view: DataView, at: number) => number;
}

const WIDE = 2 ** 32;

/** By GGUF's number of the type; strings and arrays have none. */
const NUMBERS: Readonly<Record<number, NumberType>> = {
  0: { bytes: 1, get: (view, at) => view.getUint8(at) },
  1: { bytes: 1, get: (view, at) => view.getInt8(at) },
  2: { bytes: 2, get: (view, at) => view.getUint16(at, true) },
  3: { bytes: 2, get: (view, at) => view.getInt16(at, true) },
  4: { bytes: 4, get: (view, at) => view.getUint32(at, true) },
  5: { bytes: 4, get: (view, at) => view.getInt32(at, true) },
  6: { bytes: 4, get: (view, at) => view.getFloat32(at, true) },
  7: { bytes: 1, get: (view, at) => view.getUint8(at) },
  10: { bytes: 8, get: (view, at) => view.getUint32(at, true) + view.getUint32(at + 4, true) * WIDE },
  11: { bytes: 8, get: (view, at) => view.getUint32(at, true) + view.getInt32(at + 4, true) * WIDE },
  12: { bytes: 8, get: (view, at) => view.getFloat64(at, true) },
};
