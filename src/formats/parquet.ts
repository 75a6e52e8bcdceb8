import { decompress } from "fzstd";
import {
  type AsyncBuffer,
  type AsyncRowGroup,
  type FileMetaData,
  parquetMetadataAsync,
  parquetSchema,
  type SchemaTree,
} from "hyparquet";
import { parquetReadAsync } from "hyparquet/src/read.js";
import { assembleAsync, asyncGroupToRows } from "hyparquet/src/rowgroup.js";
import { TabTuneError, throwIfCancelled } from "../errors.ts";

/** Bytes that one row group may take unpacked: it is in memory as a whole. The Hub's own files stay under a tenth. */
const MAX_GROUP_BYTES = 2 ** 30;

/**
 * The rows of a parquet file, one row group in memory at a time. Columns that the file does not call text stay bytes.
 * Snappy comes with the reader, zstd with fzstd: both plain script, since the page's policy allows no WebAssembly.
 * Throws `BadInput` for a file that cannot be read, `Cancelled`.
 */
export async function* parquetRows(
  blob: Blob,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<Record<string, unknown>> {
  const file: AsyncBuffer = {
    byteLength: blob.size,
    slice(start, end = blob.size) {
      const isInside = Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && end <= blob.size;
      const bytes =
        isInside && start <= end
          ? blob.slice(start, end).arrayBuffer()
          : Promise.reject<ArrayBuffer>(new Error(`it points to bytes ${start} to ${end} of ${blob.size}`));
      // The library reads ahead and may not come back for it.
      bytes.catch(() => {});
      return bytes;
    },
  };
  const metadata = await attempt(name, () => parquetMetadataAsync(file));
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    throwIfCancelled(signal);
    if (group.total_byte_size > MAX_GROUP_BYTES) {
      throw bad(
        name,
        `a row group of it takes ${group.total_byte_size} bytes; at most ${MAX_GROUP_BYTES} fit in memory. Write it again with smaller row groups.`,
      );
    }
    const rowEnd = rowStart + Number(group.num_rows);
    yield* await attempt(name, async () => {
      // The library's own call for objects lets go of a second damaged column's error, which then ends up in the console.
      const compressors = { ZSTD: (input: Uint8Array, length: number) => decompress(input, new Uint8Array(length)) };
      checkPaths(metadata);
      const parts = parquetReadAsync({ file, metadata, rowStart, rowEnd, utf8: false, compressors });
      await settled(parts);
      const whole = parts.map((part) => assembleAsync(part, parquetSchema(metadata)));
      await settled(whole);
      const rows: Record<string, unknown>[] = [];
      for (const part of whole) {
        for (const row of await asyncGroupToRows(part, 0, part.groupRows, undefined, "object")) rows.push(row);
      }
      return rows;
    });
    rowStart = rowEnd;
  }
}

/** Every column that a row group has must be in the schema: the library finds that out when others are being read already. */
function checkPaths(metadata: FileMetaData): void {
  const schema = parquetSchema(metadata);
  for (const { meta_data } of metadata.row_groups.flatMap(({ columns }) => columns)) {
    let node: SchemaTree | undefined = schema;
    const path = meta_data?.path_in_schema ?? [];
    for (const part of path) node = node?.children.find(({ element }) => element.name === part);
    if (!node) throw new Error(`its schema has no column ${path.join(".")}`);
  }
}

/** Waits for every column, so that no failure is left behind. */
async function settled(groups: AsyncRowGroup[]): Promise<void> {
  const columns = groups.flatMap(({ asyncColumns }) => asyncColumns.map(({ data }) => data));
  for (const result of await Promise.allSettled(columns)) if (result.status === "rejected") throw result.reason;
}

async function attempt<T>(name: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw bad(name, `it cannot be read as parquet with snappy or zstd compression (${found}).`, cause);
  }
}

function bad(name: string, message: string, cause?: unknown): TabTuneError {
  return new TabTuneError("BadInput", `${name}: ${message}`, { cause });
}
