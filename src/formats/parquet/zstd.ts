import { decodeHuffman, type HuffmanTable, readHuffman } from "./zstd_huffman.ts";
import { buildTable, type FseTable, PREDEFINED, ReverseBits, readCounts, rleTable } from "./zstd_tables.ts";

/** Largest block, unpacked, in bytes. */
const MAX_BLOCK = 128 << 10;

/** State that later blocks of a frame use again. */
interface Frame {
  huffman?: HuffmanTable;
  /** Of literal lengths, offsets, match lengths. */
  tables: [FseTable?, FseTable?, FseTable?];
  /** The last three distances. */
  distances: [number, number, number];
  /** Where the frame's own output begins. */
  start: number;
}

/** Bits that follow a length's code, and the length at which the code begins. */
function lengthCodes(first: number, plain: number, bits: readonly number[]): { bits: number[]; base: number[] } {
  const all = [...new Array<number>(plain).fill(0), ...bits];
  let next = first;
  const base = all.map((n) => {
    next += 2 ** n;
    return next - 2 ** n;
  });
  return { bits: all, base };
}
const LITERALS = lengthCodes(0, 16, [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const MATCHES = lengthCodes(3, 32, [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/**
 * Unpacks Zstandard frames to exactly `length` bytes, in time bounded by input and output together. fzstd, the usual script for it, runs
 * for ever on some damaged frames. Dictionaries are not read, checksums not compared. Throws an Error. Source: RFC 8878.
 */
export function unpackZstd(input: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(length);
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  let at = 0;
  let done = 0;
  while (at < input.length) {
    const magic = view.getUint32(at, true);
    if (magic >>> 4 === 0x184d2a5) {
      at += 8 + view.getUint32(at + 4, true); // A frame to be skipped.
      continue;
    }
    if (magic !== 0xfd2fb528) throw new Error("a Zstandard frame does not begin as one");
    const flags = view.getUint8(at + 4);
    const isSingle = (flags >> 5) & 1;
    if ((flags & 3) !== 0) throw new Error("a Zstandard frame needs a dictionary");
    at += 6 - isSingle + (flags >> 6 ? 1 << (flags >> 6) : isSingle);
    const frame: Frame = { tables: [], distances: [1, 4, 8], start: done };
    for (let isLast = false; !isLast; ) {
      const head = view.getUint16(at, true) + (view.getUint8(at + 2) << 16);
      const size = head >> 3;
      isLast = (head & 1) === 1;
      at += 3;
      const kind = (head >> 1) & 3;
      const inFile = kind === 1 ? 1 : size;
      if (kind === 3 || inFile > input.length - at || (kind < 2 && size > length - done)) {
        throw new Error(`a Zstandard block of ${size} bytes does not fit`);
      }
      const block = input.subarray(at, at + inFile);
      if (kind === 0) out.set(block, done);
      else if (kind === 1) out.fill(block[0]!, done, done + size);
      done = kind === 2 ? unpackBlock(block, out, done, frame) : done + size;
      at += inFile;
    }
    at += (flags >> 2) & 1 ? 4 : 0;
  }
  if (done !== length) throw new Error(`Zstandard frames hold ${done} bytes, expected ${length}`);
  return out;
}

/** Gives where the output ends. */
function unpackBlock(block: Uint8Array, out: Uint8Array, done: number, frame: Frame): number {
  const { literals, end } = readLiterals(block, frame, Math.min(MAX_BLOCK, out.length - done));
  let at = end;
  let count = byteAt(block, at++);
  if (count > 127) {
    count =
      count === 255
        ? byteAt(block, at) + byteAt(block, at + 1) * 256 + 0x7f00
        : (count - 128) * 256 + byteAt(block, at);
    at += count >= 0x7f00 ? 2 : 1;
  }
  let used = 0;
  if (count > 0) {
    const modes = byteAt(block, at++);
    for (const i of [0, 1, 2] as const) at = readTable(block, at, (modes >> (6 - 2 * i)) & 3, i, frame);
    const [lengths, offsets, matches] = frame.tables as [FseTable, FseTable, FseTable];
    const bits = new ReverseBits(block, at, block.length);
    let l = bits.read(lengths.log);
    let o = bits.read(offsets.log);
    let m = bits.read(matches.log);
    for (let i = 0; i < count; i++) {
      const code = offsets.symbols[o]!;
      const offset = 2 ** code + bits.read(code);
      const matchCode = matches.symbols[m]!;
      const match = MATCHES.base[matchCode]! + bits.read(MATCHES.bits[matchCode]!);
      const literalCode = lengths.symbols[l]!;
      const literal = LITERALS.base[literalCode]! + bits.read(LITERALS.bits[literalCode]!);
      const back = distance(frame.distances, offset, literal === 0);
      if (literal > literals.length - used || literal + match > out.length - done) {
        throw new Error("a Zstandard block holds too many bytes");
      }
      out.set(literals.subarray(used, used + literal), done);
      used += literal;
      done += literal;
      if (back > done - frame.start || back === 0) throw new Error("a Zstandard block copies from nowhere");
      if (back >= match) {
        out.copyWithin(done, done - back, done - back + match);
        done += match;
      } else for (const stop = done + match; done < stop; done++) out[done] = out[done - back]!;
      if (i === count - 1) break;
      l = lengths.base[l]! + bits.read(lengths.bits[l]!);
      m = matches.base[m]! + bits.read(matches.bits[m]!);
      o = offsets.base[o]! + bits.read(offsets.bits[o]!);
    }
    if (bits.left !== 0) throw new Error("a Zstandard block does not end with its last sequence");
  }
  const rest = literals.subarray(used);
  if (rest.length > out.length - done) throw new Error("a Zstandard block holds too many bytes");
  out.set(rest, done);
  return done + rest.length;
}

/** Distances 1 to 3 are those of before; with no literals between, the last one is not among them. */
function distance(before: [number, number, number], offset: number, noLiterals: boolean): number {
  if (offset > 3) {
    before.splice(0, 3, offset - 3, before[0], before[1]);
    return offset - 3;
  }
  const index = offset - 1 + (noLiterals ? 1 : 0);
  const found = index === 3 ? before[0] - 1 : before[index]!;
  if (index > 0) before.splice(0, 3, found, before[0], index === 1 ? before[2] : before[1]);
  return found;
}

/** The literals of a block, at most `most` bytes, and where the sequences begin. */
function readLiterals(block: Uint8Array, frame: Frame, most: number): { literals: Uint8Array; end: number } {
  const first = byteAt(block, 0);
  const kind = first & 3;
  const form = (first >> 2) & 3;
  const number = (from: number, bytes: number) => {
    let value = 0;
    for (let i = 0; i < bytes; i++) value += byteAt(block, from + i) * 2 ** (8 * i);
    return value;
  };
  const fits = (size: number) => {
    if (size > most) throw new Error(`a Zstandard block holds ${size} literal bytes where ${most} are left`);
  };
  if (kind < 2) {
    const head = form % 2 === 0 ? 1 : form === 1 ? 2 : 3;
    const size = number(0, head) >> (head === 1 ? 3 : 4);
    fits(size);
    const end = head + (kind === 0 ? size : 1);
    if (end > block.length) throw new Error("a Zstandard block ends in its literals");
    return { literals: kind === 0 ? block.subarray(head, end) : new Uint8Array(size).fill(block[head]!), end };
  }
  const width = form < 2 ? 10 : form === 2 ? 14 : 18;
  const head = form < 2 ? 3 : form + 2;
  const sizes = Math.floor(number(0, head) / 16);
  const size = sizes % 2 ** width;
  const end = head + Math.floor(sizes / 2 ** width);
  fits(size);
  if (end > block.length) throw new Error("a Zstandard block ends in its literals");
  let at = head;
  if (kind === 2) {
    const read = readHuffman(block, at, end);
    frame.huffman = read.table;
    at = read.end;
  }
  if (!frame.huffman) throw new Error("a Zstandard block repeats a code that was not there");
  return { literals: decodeHuffman(block.subarray(at, end), size, frame.huffman, form === 0 ? 1 : 4), end };
}

/** Reads table `i` of a block into the frame: 0 literal lengths, 1 offsets, 2 match lengths. */
function readTable(block: Uint8Array, at: number, mode: number, i: 0 | 1 | 2, frame: Frame): number {
  const most = [35, 31, 52][i]!;
  if (mode === 0) frame.tables[i] = PREDEFINED[i]!;
  else if (mode === 1) {
    const symbol = byteAt(block, at++);
    if (symbol > most) throw new Error(`a Zstandard block uses the unknown code ${symbol}`);
    frame.tables[i] = rleTable(symbol);
  } else if (mode === 2) {
    const { counts, log, end } = readCounts(block, at, block.length, [9, 8, 9][i]!, most);
    frame.tables[i] = buildTable(counts, log);
    at = end;
  } else if (!frame.tables[i]) throw new Error("a Zstandard block repeats a table that was not there");
  return at;
}

function byteAt(bytes: Uint8Array, at: number): number {
  if (at >= bytes.length) throw new Error("a Zstandard block ends too early");
  return bytes[at]!;
}
