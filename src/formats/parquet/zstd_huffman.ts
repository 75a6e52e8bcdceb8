// The byte code of Zstandard's literals (RFC 8878, 4.2).

import { buildTable, ReverseBits, readCounts } from "./zstd_tables.ts";

/** For every stretch of `bits` bits: the byte that it begins with and how many bits that byte takes. */
export interface HuffmanTable {
  bits: number;
  symbols: Uint8Array;
  lengths: Uint8Array;
}

const MAX_BITS = 11;

/** Reads a code between `at` and `end`. Throws an Error where it is none. */
export function readHuffman(bytes: Uint8Array, at: number, end: number): { table: HuffmanTable; end: number } {
  if (at >= end) throw new Error("a Zstandard code ends too early");
  const head = bytes[at++]!;
  const direct = head - 127;
  const stop = at + (direct > 0 ? (direct + 1) >> 1 : head);
  if (stop > end) throw new Error("a Zstandard code ends too early");
  const weights =
    direct > 0
      ? Array.from({ length: direct }, (_, i) => (bytes[at + (i >> 1)]! >> (i % 2 === 0 ? 4 : 0)) & 15)
      : packedWeights(bytes, at, stop);
  return { table: tableOf(weights), end: stop };
}

/** Weights that are packed themselves: two states take turns until the bits are used up. */
function packedWeights(bytes: Uint8Array, at: number, end: number): number[] {
  const { counts, log, end: start } = readCounts(bytes, at, end, 6, 255);
  const { symbols, bits, base } = buildTable(counts, log);
  const stream = new ReverseBits(bytes, start, end);
  const states = [stream.read(log), stream.read(log)];
  const weights: number[] = [];
  for (let turn = 0; ; turn ^= 1) {
    const state = states[turn]!;
    weights.push(symbols[state]!);
    if (weights.length > 254) throw new Error("a Zstandard code has too many weights");
    if (bits[state]! > stream.left) {
      weights.push(symbols[states[turn ^ 1]!]!);
      return weights;
    }
    states[turn] = base[state]! + stream.read(bits[state]!);
  }
}

/** A byte of weight w takes bits + 1 - w bits; the last byte's weight is what is missing to a power of two. */
function tableOf(weights: number[]): HuffmanTable {
  const sum = weights.reduce((total, w) => total + (w > 0 ? 2 ** (w - 1) : 0), 0);
  const bits = 32 - Math.clz32(sum);
  const rest = 2 ** bits - sum;
  if (sum === 0 || bits > MAX_BITS || (rest & (rest - 1)) !== 0) throw new Error("a Zstandard code does not add up");
  const all = [...weights, 32 - Math.clz32(rest)];
  const symbols = new Uint8Array(2 ** bits);
  const lengths = new Uint8Array(2 ** bits);
  let at = 0;
  for (let weight = 1; weight <= bits; weight++) {
    for (const [symbol, w] of all.entries()) {
      if (w !== weight) continue;
      symbols.fill(symbol, at, at + 2 ** (w - 1));
      lengths.fill(bits + 1 - w, at, at + 2 ** (w - 1));
      at += 2 ** (w - 1);
    }
  }
  return { bits, symbols, lengths };
}

/** `size` bytes out of one stream or four. Throws an Error where they do not come out even. */
export function decodeHuffman(bytes: Uint8Array, size: number, table: HuffmanTable, streams: 1 | 4): Uint8Array {
  const out = new Uint8Array(size);
  if (streams === 1) {
    decodeStream(bytes, 0, bytes.length, out, table);
    return out;
  }
  const part = (size + 3) >> 2;
  if (bytes.length < 6 || part * 3 > size) throw new Error("a Zstandard block has no room for four streams");
  let at = 6;
  for (let i = 0; i < 4; i++) {
    const end = i < 3 ? at + bytes[2 * i]! + bytes[2 * i + 1]! * 256 : bytes.length;
    if (end > bytes.length) throw new Error("a Zstandard block ends in its literals");
    decodeStream(bytes, at, end, out.subarray(i * part, i < 3 ? (i + 1) * part : size), table);
    at = end;
  }
  return out;
}

function decodeStream(bytes: Uint8Array, start: number, end: number, out: Uint8Array, table: HuffmanTable): void {
  const stream = new ReverseBits(bytes, start, end);
  for (let i = 0; i < out.length; i++) {
    const found = stream.peek(table.bits);
    out[i] = table.symbols[found]!;
    stream.left -= table.lengths[found]!;
  }
  if (stream.left !== 0) throw new Error("a Zstandard stream does not end with its last byte");
}
