import { decompress } from "fzstd";
import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
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
    slice: (start, end) => blob.slice(start, end).arrayBuffer(),
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
    yield* await attempt(name, () =>
      parquetReadObjects({
        file,
        metadata,
        rowStart,
        rowEnd,
        utf8: false,
        compressors: { ZSTD: (input, length) => decompress(input, new Uint8Array(length)) },
      }),
    );
    rowStart = rowEnd;
  }
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
