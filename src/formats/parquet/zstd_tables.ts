// Finite state entropy, the number code of Zstandard (RFC 8878, 4.1): tables and the bits that are read backwards.

/** For each state: the symbol it stands for, and how the next state is found: base + as many bits. */
export interface FseTable {
  log: number;
  symbols: Uint8Array;
  bits: Uint8Array;
  base: Uint16Array;
}

/** Bits from the end of a stretch of bytes to its beginning; the highest set bit of the last byte ends the stream. */
export class ReverseBits {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  /** Bits that are left. */
  left: number;

  constructor(bytes: Uint8Array, start: number, end: number) {
    const last = end > start ? bytes[end - 1]! : 0;
    if (last === 0) throw new Error("a Zstandard block has no bits where some were said");
    this.#bytes = bytes;
    this.#start = start;
    this.left = (end - start) * 8 - Math.clz32(last) + 23;
  }

  /** The next `n` bits (at most 32) without taking them; zeros follow behind the last. */
  peek(n: number): number {
    let value = 0;
    for (let want = n, from = this.left; want > 0 && from > 0; ) {
      const take = Math.min(want, ((from - 1) & 7) + 1);
      const byte = this.#bytes[this.#start + ((from - 1) >> 3)]!;
      value += ((byte >> ((from - take) & 7)) & ((1 << take) - 1)) * 2 ** (want - take);
      want -= take;
      from -= take;
    }
    return value;
  }

  /** Takes `n` bits. Throws an Error where there are not so many. */
  read(n: number): number {
    if (n > this.left) throw new Error("a Zstandard block has too few bits");
    const value = this.peek(n);
    this.left -= n;
    return value;
  }
}

/** How often each symbol stands in a table of 2^log states (-1: less than once), from a header at `at`. */
export function readCounts(
  bytes: Uint8Array,
  at: number,
  end: number,
  mostLog: number,
  mostSymbol: number,
): { counts: number[]; log: number; end: number } {
  let bit = at * 8;
  const read = (n: number) => {
    let value = 0;
    for (let i = 0; i < n; i++, bit++) {
      if (bit >>> 3 >= end) throw new Error("a Zstandard table ends too early");
      value |= ((bytes[bit >>> 3]! >> (bit & 7)) & 1) << i;
    }
    return value;
  };
  const log = read(4) + 5;
  if (log > mostLog) throw new Error(`a Zstandard table has 2^${log} states, at most 2^${mostLog} are allowed`);
  const counts: number[] = [];
  let left = 2 ** log;
  while (left > 0) {
    // Numbers up to left + 1; the smaller ones take a bit less.
    const width = 32 - Math.clz32(left + 1);
    const short = 2 ** width - 1 - (left + 1);
    let value = read(width - 1);
    if (value >= short) {
      value += read(1) * 2 ** (width - 1);
      if (value >= 2 ** (width - 1)) value -= short;
    }
    const count = value - 1;
    counts.push(count);
    left -= Math.abs(count);
    if (count === 0) {
      for (let more = 3; more === 3; ) {
        more = read(2);
        for (let i = 0; i < more; i++) counts.push(0);
      }
    }
    if (counts.length > mostSymbol + 1) throw new Error("a Zstandard table has too many symbols");
  }
  return { counts, log, end: (bit + 7) >>> 3 };
}

/** Spreads the symbols over the states as every encoder does. `counts` come to 2^log. */
export function buildTable(counts: readonly number[], log: number): FseTable {
  const size = 2 ** log;
  const symbols = new Uint8Array(size);
  let high = size;
  for (const [symbol, count] of counts.entries()) if (count === -1) symbols[--high] = symbol;
  let at = 0;
  for (const [symbol, count] of counts.entries()) {
    for (let i = 0; i < count; i++) {
      symbols[at] = symbol;
      do at = (at + (size >> 1) + (size >> 3) + 3) & (size - 1);
      while (at >= high && high > 0);
    }
  }
  const next = counts.map(Math.abs);
  const bits = new Uint8Array(size);
  const base = new Uint16Array(size);
  for (let state = 0; state < size; state++) {
    const n = next[symbols[state]!]!++;
    bits[state] = log - (31 - Math.clz32(n));
    base[state] = (n << bits[state]!) - size;
  }
  return { log, symbols, bits, base };
}

/** A table with one symbol only, which takes no bits. */
export function rleTable(symbol: number): FseTable {
  return { log: 0, symbols: Uint8Array.of(symbol), bits: new Uint8Array(1), base: new Uint16Array(1) };
}

const ones = (n: number, value = 1) => new Array<number>(n).fill(value);
/** What blocks use that bring no table: literal lengths, offsets, match lengths. */
export const PREDEFINED: readonly FseTable[] = [
  buildTable([4, 3, ...ones(11, 2), 1, 1, 1, ...ones(9, 2), 3, 2, ...ones(5), ...ones(4, -1)], 6),
  buildTable([...ones(6), 2, 2, 2, ...ones(15), ...ones(5, -1)], 5),
  buildTable([1, 4, 3, ...ones(6, 2), ...ones(37), ...ones(7, -1)], 6),
];
