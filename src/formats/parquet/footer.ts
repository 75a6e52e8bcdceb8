import type { FieldRepetitionType, LogicalType, ParquetType, SchemaElement } from "hyparquet";
import { ConvertedTypes, FieldRepetitionTypes, ParquetTypes } from "hyparquet/src/constants.js";
import { inner, int, structs, ThriftReader, type ThriftStruct, text } from "./thrift.ts";

/** Columns that a table may have: rows and columns are looked through for each other. */
const MAX_COLUMNS = 2048;
/** Lists and structs inside each other. */
const MAX_DEPTH = 32;
/** Longest footer: it names every column of every row group. */
const MAX_FOOTER = 64 << 20;

export type Codec = "none" | "snappy" | "zstd";

/** One column of one row group: which bytes hold it. */
export interface ColumnChunk {
  codec: Codec;
  start: number;
  end: number;
  /** Values, missing ones included; of a list, all its entries. */
  values: number;
}

export interface RowGroup {
  rows: number;
  /** In the order of the schema's leaves. */
  columns: ColumnChunk[];
}

/** A leaf of the schema: where it hangs, and how often it may repeat or be missing. */
export interface Leaf {
  path: string[];
  type: ParquetType;
}

export interface Footer {
  /** Root first, each element before its children, as the library wants it. */
  schema: SchemaElement[];
  leaves: Leaf[];
  groups: RowGroup[];
}

/**
 * What a parquet file says about itself, so far as rows need it: statistics and indexes are left alone. Throws an Error for anything that
 * a sound file cannot say: columns outside the file or over each other, other columns than the schema has, negative counts.
 */
export async function readFooter(blob: Blob): Promise<Footer> {
  const tail = new Uint8Array(await blob.slice(Math.max(0, blob.size - 8)).arrayBuffer());
  const magic = String.fromCharCode(...tail.subarray(-4));
  if (magic === "PARE") throw new Error("its footer is encrypted");
  if (tail.length < 8 || magic !== "PAR1") throw new Error("it does not end with PAR1");
  const length = new DataView(tail.buffer).getUint32(0, true);
  if (length > Math.min(MAX_FOOTER, blob.size - 12)) throw new Error(`its footer is said to have ${length} bytes`);
  const bytes = new Uint8Array(await blob.slice(blob.size - 8 - length, blob.size - 8).arrayBuffer());
  const fields = new ThriftReader(bytes).struct();
  const schema = structs(fields, 2, "its schema").map(schemaElement);
  const leaves = leavesOf(schema);
  const groups = structs(fields, 4, "its row groups").map((group) => rowGroup(group, leaves, blob.size - 8 - length));
  const chunks = groups.flatMap(({ columns }) => columns).sort((a, b) => a.start - b.start);
  for (const [i, { start }] of chunks.entries()) {
    if (i > 0 && chunks[i - 1]!.end > start) throw new Error(`two of its columns share the bytes at ${start}`);
  }
  return { schema, leaves, groups };
}

function schemaElement(fields: ThriftStruct): SchemaElement {
  const type = fields.has(1) ? ParquetTypes[int(fields, 1, "a column's type")] : undefined;
  const element: SchemaElement = { name: text(fields, 4, "a column's name") };
  if (type) element.type = type;
  if (fields.has(2)) element.type_length = int(fields, 2, `the width of ${element.name}`);
  const repetition: FieldRepetitionType | undefined = FieldRepetitionTypes[int(fields, 3, "a column's repetition", 0)];
  if (repetition) element.repetition_type = repetition;
  if (fields.has(5)) element.num_children = int(fields, 5, `the number of parts of ${element.name}`);
  const converted = fields.has(6) ? ConvertedTypes[int(fields, 6, `the kind of ${element.name}`)] : undefined;
  if (converted) element.converted_type = converted;
  element.scale = Math.min(400, int(fields, 7, `the scale of ${element.name}`, 0, -400));
  const logical = inner(fields, 10);
  const meaning = logical && logicalType(logical);
  if (meaning) element.logical_type = meaning;
  return element;
}

/** Those meanings that change how values are read. */
function logicalType(fields: ThriftStruct): LogicalType | undefined {
  if (fields.has(1)) return { type: "STRING" };
  if (fields.has(14)) return { type: "UUID" };
  if (fields.has(15)) return { type: "FLOAT16" };
  const time = inner(fields, 8);
  if (time) {
    const unit = inner(time, 2);
    return {
      type: "TIMESTAMP",
      isAdjustedToUTC: time.get(1) === true,
      unit: unit?.has(3) ? "NANOS" : unit?.has(2) ? "MICROS" : "MILLIS",
    };
  }
  const integer = inner(fields, 10);
  if (!integer) return undefined;
  return { type: "INTEGER", bitWidth: int(integer, 1, "a number's width"), isSigned: integer.get(2) === true };
}

/** Walks the schema as a tree. Throws an Error where it is none, is too deep or too wide. */
function leavesOf(schema: SchemaElement[]): Leaf[] {
  const leaves: Leaf[] = [];
  /** How many parts are still to come of each element that is open. */
  const open: { name: string; left: number }[] = [];
  for (const [i, { name, type, type_length, num_children = 0 }] of schema.entries()) {
    if (i > 0) {
      const parent = open.at(-1);
      if (!parent) throw new Error("its schema has more columns than its parts");
      parent.left--;
    }
    if (num_children > 0) open.push({ name, left: num_children });
    else {
      if (!type) throw new Error(`its column ${name} has no type`);
      if (type === "FIXED_LEN_BYTE_ARRAY" && !type_length) throw new Error(`its column ${name} has no width`);
      leaves.push({ path: [...open.slice(1).map((element) => element.name), name], type });
    }
    if (open.length > MAX_DEPTH || leaves.length > MAX_COLUMNS) {
      throw new Error(`its schema has more than ${MAX_COLUMNS} columns or is nested deeper than ${MAX_DEPTH}`);
    }
    while (open.length > 0 && open.at(-1)!.left === 0) open.pop();
  }
  if (open.length > 0 || (schema[0]?.num_children ?? 0) === 0) throw new Error("its schema is no tree of columns");
  return leaves;
}

const CODECS: Partial<Record<number, Codec>> = { 0: "none", 1: "snappy", 6: "zstd" };

function rowGroup(fields: ThriftStruct, leaves: Leaf[], dataEnd: number): RowGroup {
  const rows = int(fields, 3, "the number of rows of a row group");
  const columns = structs(fields, 1, "a row group's columns");
  if (columns.length !== leaves.length) {
    throw new Error(`a row group has ${columns.length} columns, its schema has ${leaves.length}`);
  }
  return { rows, columns: columns.map((column, i) => columnChunk(column, leaves[i]!, dataEnd)) };
}

function columnChunk(fields: ThriftStruct, leaf: Leaf, dataEnd: number): ColumnChunk {
  const name = leaf.path.join(".");
  const meta = inner(fields, 3);
  if (!meta || fields.has(1)) throw new Error(`the column ${name} is encrypted or in another file`);
  const path = meta.get(3);
  const found = Array.isArray(path) && path.every((part) => part instanceof Uint8Array) ? path : [];
  const foundName = found.map((part) => new TextDecoder().decode(part)).join(".");
  if (foundName !== name)
    throw new Error(`a row group has a column ${foundName.slice(0, 80)} where its schema has ${name}`);
  const type = ParquetTypes[int(meta, 1, `the type of ${name}`)];
  if (type !== leaf.type) throw new Error(`the column ${name} holds ${type}, its schema says ${leaf.type}`);
  const codec = CODECS[int(meta, 4, `the compression of ${name}`)];
  if (!codec) throw new Error(`the column ${name} is compressed in another way`);
  const dataStart = int(meta, 9, `the place of ${name}`);
  const dictionary = int(meta, 11, `the dictionary's place of ${name}`, 0);
  const start = dictionary > 0 ? Math.min(dictionary, dataStart) : dataStart;
  const end = start + int(meta, 7, `the size of ${name}`);
  if (start < 4 || end > dataEnd) throw new Error(`it points to bytes ${start} to ${end} of ${dataEnd}`);
  return { codec, start, end, values: int(meta, 5, `the number of values of ${name}`) };
}
