import { TabTuneError } from "../errors.ts";
import type { FileEntry, FileSet } from "./file_set.ts";
import { openZip, type ZipFile } from "./zip.ts";

/** Unpacked files in memory at once: a shard is read whole, and the next one ahead. */
const KEPT = 2;

/** The files of a zip archive. Each is unpacked whole when it is first read: for files of some megabytes. */
export class ZipFileSet implements FileSet {
  readonly name: string;
  readonly identity: string;
  readonly #entries: Map<string, ZipFile>;
  #kept: [string, Promise<Uint8Array<ArrayBuffer>>][] = [];

  private constructor(name: string, entries: Map<string, ZipFile>) {
    this.name = name.replace(/\.zip$/i, "");
    this.#entries = entries;
    this.identity = `zip:${this.name}:${[...entries.values()].reduce((sum, { size }) => sum + size, 0)}`;
  }

  /** A folder that holds all the rest is taken off. Throws `BadInput` for damaged archives. */
  static async open(name: string, blob: Blob): Promise<ZipFileSet> {
    const files = await openZip(blob, name);
    const root = /^[^/]+\//.exec(files[0]?.path ?? "")?.[0] ?? "";
    const isShared =
      root !== "" && files.every(({ path }) => path.startsWith(root)) && !/^(shards|texts)\/$/.test(root);
    const cut = isShared ? root.length : 0;
    return new ZipFileSet(name, new Map(files.map((file) => [file.path.slice(cut), file])));
  }

  describe(): string {
    return `archive “${this.name}”`;
  }
  async list(): Promise<FileEntry[]> {
    return Array.from(this.#entries, ([path, { size }]) => ({ path, size }));
  }
  async has(path: string): Promise<boolean> {
    return this.#entries.has(path);
  }
  async size(path: string): Promise<number> {
    return this.#get(path).size;
  }

  async read(path: string, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const { size } = this.#get(path);
    if (offset < 0 || length < 0 || offset + length > size) {
      throw new TabTuneError("BadCheckpoint", `${path}: asked for bytes ${offset} to ${offset + length} of ${size}.`);
    }
    return (await this.#unpacked(path, signal)).slice(offset, offset + length);
  }

  async text(path: string, signal?: AbortSignal): Promise<string> {
    return new TextDecoder().decode(await this.#unpacked(path, signal));
  }

  #get(path: string): ZipFile {
    const file = this.#entries.get(path);
    if (!file) throw new TabTuneError("NotFound", `${this.describe()} has no file ${path}.`);
    return file;
  }

  #unpacked(path: string, signal: AbortSignal | undefined): Promise<Uint8Array<ArrayBuffer>> {
    const known = this.#kept.find(([kept]) => kept === path);
    if (known) return known[1];
    const bytes = this.#get(path).read(signal);
    this.#kept = [...this.#kept.slice(1 - KEPT), [path, bytes]];
    bytes.catch(() => {
      this.#kept = this.#kept.filter(([kept]) => kept !== path);
    });
    return bytes;
  }
}
