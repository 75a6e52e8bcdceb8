import { TabTuneError, throwIfCancelled } from "../errors.ts";
import type { FileEntry, FileSet } from "./file_set.ts";
import { ForwardedFiles } from "./forwarded_files.ts";
import { type HashState, hashHex } from "./source_hash.ts";

const HELD_BYTES = 64 << 20;
/** Bytes of one read of what nobody else has asked for. */
const GAP_BYTES = 8 << 20;
/** A hole of this size, such as a file's header, is fetched rather than waited for. */
const SMALL_GAP_BYTES = 1 << 20;

/** Computes the state after more bytes, in another worker perhaps. The bytes are its own. */
export type Hasher = (state: HashState | undefined, bytes: Uint8Array<ArrayBuffer>) => Promise<HashState>;

/**
 * Files whose bytes are hashed on their way through, so that whole files can be compared with the SHA-256 that their source names
 * without reading them twice. A hash needs the bytes from front to back: reads that come early are held back, and bytes that nobody
 * reads (or that were read before an interruption and not yet hashed) are fetched for the hash alone.
 */
export class VerifiedFiles extends ForwardedFiles {
  readonly #heldBytes: number;
  #hash: Hasher | undefined;
  #files = new Map<string, FileHash>();

  /** @param heldBytes of each file that may wait in memory for what comes before them */
  constructor(inner: FileSet, heldBytes = HELD_BYTES) {
    super(inner);
    this.#heldBytes = heldBytes;
  }

  async read(path: string, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await this.inner.read(path, offset, length, signal);
    if (this.#hash) await this.#files.get(path)?.take(offset, bytes, signal);
    return bytes;
  }

  /**
   * From now on reads of these files are hashed, where the source names a SHA-256; `saved` goes on where an earlier import stopped.
   * Returns the paths that are compared.
   */
  async start(paths: Iterable<string>, hash: Hasher, saved: Record<string, HashState> = {}): Promise<string[]> {
    this.#hash = hash;
    this.#files.clear();
    const listing = new Map((await this.inner.list())?.map((entry) => [entry.path, entry]));
    for (const path of new Set(paths)) {
      const entry = listing.get(path);
      if (entry?.sha256 === undefined) continue;
      this.#files.set(path, new FileHash(this.inner, entry, hash, this.#heldBytes, saved[path]));
    }
    return [...this.#files.keys()];
  }

  /** Waits for the hashes of what has been read, and returns their states for a later `start`. */
  async settle(signal?: AbortSignal): Promise<Record<string, HashState>> {
    const states: Record<string, HashState> = {};
    for (const [path, file] of this.#files) {
      const state = await file.settle(signal);
      if (state) states[path] = state;
    }
    return states;
  }

  /** Reads what is missing of every file and compares. Throws `BadCheckpoint` that names the file. */
  async finish(signal?: AbortSignal): Promise<void> {
    for (const file of this.#files.values()) await file.finish(signal);
    this.stop();
  }

  stop(): void {
    this.#hash = undefined;
    this.#files.clear();
  }
}

/** The hash of one file, taken from pieces in any order. */
class FileHash {
  #files: FileSet;
  #entry: FileEntry;
  #hash: Hasher;
  #most: number;
  #state: HashState | undefined;
  /** Every byte before this has been handed to the hash. */
  #position: number;
  /** Pieces beyond the position, by offset, the first to come first; `since` is the position when a piece came. */
  #held = new Map<number, { bytes: Uint8Array<ArrayBuffer>; since: number }>();
  #heldBytes = 0;
  #turn: Promise<void> = Promise.resolve();

  constructor(files: FileSet, entry: FileEntry, hash: Hasher, most: number, saved: HashState | undefined) {
    this.#most = most;
    this.#files = files;
    this.#entry = entry;
    this.#hash = hash;
    this.#state = saved;
    this.#position = saved?.bytesHashed ?? 0;
  }

  /** Resolves when there is room again for what is held back. */
  async take(offset: number, bytes: Uint8Array<ArrayBuffer>, signal: AbortSignal | undefined): Promise<void> {
    if (offset + bytes.length <= this.#position) return;
    // The bytes belong to the reader, who may hand them on to another worker.
    const before = this.#held.get(offset);
    if (before && before.bytes.length >= bytes.length) return;
    this.#held.set(offset, { bytes: bytes.slice(), since: before?.since ?? this.#position });
    this.#heldBytes += bytes.length - (before?.bytes.length ?? 0);
    const turn = this.#inTurn(async () => {
      await this.#advance(() => false, signal);
      this.#forget();
      await this.#advance(() => this.#heldBytes > this.#most, signal);
    });
    // Memory stays bounded: a reader that is ahead of the hash by more than this waits for it.
    if (this.#heldBytes > this.#most) await turn;
    else turn.catch(() => undefined);
  }

  /**
   * A hash that stands still misses a hole, which is fetched. One that went on far while the oldest piece waited misses what comes anyway:
   * a file keeps scales behind all codes. What lies farthest is then forgotten and read once more at the end.
   */
  #forget(): void {
    const [oldest] = this.#held.values();
    if (!oldest || this.#position - oldest.since < 2 * this.#heldBytes) return;
    for (const offset of [...this.#held.keys()].sort((a, b) => b - a)) {
      if (this.#heldBytes <= this.#most) return;
      this.#heldBytes -= this.#held.get(offset)!.bytes.length;
      this.#held.delete(offset);
    }
  }

  async settle(signal: AbortSignal | undefined): Promise<HashState | undefined> {
    const isSmall = () => this.#held.size > 0 && Math.min(...this.#held.keys()) - this.#position <= SMALL_GAP_BYTES;
    await this.#inTurn(() => this.#advance(isSmall, signal));
    return this.#state;
  }

  async finish(signal: AbortSignal | undefined): Promise<void> {
    await this.#inTurn(() => this.#advance(() => this.#position < this.#entry.size, signal));
    const found = hashHex(this.#state);
    const { path, sha256 = "" } = this.#entry;
    if (found === sha256) return;
    throw new TabTuneError(
      "BadCheckpoint",
      `${path}: expected SHA-256 ${sha256.slice(0, 12)}… as ${this.#files.describe()} lists it, found ${found.slice(0, 12)}…. The server sent wrong bytes: nothing of them is kept; import again, or use another mirror.`,
    );
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const job = this.#turn.then(work, work);
    this.#turn = job.catch(() => undefined);
    return job;
  }

  /** Hashes what lies at the position, and fetches what is missing there for as long as `fetches` says so. */
  async #advance(fetches: () => boolean, signal: AbortSignal | undefined): Promise<void> {
    for (;;) {
      const piece = this.#next();
      if (piece) {
        await this.#add(piece);
      } else if (fetches()) {
        throwIfCancelled(signal);
        const end = Math.min(this.#entry.size, ...this.#held.keys(), this.#position + GAP_BYTES);
        await this.#add(await this.#files.read(this.#entry.path, this.#position, end - this.#position, signal));
      } else return;
    }
  }

  async #add(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { length } = bytes;
    this.#state = await this.#hash(this.#state, bytes);
    this.#position += length;
  }

  /** Takes a held piece that covers the position, cut to begin there; drops those that lie before it. */
  #next(): Uint8Array<ArrayBuffer> | undefined {
    for (const [offset, { bytes }] of this.#held) {
      if (offset > this.#position) continue;
      this.#held.delete(offset);
      this.#heldBytes -= bytes.length;
      if (offset === this.#position) return bytes;
      if (offset + bytes.length > this.#position) return bytes.slice(this.#position - offset);
    }
    return undefined;
  }
}
