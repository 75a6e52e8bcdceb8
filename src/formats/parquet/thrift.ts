// Thrift's compact protocol, as parquet uses it for its footer and page headers. No list is made longer than the bytes that are left.

export type ThriftValue = boolean | number | Uint8Array | ThriftValue[] | ThriftStruct;
/** Fields by their number. */
export type ThriftStruct = Map<number, ThriftValue>;

const MAX_DEPTH = 16;
const decoder = new TextDecoder();

/** Reads structs out of bytes. Every call throws an Error where the bytes end too early or a number is none. */
export class ThriftReader {
  readonly bytes: Uint8Array;
  readonly end: number;
  offset: number;

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
  }

  byte(): number {
    if (this.offset >= this.end) throw new Error("it ends in the middle of a header");
    return this.bytes[this.offset++]!;
  }

  /** An unsigned number of at most 64 bits; beyond 2^53 it is no longer exact. */
  varint(): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 70; scale *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new Error("a number in it has more than 64 bits");
  }

  zigzag(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  struct(depth = 0): ThriftStruct {
    if (depth > MAX_DEPTH) throw new Error(`its headers are nested deeper than ${MAX_DEPTH}`);
    const fields: ThriftStruct = new Map();
    for (let id = 0; ; ) {
      const head = this.byte();
      if ((head & 15) === 0) return fields;
      id = head >> 4 ? id + (head >> 4) : this.zigzag();
      fields.set(id, this.#value(head & 15, depth));
    }
  }

  #value(type: number, depth: number): ThriftValue {
    switch (type) {
      case 1:
      case 2:
        return type === 1;
      case 3:
        return (this.byte() << 24) >> 24;
      case 4:
      case 5:
      case 6:
        return this.zigzag();
      case 7:
        return this.#take(8)[0]!; // A double: nothing that is read here has any.
      case 8:
        return this.#take(this.varint());
      case 9: {
        const head = this.byte();
        const count = head >> 4 === 15 ? this.varint() : head >> 4;
        if (count > this.end - this.offset)
          throw new Error(`a list in it has ${count} entries, more than bytes are left`);
        const list: ThriftValue[] = [];
        // In a list, booleans are bytes.
        const kind = (head & 15) < 3 ? 3 : head & 15;
        for (let i = 0; i < count; i++) list.push(this.#value(kind, depth + 1));
        return list;
      }
      case 12:
        return this.struct(depth + 1);
      default:
        throw new Error(`a header in it has a field of unknown type ${type}`);
    }
  }

  #take(length: number): Uint8Array {
    if (length > this.end - this.offset) throw new Error(`a text in it has ${length} bytes, more than are left`);
    this.offset += length;
    return this.bytes.subarray(this.offset - length, this.offset);
  }
}

/** A whole number from `least` to 2^53; `fallback` where the field is absent. Throws an Error that names it by `what`. */
export function int(fields: ThriftStruct, id: number, what: string, fallback?: number, least = 0): number {
  const value = fields.get(id) ?? fallback;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= least) return value;
  throw new Error(`${what} is ${typeof value === "object" ? "no number" : value}`);
}

export function text(fields: ThriftStruct, id: number, what: string): string {
  const value = fields.get(id);
  if (value instanceof Uint8Array) return decoder.decode(value);
  throw new Error(`${what} is no text`);
}

/** A struct inside; undefined where it is absent. */
export function inner(fields: ThriftStruct, id: number): ThriftStruct | undefined {
  const value = fields.get(id);
  return value instanceof Map ? value : undefined;
}

/** A list of structs. */
export function structs(fields: ThriftStruct, id: number, what: string): ThriftStruct[] {
  const value = fields.get(id);
  if (Array.isArray(value) && value.every((v) => v instanceof Map)) return value;
  throw new Error(`${what} is no list`);
}
