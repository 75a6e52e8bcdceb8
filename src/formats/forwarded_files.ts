import type { FileEntry, FileSet } from "./file_set.ts";

/** Files of another set, which says all about them; only how they are read is left to say. */
export abstract class ForwardedFiles implements FileSet {
  readonly name: string;
  readonly identity: string;
  readonly licence?: string;
  protected readonly inner: FileSet;

  constructor(inner: FileSet) {
    this.inner = inner;
    this.name = inner.name;
    this.identity = inner.identity;
    if (inner.licence !== undefined) this.licence = inner.licence;
  }

  abstract read(path: string, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;

  describe(): string {
    return this.inner.describe();
  }
  list(signal?: AbortSignal): Promise<FileEntry[] | undefined> {
    return this.inner.list(signal);
  }
  has(path: string, signal?: AbortSignal): Promise<boolean> {
    return this.inner.has(path, signal);
  }
  size(path: string, signal?: AbortSignal): Promise<number> {
    return this.inner.size(path, signal);
  }
  text(path: string, signal?: AbortSignal): Promise<string> {
    return this.inner.text(path, signal);
  }
}
