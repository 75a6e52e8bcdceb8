// Runs of numbers inside a page, walked before the library reads them: it believes every length that a file says.

import { ThriftReader } from "./thrift.ts";

/** What was found among the numbers of a run-length and bit-packed hybrid. */
export interface Runs {
  largest: number;
  /** How many equal the number that was asked for. */
  hits: number;
  first: number;
}

/**
 * `count` numbers of `width` bits between `at` and `end`. Throws an Error where runs are longer than the numbers that are left or need
 * more bytes than there are. The last bit-packed run may be cut off behind its last number, as some writers do.
 */
export function walkRuns(bytes: Uint8Array, at: number, end: number, width: number, count: number, wanted = 0): Runs {
  if (width > 32) throw new Error(`a page has numbers of ${width} bits`);
  const reader = new ThriftReader(bytes, at, end);
  const runs: Runs = { largest: 0, hits: 0, first: 0 };
  const note = (value: number, times: number, index: number) => {
    if (index === 0) runs.first = value;
    if (value > runs.largest) runs.largest = value;
    if (value === wanted) runs.hits += times;
  };
  for (let seen = 0; seen < count; ) {
    const head = reader.varint();
    const left = count - seen;
    const bitPacked = head % 2 === 1;
    const length = Math.floor(head / 2) * (bitPacked ? 8 : 1);
    if (!bitPacked) {
      if (length > left) throw new Error(`a page repeats a number ${length} times where ${left} are left`);
      let value = 0;
      for (let i = 0; i < width; i += 8) value += reader.byte() * 2 ** i;
      note(value, length, length === 0 ? -1 : seen);
      seen += length;
      continue;
    }
    const used = Math.min(length, left);
    if (Math.ceil((used * width) / 8) > end - reader.offset || (width === 0 && length >= left + 8)) {
      throw new Error(`a page packs ${length} numbers into the ${end - reader.offset} bytes that are left`);
    }
    const start = reader.offset * 8;
    for (let i = 0; i < used; i++) note(bitsAt(bytes, start + i * width, width), 1, seen + i);
    reader.offset = Math.min(end, reader.offset + (length * width) / 8);
    seen += used;
  }
  return runs;
}

function bitsAt(bytes: Uint8Array, bit: number, width: number): number {
  let value = 0;
  let scale = 1;
  for (let got = 0; got < width; ) {
    const free = 8 - ((bit + got) & 7);
    const take = Math.min(free, width - got);
    const byte = bytes[(bit + got) >>> 3]!;
    value += ((byte >> (8 - free)) & ((1 << take) - 1)) * scale;
    scale *= 2 ** take;
    got += take;
  }
  return value;
}

/**
 * DELTA_BINARY_PACKED: `count` numbers from `at` on. Gives where they end and, for lengths, the numbers themselves in 32 bits.
 * Throws an Error where blocks are not as the format says or end behind `end`.
 */
export function walkDeltas(
  bytes: Uint8Array,
  at: number,
  end: number,
  count: number,
  wantNumbers: boolean,
): { offset: number; numbers: Int32Array } {
  const reader = new ThriftReader(bytes, at, end);
  const block = reader.varint();
  const minis = reader.varint();
  const total = reader.varint();
  const perMini = block / minis;
  if (!(block <= 1 << 16 && perMini >= 8 && perMini % 8 === 0) || total !== count) {
    throw new Error(
      `a page has ${total} differences in blocks of ${block} in ${minis} parts, expected ${count} numbers`,
    );
  }
  const numbers = new Int32Array(wantNumbers ? count : 0);
  let value = reader.zigzag();
  if (count > 0) numbers[0] = value;
  for (let done = 1; done < count; ) {
    const least = reader.zigzag();
    const widths = Array.from({ length: minis }, () => reader.byte());
    for (const width of widths) {
      if (done >= count) break;
      const bytesOfPart = (perMini * width) / 8;
      if (width > 64 || bytesOfPart > end - reader.offset) {
        throw new Error(`a page has differences of ${width} bits beyond its end`);
      }
      const used = Math.min(perMini, count - done);
      if (wantNumbers) {
        for (let i = 0; i < used; i++) {
          value = (value + least + bitsAt(bytes, reader.offset * 8 + i * width, width)) | 0;
          numbers[done + i] = value;
        }
      }
      done += used;
      reader.offset += bytesOfPart;
    }
  }
  return { offset: reader.offset, numbers };
}
