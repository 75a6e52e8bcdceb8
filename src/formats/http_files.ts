import { TabTuneError } from "../errors.ts";
import type { FileEntry, FileSet } from "./file_set.ts";
import { DEFAULT_CLIENT, fetchRange, fetchWhole, type HttpClient } from "./http_range.ts";

const MAX_TEXT_BYTES = 64 << 20;
/** A server without range support must send a weight file whole, and it is then kept in memory: only small ones. */
const MAX_WHOLE_BYTES = 128 << 20;
/** Asked for when a file is first met: its size comes with it, and most small files and headers are then already there. */
const FIRST_BYTES = 1 << 18;

export interface HttpOptions {
  name?: string;
  identity?: string;
  description?: string;
  licence?: string;
  /** The files, when another source has told them; nothing else is then asked for. */
  listing?: FileEntry[];
  /** Names of the only files there are, when no listing tells sizes: spares a request (and a 404) for each optional file. */
  only?: string[];
  client?: Partial<HttpClient>;
}

interface KnownFile {
  size: number;
  /** Its version as the server calls it; not kept where a hash tells versions apart, since mirrors of one file may call it differently. */
  tag: string | undefined;
  /** The first bytes, or the whole file where the server ignores ranges. */
  head: Uint8Array<ArrayBuffer>;
}

/** A folder behind an HTTP(S) base, read with range requests. */
export class HttpFileSet implements FileSet {
  readonly name: string;
  readonly identity: string;
  readonly licence?: string;
  private readonly base: string;
  private readonly description: string;
  private readonly listing: Map<string, FileEntry> | undefined;
  private readonly only: Set<string> | undefined;
  private readonly client: HttpClient;
  private readonly known = new Map<string, Promise<KnownFile | undefined>>();

  constructor(base: string, options: HttpOptions = {}) {
    this.base = base.endsWith("/") ? base : `${base}/`;
    if (!/^https?:$/.test(parseUrl(this.base).protocol)) {
      throw new TabTuneError("BadInput", `Expected an address that begins with https:// or http://, found ${base}.`);
    }
    this.name = options.name ?? decodeURIComponent(this.base.replace(/\/$/, "").split("/").pop() ?? this.base);
    this.identity = options.identity ?? `url:${this.base}`;
    this.description = options.description ?? this.base;
    if (options.licence !== undefined) this.licence = options.licence;
    this.listing = options.listing && new Map(options.listing.map((entry) => [entry.path, entry]));
    const only = options.only ?? options.listing?.map(({ path }) => path);
    this.only = only && new Set(only);
    this.client = { ...DEFAULT_CLIENT, ...options.client };
  }

  describe(): string {
    return this.description;
  }

  async list(): Promise<FileEntry[] | undefined> {
    return this.listing && [...this.listing.values()];
  }

  async has(path: string, signal?: AbortSignal): Promise<boolean> {
    return this.only ? this.only.has(path) : (await this.probe(path, signal)) !== undefined;
  }

  async size(path: string, signal?: AbortSignal): Promise<number> {
    return (await this.found(path, signal)).size;
  }

  async read(path: string, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const file = await this.found(path, signal);
    if (offset < 0 || length < 0 || offset + length > file.size) {
      throw new TabTuneError(
        "BadCheckpoint",
        `${path}: asked for bytes ${offset} to ${offset + length}, but the file has ${file.size}. It is truncated at its source.`,
      );
    }
    if (offset + length <= file.head.length) return file.head.slice(offset, offset + length);
    const answer = await fetchRange(this.client, this.url(path), offset, length, 0, signal);
    if (answer.kind === "part" && answer.bytes.length === length && (answer.total ?? file.size) === file.size) {
      if (file.tag === undefined || (answer.tag ?? file.tag) === file.tag) return answer.bytes;
      throw new TabTuneError(
        "Network",
        `${path}: the file was replaced on the server while it was read (ETag ${file.tag}, now ${answer.tag}). Start again.`,
      );
    }
    throw new TabTuneError(
      "Network",
      `${path}: the server first offered ${file.size} bytes in ranges and now does not (${answer.kind}). The file may have been replaced; start again.`,
    );
  }

  async text(path: string, signal?: AbortSignal): Promise<string> {
    const { size, head } = await this.found(path, signal);
    if (size > MAX_TEXT_BYTES) {
      throw new TabTuneError(
        "BadCheckpoint",
        `${path}: expected a text of at most ${MAX_TEXT_BYTES} bytes, found ${size}.`,
      );
    }
    const whole = head.length === size;
    const bytes = whole ? head : (await fetchWhole(this.client, this.url(path), MAX_TEXT_BYTES, signal)).bytes;
    if (!bytes) throw this.missing(path);
    await checkWhole(path, bytes, this.listing?.get(path));
    return new TextDecoder().decode(bytes);
  }

  private url(path: string): string {
    return this.base + path.split("/").map(encodeURIComponent).join("/");
  }

  private async found(path: string, signal?: AbortSignal): Promise<KnownFile> {
    const file = await this.probe(path, signal);
    if (!file) throw this.missing(path);
    return file;
  }

  private missing(path: string): TabTuneError {
    return new TabTuneError("NotFound", `${this.describe()} has no file ${path}. Check the address.`);
  }

  private probe(path: string, signal?: AbortSignal): Promise<KnownFile | undefined> {
    let promise = this.known.get(path);
    if (!promise) {
      promise = this.probeOnce(path, signal);
      this.known.set(path, promise);
      // A failure (a cancelled request, say) must not stick.
      promise.catch(() => this.known.delete(path));
    }
    return promise;
  }

  private async probeOnce(path: string, signal?: AbortSignal): Promise<KnownFile | undefined> {
    if (this.only && !this.only.has(path)) return undefined;
    const url = this.url(path);
    const answer = await fetchRange(this.client, url, 0, FIRST_BYTES, MAX_WHOLE_BYTES, signal);
    if (answer.kind === "missing") return undefined;
    const listed = this.listing?.get(path);
    if (answer.kind === "beyond") return { size: 0, head: new Uint8Array(0), tag: undefined };
    if (answer.kind === "part") {
      const size = answer.total ?? listed?.size;
      if (size !== undefined && listed && size !== listed.size) {
        throw new TabTuneError(
          "Network",
          `${path}: the list of files says ${listed.size} bytes, the server has ${size}. Start again; if that stays, the source is damaged.`,
        );
      }
      if (size !== undefined) return { size, head: answer.bytes, tag: listed?.sha256 ? undefined : answer.tag };
      throw new TabTuneError(
        "Network",
        `${url}: the server hides Content-Range from this page. It must send "Access-Control-Expose-Headers: Content-Range".`,
      );
    }
    if (answer.bytes) return { size: answer.bytes.length, head: answer.bytes, tag: undefined };
    throw new TabTuneError(
      "Network",
      `${url}: the server ignores range requests and the file has ${answer.length} bytes. Use a server that answers them (status 206), or import a local folder.`,
    );
  }
}

/** Throws `Network` when the bytes of a whole small file are not those that the list of files names. */
async function checkWhole(path: string, bytes: Uint8Array<ArrayBuffer>, listed: FileEntry | undefined): Promise<void> {
  const { sha256, gitSha1 } = listed ?? {};
  if (sha256 === undefined && gitSha1 === undefined) return;
  const head = new TextEncoder().encode(`blob ${bytes.length}\0`);
  const [kind, data] = sha256 === undefined ? ["SHA-1", concat(head, bytes)] : ["SHA-256", bytes];
  const digest = new Uint8Array(await crypto.subtle.digest(kind as string, data as Uint8Array<ArrayBuffer>));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const expected = sha256 ?? gitSha1!;
  if (found === expected) return;
  throw new TabTuneError(
    "Network",
    `${path}: expected ${kind} ${expected.slice(0, 12)}…, found ${found.slice(0, 12)}…. The server sends another file than its list names: start again, or use another mirror.`,
  );
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

function parseUrl(text: string): URL {
  try {
    return new URL(text);
  } catch (cause) {
    throw new TabTuneError("BadInput", `Expected an address such as https://example.org/model/, found ${text}.`, {
      cause,
    });
  }
}
