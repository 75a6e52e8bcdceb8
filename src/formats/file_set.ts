/** A file of a checkpoint folder. `path` is relative, with forward slashes. */
export interface FileEntry {
  path: string;
  size: number;
  /** SHA-256 of the whole file in lower-case hex, where the place tells it. */
  sha256?: string;
  /** Git's name of a small file that has no SHA-256: SHA-1 of "blob", its length and its bytes. */
  gitSha1?: string;
}

/**
 * A checkpoint folder, wherever it lies: an HTTP base, a Hub repository, a picked folder.
 * Readers ask for byte ranges and never learn where the bytes come from.
 * All methods reject with TabTuneError: `NotFound`, `Network`, `BadInput` or `Cancelled`.
 */
export interface FileSet {
  /** Short name for a person, for example "Qwen3-VL-4B-Instruct". */
  readonly name: string;
  /** The same for the same place at another time, also when its files have changed since. Model ids are made from it. */
  readonly identity: string;
  /** The licence, where the place says it. */
  readonly licence?: string;
  /** One line for messages: the place, and its revision when there is one. */
  describe(): string;
  /** The files, or undefined when the place cannot list them (plain HTTP). */
  list(signal?: AbortSignal): Promise<FileEntry[] | undefined>;
  has(path: string, signal?: AbortSignal): Promise<boolean>;
  size(path: string, signal?: AbortSignal): Promise<number>;
  /** Exactly `length` bytes from `offset`; a shorter file is an error. The array owns its buffer and may be transferred. */
  read(path: string, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
  /** A whole small file (at most 64 MiB) as UTF-8. */
  text(path: string, signal?: AbortSignal): Promise<string>;
}

/** Bytes of a file that belong together. */
export interface ByteRange {
  path: string;
  offset: number;
  bytes: number;
}
