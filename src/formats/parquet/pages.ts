import type { PageHeader, SchemaTree } from "hyparquet";
import { Encodings } from "hyparquet/src/constants.js";
import { getMaxDefinitionLevel, getMaxRepetitionLevel } from "hyparquet/src/schema.js";
import type { ColumnChunk } from "./footer.ts";
import { walkDeltas, walkRuns } from "./runs.ts";
import { unpackSnappy } from "./snappy.ts";
import { inner, int, ThriftReader, type ThriftStruct } from "./thrift.ts";
import { unpackZstd } from "./zstd.ts";

/** Longest number that is written as bytes: turning bytes into a number takes their length squared. */
const MAX_DECIMAL = 64;

/** A page as its header describes it; nothing is unpacked yet. */
export interface Page {
  kind: "dictionary" | "data" | "data2";
  values: number;
  encoding: string;
  /** Where the packed bytes stand in the column chunk. */
  start: number;
  end: number;
  unpackedBytes: number;
  /** Of `data2`: bytes of levels, which are never packed. */
  repetitionBytes: number;
  definitionBytes: number;
  nulls: number;
  isPacked: boolean;
}

/** The pages of a column chunk. Throws an Error where headers, sizes or counts do not fit the chunk. */
export function listPages(bytes: Uint8Array, chunk: ColumnChunk): Page[] {
  const pages: Page[] = [];
  let values = 0;
  for (let at = 0; values < chunk.values; ) {
    const reader = new ThriftReader(bytes, at);
    const header = reader.struct();
    const size = int(header, 3, "a page's packed size");
    const start = reader.offset;
    at = start + size;
    if (at > bytes.length) throw new Error(`a page of ${size} bytes begins ${bytes.length - start} before the end`);
    const page = describe(header, start, at);
    if (!page) continue;
    if (page.kind !== "dictionary") values += page.values;
    else if (pages.length > 0) throw new Error("a dictionary stands behind the pages that use it");
    if (values > chunk.values) throw new Error(`pages have ${values} values where ${chunk.values} were said`);
    pages.push(page);
  }
  return pages;
}

/** By a header's type: what the page is, and which field describes it. */
const KINDS: Partial<Record<number, [Page["kind"], number]>> = {
  0: ["data", 5],
  2: ["dictionary", 7],
  3: ["data2", 8],
};

function describe(header: ThriftStruct, start: number, end: number): Page | undefined {
  const type = int(header, 1, "a page's type");
  if (type === 1) return undefined; // An index, which nobody wrote.
  const [kind, id] = KINDS[type] ?? [];
  const fields = id && inner(header, id);
  if (!kind || !fields) throw new Error(`a page has the unknown type ${type}`);
  const isSecond = kind === "data2";
  const page: Page = {
    kind,
    values: int(fields, 1, "a page's number of values"),
    encoding: Encodings[int(fields, isSecond ? 4 : 2, "a page's encoding")] ?? "unknown",
    start,
    end,
    unpackedBytes: int(header, 2, "a page's unpacked size"),
    repetitionBytes: isSecond ? int(fields, 6, "a page's levels") : 0,
    definitionBytes: isSecond ? int(fields, 5, "a page's levels") : 0,
    nulls: isSecond ? int(fields, 2, "a page's missing values") : 0,
    isPacked: !isSecond || fields.get(7) !== false,
  };
  const levels = page.repetitionBytes + page.definitionBytes;
  if (levels > page.unpackedBytes || levels > end - start || page.nulls > page.values) {
    throw new Error(`a page of ${page.unpackedBytes} bytes has ${levels} bytes of levels`);
  }
  return page;
}

/** The page's bytes, levels before values. Throws an Error where they do not come to the size that was said. */
export function unpackPage(bytes: Uint8Array, page: Page, codec: ColumnChunk["codec"]): Uint8Array {
  const packed = bytes.subarray(page.start, page.end);
  if (codec === "none" || !page.isPacked) {
    if (packed.length !== page.unpackedBytes) throw new Error("a page that is not packed has two sizes");
    return packed;
  }
  const unpack = codec === "snappy" ? unpackSnappy : unpackZstd;
  const levels = page.repetitionBytes + page.definitionBytes;
  if (levels === 0) return unpack(packed, page.unpackedBytes);
  const out = new Uint8Array(page.unpackedBytes);
  out.set(packed.subarray(0, levels));
  // A page without values has nothing to unpack.
  if (page.unpackedBytes > levels) out.set(unpack(packed.subarray(levels), page.unpackedBytes - levels), levels);
  return out;
}

/** What the values of one column may still take, in bytes, when strings are put together from parts of each other. */
export interface Allowance {
  bytes: number;
}

/**
 * Walks an unpacked page: levels within the schema's, runs and texts inside the page, as many values as it says, indices inside the
 * dictionary. Gives the number of rows that begin in it. Throws an Error otherwise.
 */
export function checkPage(
  bytes: Uint8Array,
  page: Page,
  schemaPath: SchemaTree[],
  dictionarySize: number | undefined,
  allowance: Allowance,
): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  /** The next stretch of runs: behind its length in pages of the first kind. */
  const stretch = (said: number): [number, number] => {
    const length = page.kind === "data2" ? said : readLength(view, at);
    const from = page.kind === "data2" ? at : at + 4;
    if (length > bytes.length - from) throw new Error(`a page has ${length} bytes of runs beyond its end`);
    at = from + length;
    return [from, at];
  };
  const levels = (most: number, said: number, wanted: number) => {
    if (most === 0) return undefined;
    const found = walkRuns(bytes, ...stretch(said), 32 - Math.clz32(most), page.values, wanted);
    if (found.largest > most) throw new Error(`a page has the level ${found.largest}; its column goes to ${most}`);
    return found;
  };
  const repetition = levels(getMaxRepetitionLevel(schemaPath), page.repetitionBytes, 0);
  const deepest = getMaxDefinitionLevel(schemaPath);
  const definition = levels(deepest, page.definitionBytes, deepest);
  const present = definition ? definition.hits : page.values;
  if (page.kind === "data2" && present !== page.values - page.nulls) {
    throw new Error(`a page has ${page.values - present} missing values and says ${page.nulls}`);
  }
  at = page.kind === "data2" ? page.repetitionBytes + page.definitionBytes : at;
  checkValues(bytes, at, page, present, schemaPath.at(-1)!, dictionarySize, allowance);
  return repetition ? repetition.hits : page.values;
}

function readLength(view: DataView, at: number): number {
  if (at + 4 > view.byteLength) throw new Error("a page ends in the middle of a length");
  return view.getUint32(at, true);
}

const WIDTHS: Record<string, number> = { INT32: 4, FLOAT: 4, INT64: 8, DOUBLE: 8, INT96: 12 };

/** `count` values from `at` to the page's end. */
export function checkValues(
  bytes: Uint8Array,
  at: number,
  { encoding, kind }: Pick<Page, "encoding" | "kind">,
  count: number,
  { element }: SchemaTree,
  dictionarySize: number | undefined,
  allowance: Allowance,
): void {
  const { type = "", type_length = 0, converted_type } = element;
  const left = bytes.length - at;
  const width = type === "FIXED_LEN_BYTE_ARRAY" ? type_length : WIDTHS[type];
  const longest = (length: number) => {
    if (converted_type === "DECIMAL" && length > MAX_DECIMAL) throw new Error(`a number has ${length} bytes`);
  };
  if (type === "FIXED_LEN_BYTE_ARRAY") longest(type_length);
  const mismatch = () => new Error(`a page says ${count} values of ${type} as ${encoding} in ${left} bytes`);
  if (encoding === "PLAIN" || (kind === "dictionary" && encoding === "PLAIN_DICTIONARY")) {
    if (type === "BYTE_ARRAY") {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let i = 0; i < count; i++) {
        const length = readLength(view, at);
        at += 4 + length;
        if (at > bytes.length) throw mismatch();
        longest(length);
      }
    } else if ((width ?? 1 / 8) * count > left) throw mismatch();
  } else if (kind === "dictionary") throw mismatch();
  else if (encoding === "PLAIN_DICTIONARY" || encoding === "RLE_DICTIONARY") {
    if (dictionarySize === undefined) throw new Error("a page uses a dictionary that is not there");
    if (count === 0 && left === 0) return;
    if (left === 0) throw mismatch();
    // The library never asks how wide the numbers are before it reads that byte.
    const found = walkRuns(bytes, at + 1, bytes.length, bytes[at]!, count);
    if (count > 0 && found.largest >= dictionarySize) {
      throw new Error(`a page uses entry ${found.largest} of a dictionary of ${dictionarySize}`);
    }
  } else if (encoding === "RLE" && type === "BOOLEAN") {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    walkRuns(bytes, at + 4, Math.min(bytes.length, at + 4 + readLength(view, at)), 1, count);
  } else if (encoding === "BYTE_STREAM_SPLIT" && width && type !== "INT96") {
    if (width * count > left) throw mismatch();
  } else if (encoding === "DELTA_BINARY_PACKED" && (type === "INT32" || type === "INT64")) {
    walkDeltas(bytes, at, bytes.length, count, false);
  } else if (encoding.startsWith("DELTA_") && type === "BYTE_ARRAY") {
    checkStrings(bytes, at, encoding === "DELTA_BYTE_ARRAY", count, longest, allowance);
  } else throw new Error(`a page holds ${type} as ${encoding}, which is not known`);
}

/** Strings whose lengths stand before them; with `prefixes`, each begins like the one before. */
function checkStrings(
  bytes: Uint8Array,
  at: number,
  prefixes: boolean,
  count: number,
  longest: (length: number) => void,
  allowance: Allowance,
): void {
  const shared = prefixes ? walkDeltas(bytes, at, bytes.length, count, true) : undefined;
  const own = walkDeltas(bytes, shared?.offset ?? at, bytes.length, count, true);
  let end = own.offset;
  let previous = 0;
  for (let i = 0; i < count; i++) {
    const prefix = shared?.numbers[i] ?? 0;
    const rest = own.numbers[i]!;
    end += rest;
    if (prefix < 0 || rest < 0 || prefix > previous || end > bytes.length) {
      throw new Error(`a text of a page has ${rest} bytes and ${prefix} of the ${previous} before it`);
    }
    previous = prefix + rest;
    longest(previous);
    if (prefix > 0) allowance.bytes -= previous;
    if (allowance.bytes < 0) throw new Error("its texts repeat each other beyond what such a file may unpack to");
  }
}

/** The header as the library wants it, for bytes that are unpacked. */
export function libraryHeader(page: Page): PageHeader {
  const levels = { definition_level_encoding: "RLE", repetition_level_encoding: "RLE" } as const;
  const encoding = page.encoding as "PLAIN";
  const sizes = { uncompressed_page_size: page.unpackedBytes, compressed_page_size: page.unpackedBytes };
  if (page.kind === "dictionary") {
    return { type: "DICTIONARY_PAGE", ...sizes, dictionary_page_header: { num_values: page.values, encoding } };
  }
  if (page.kind === "data") {
    return { type: "DATA_PAGE", ...sizes, data_page_header: { num_values: page.values, encoding, ...levels } };
  }
  return {
    type: "DATA_PAGE_V2",
    ...sizes,
    data_page_header_v2: {
      num_values: page.values,
      num_nulls: page.nulls,
      num_rows: page.values,
      encoding,
      definition_levels_byte_length: page.definitionBytes,
      repetition_levels_byte_length: page.repetitionBytes,
      is_compressed: false,
    },
  };
}
