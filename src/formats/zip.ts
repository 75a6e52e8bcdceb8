import {
  BlobReader,
  BlobWriter,
  configure,
  type FileEntry as Entry,
  TextReader,
  Uint8ArrayReader,
  ZipReader,
  ZipWriter,
} from "@zip.js/zip.js/lib/zip-core-native.js";
import { TabTuneError, throwIfCancelled } from "../errors.ts";

// The browser's own inflate. The library's helpers start workers from blob addresses, which the page's policy forbids.
configure({ useWebWorkers: false });

/** What deflate cannot exceed. */
const MAX_DEFLATE = 1032;
/** Bounds that no honest archive of charts meets. */
const MAX_ENTRIES = 400_000;
const MAX_ENTRY_BYTES = 512 << 20;
const MAX_TOTAL_BYTES = 32 * 2 ** 30;
const MAX_RATIO = 500;
/** Small entries may compress as well as they like. */
const RATIO_FROM_BYTES = 1 << 20;

/** Memory for an unpacked file before any of it has come out. */
const FIRST_BYTES = 32 << 10;

/** A file inside an archive; nothing is unpacked before `read`. */
export interface ZipFile {
  path: string;
  size: number;
  /** The unpacked bytes, their checksum compared. Throws `BadInput`, `Cancelled`. */
  read(signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

/** Lists an archive's files. Throws `BadInput` for damaged, encrypted or bomb-like ones, before anything is unpacked. */
export async function openZip(blob: Blob, name: string): Promise<ZipFile[]> {
  let entries: Entry[];
  try {
    const all = await new ZipReader(new BlobReader(blob)).getEntries();
    entries = all.filter((entry): entry is Entry => !entry.directory);
  } catch (cause) {
    throw bad(name, `it cannot be read as a zip archive (${reason(cause)}). Pack the folder again.`, cause);
  }
  if (entries.length > MAX_ENTRIES) {
    throw bad(name, `expected at most ${MAX_ENTRIES} files, found ${entries.length}. Split it.`);
  }
  const total = entries.reduce((sum, entry) => sum + entry.uncompressedSize, 0);
  if (total > MAX_TOTAL_BYTES) {
    throw bad(
      name,
      `it would unpack to ${gigabytes(total)}; at most ${gigabytes(MAX_TOTAL_BYTES)} are taken. Split it.`,
    );
  }
  for (const { filename, uncompressedSize, compressedSize, encrypted } of entries) {
    if (encrypted) throw bad(name, `“${filename}” in it is encrypted. Pack it without a password.`);
    const isBomb = uncompressedSize > RATIO_FROM_BYTES && uncompressedSize > MAX_RATIO * compressedSize;
    if (uncompressedSize > MAX_ENTRY_BYTES || isBomb) {
      throw bad(
        name,
        `“${filename}” in it would unpack from ${compressedSize} to ${uncompressedSize} bytes. Files of at most ${MAX_ENTRY_BYTES} bytes and ${MAX_RATIO} times their packed size are taken.`,
      );
    }
    if (compressedSize > blob.size || uncompressedSize > MAX_DEFLATE * compressedSize) {
      throw bad(
        name,
        `“${filename}” in it is said to take ${compressedSize} bytes and to unpack to ${uncompressedSize}, which an archive of ${blob.size} bytes cannot hold. It is damaged; pack the folder again.`,
      );
    }
  }
  return entries.map((entry) => ({
    path: entry.filename,
    size: entry.uncompressedSize,
    read: (signal) => unpack(entry, name, signal),
  }));
}

async function unpack(entry: Entry, name: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  throwIfCancelled(signal);
  const size = entry.uncompressedSize;
  // Grows with what comes out: the directory may say more, and also less.
  let bytes = new Uint8Array(Math.min(size, FIRST_BYTES));
  let at = 0;
  const sink = new WritableStream<Uint8Array>({
    write(chunk) {
      if (at + chunk.length > size) throw new Error(`more than the ${size} bytes it declares`);
      if (at + chunk.length > bytes.length) {
        const grown = new Uint8Array(Math.min(size, Math.max(2 * bytes.length, at + chunk.length)));
        grown.set(bytes);
        bytes = grown;
      }
      bytes.set(chunk, at);
      at += chunk.length;
    },
  });
  try {
    await entry.getData(sink, { checkSignature: true, checkOverlappingEntry: true, ...(signal ? { signal } : {}) });
  } catch (cause) {
    throwIfCancelled(signal);
    throw bad(name, `“${entry.filename}” in it cannot be unpacked (${reason(cause)}). Pack the folder again.`, cause);
  }
  if (at === size) return bytes;
  throw bad(name, `“${entry.filename}” in it unpacks to ${at} bytes, expected ${size}. Pack the folder again.`);
}

/** What goes into an archive. Text is packed; pictures are packed already and stored as they are. */
export interface FileToZip {
  path: string;
  data: string | Blob | Uint8Array | ReadableStream<Uint8Array>;
}

/** Writes an archive; the browser keeps large Blobs on disk. */
export async function writeZip(files: Iterable<FileToZip> | AsyncIterable<FileToZip>): Promise<Blob> {
  return await addAll(new ZipWriter(new BlobWriter("application/zip")), files);
}

/** The same, written to a file as it is made. */
export async function writeZipTo(
  target: WritableStream<Uint8Array>,
  files: Iterable<FileToZip> | AsyncIterable<FileToZip>,
): Promise<void> {
  await addAll(new ZipWriter(target), files);
}

async function addAll<T>(writer: ZipWriter<T>, files: Iterable<FileToZip> | AsyncIterable<FileToZip>): Promise<T> {
  for await (const { path, data } of files) {
    if (typeof data === "string") await writer.add(path, new TextReader(data));
    else if (data instanceof ReadableStream) await writer.add(path, data, { level: 0 });
    else await writer.add(path, data instanceof Blob ? new BlobReader(data) : new Uint8ArrayReader(data), { level: 0 });
  }
  return await writer.close();
}

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

function bad(name: string, message: string, cause?: unknown): TabTuneError {
  return new TabTuneError("BadInput", `${name}: ${message}`, { cause });
}
