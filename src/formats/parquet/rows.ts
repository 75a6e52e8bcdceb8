import { type AsyncRowGroup, type DecodedArray, parquetSchema, type SchemaTree } from "hyparquet";
import { readPage } from "hyparquet/src/column.js";
import { convert, DEFAULT_PARSERS } from "hyparquet/src/convert.js";
import { assembleAsync, asyncGroupToRows } from "hyparquet/src/rowgroup.js";
import { getTreePath } from "hyparquet/src/schema.js";
import { TabTuneError, throwIfCancelled } from "../../errors.ts";
import { type Footer, type Leaf, type RowGroup, readFooter } from "./footer.ts";
import { type Allowance, checkPage, checkValues, libraryHeader, listPages, type Page, unpackPage } from "./pages.ts";

/** Bytes that one row group may take unpacked: it is in memory as a whole. The Hub's own files stay under a tenth. */
const MAX_GROUP_BYTES = 2 ** 30;
/** Values of one row group, a value in a list of a struct counted for each of these. */
const MAX_GROUP_VALUES = 2 ** 26;
/**
 * Runs and dictionaries make many values out of few bytes, and damage makes billions. What a row group may hold for one byte of the
 * file: a table worth training on has a text or a picture in every row, so sound ones stay far below. Small files get some for nothing.
 */
const MOST_UNPACKED = 1000;
const MOST_VALUES = 64;
const FREE = 1 << 16;

/**
 * The rows of a parquet file, one row group in memory at a time. Columns that the file does not call text stay bytes.
 * The library believes whatever a file says, so headers, sizes, runs and indices are walked before it sees a page: reading a damaged file
 * takes time and memory in proportion to its size. Throws `BadInput` for a file that cannot be read, `Cancelled`.
 */
export async function* parquetRows(
  blob: Blob,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<Record<string, unknown>> {
  const footer = await attempt(name, () => readFooter(blob));
  const schema = parquetSchema(footer);
  for (const group of footer.groups) yield* await attempt(name, () => readGroup(blob, footer, schema, group, signal));
}

interface Column {
  bytes: Uint8Array;
  pages: Page[];
}

async function readGroup(
  blob: Blob,
  { leaves }: Footer,
  schema: SchemaTree,
  group: RowGroup,
  signal?: AbortSignal,
): Promise<Record<string, unknown>[]> {
  const columns: Column[] = [];
  const packed = group.columns.reduce((sum, { start, end }) => sum + end - start, 0);
  const allowance = { bytes: Math.min(MAX_GROUP_BYTES, packed * MOST_UNPACKED + FREE) };
  let values = Math.min(MAX_GROUP_VALUES, packed * MOST_VALUES + FREE);
  if (packed > MAX_GROUP_BYTES) throw tooLarge(packed, "bytes");
  for (const [i, chunk] of group.columns.entries()) {
    throwIfCancelled(signal);
    const bytes = new Uint8Array(await blob.slice(chunk.start, chunk.end).arrayBuffer());
    const pages = listPages(bytes, chunk);
    for (const page of pages) {
      values -= page.values * leaves[i]!.path.length;
      allowance.bytes -= page.unpackedBytes;
    }
    if (allowance.bytes < 0) throw tooLarge(packed * MOST_UNPACKED + FREE - allowance.bytes, "bytes");
    if (values < 0) throw tooLarge(packed * MOST_VALUES + FREE - values, "values");
    columns.push({ bytes, pages });
  }
  const asyncColumns = columns.map((column, i) => {
    throwIfCancelled(signal);
    const leaf = leaves[i]!;
    const data = readColumn(column, leaf, getTreePath(schema, leaf.path), group, i, allowance);
    return { pathInSchema: leaf.path, data: Promise.resolve({ data, skipped: 0 }) };
  });
  const range = { groupStart: 0, groupRows: group.rows, selectStart: 0, selectEnd: group.rows };
  const whole: AsyncRowGroup = assembleAsync({ ...range, asyncColumns }, schema);
  const lengths = await Promise.allSettled(whole.asyncColumns.map(async ({ data }) => lengthOf((await data).data)));
  for (const found of lengths) {
    if (found.status === "rejected") throw found.reason;
    if (found.value !== group.rows) throw new Error(`a column has ${found.value} rows where ${group.rows} were said`);
  }
  return await asyncGroupToRows(whole, 0, group.rows, undefined, "object");
}

const tooLarge = (found: number, what: string) =>
  new Error(
    `a row group of it holds ${found} ${what}, more than such a file can hold or than fits in memory: if the file is sound, write it again with smaller row groups`,
  );
const lengthOf = (parts: DecodedArray[]) => parts.reduce((sum, part) => sum + part.length, 0);

/** The values of one column, page by page as the library gives them. */
function readColumn(
  { bytes, pages }: Column,
  { path, type }: Leaf,
  schemaPath: SchemaTree[],
  group: RowGroup,
  index: number,
  allowance: Allowance,
): DecodedArray[] {
  const node = schemaPath.at(-1)!;
  const { element } = node;
  const decoder = {
    ...{ pathInSchema: path, type, element, schemaPath, codec: "UNCOMPRESSED" as const },
    ...{ parsers: DEFAULT_PARSERS, utf8: false },
  };
  const chunks: DecodedArray[] = [];
  let dictionary: DecodedArray | undefined;
  let last: DecodedArray | undefined;
  let rows = 0;
  for (const page of pages) {
    const unpacked = unpackPage(bytes, page, group.columns[index]!.codec);
    const isDictionary = page.kind === "dictionary";
    if (isDictionary) checkValues(unpacked, 0, page, page.values, node, undefined, allowance);
    else rows += checkPage(unpacked, page, schemaPath, dictionary?.length, allowance);
    const view = new DataView(unpacked.buffer, unpacked.byteOffset, unpacked.byteLength);
    const { data } = readPage({ view, offset: 0 }, libraryHeader(page), decoder, dictionary, last, 0);
    if (isDictionary) dictionary = data && convert(data, decoder);
    else if (data && data !== last && data.length > 0) {
      chunks.push(data);
      last = data;
    }
  }
  if (rows !== group.rows)
    throw new Error(`the column ${path.join(".")} has ${rows} rows where ${group.rows} were said`);
  return chunks;
}

async function attempt<T>(name: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (cause instanceof TabTuneError) throw cause;
    const found = cause instanceof Error ? cause.message : String(cause);
    const message = `${name}: it cannot be read as parquet with snappy or zstd compression (${found}).`;
    throw new TabTuneError("BadInput", message, { cause });
  }
}
