import type { ByteRange } from "./file_set.ts";
import { ForwardedFiles } from "./forwarded_files.ts";

/** Ranges at most this long are worth a request together with their neighbours. */
const SMALL_BYTES = 1 << 20;
/** Unwanted bytes between two of them that cost less than another request. */
const GAP_BYTES = 256 << 10;
const WINDOW_BYTES = 8 << 20;
/** Windows in memory at once. */
const WINDOWS = 4;

interface Window extends ByteRange {
  /** Wanted bytes that have not been asked for yet. */
  left: number;
  data?: Promise<Uint8Array<ArrayBuffer>> | undefined;
}

/** Small neighbours as ranges of one request each, in order of file and offset. @internal */
export function mergeRanges(ranges: readonly ByteRange[]): (ByteRange & { left: number })[] {
  const windows: Window[] = [];
  const small = ranges.filter(({ bytes }) => bytes > 0 && bytes <= SMALL_BYTES);
  small.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : a.offset - b.offset));
  for (const { path, offset, bytes } of small) {
    const last = windows.at(-1);
    const end = offset + bytes;
    const joins =
      last?.path === path && offset - (last.offset + last.bytes) <= GAP_BYTES && end - last.offset <= WINDOW_BYTES;
    if (!joins) windows.push({ path, offset, bytes, left: bytes });
    else {
      last.bytes = Math.max(last.bytes, end - last.offset);
      last.left += bytes;
    }
  }
  return windows;
}

/** Files behind a network: hundreds of small tensors that lie side by side come in a few requests. */
export class MergedFiles extends ForwardedFiles {
  #windows: Window[] = [];
  #loaded: Window[] = [];

  /** What will be read, each range once. */
  expect(ranges: readonly ByteRange[]): void {
    this.#windows = mergeRanges(ranges);
  }

  async read(path: string, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const window = this.#windows.find(
      (w) => w.path === path && offset >= w.offset && offset + length <= w.offset + w.bytes,
    );
    if (!window || length === window.bytes) return await this.inner.read(path, offset, length, signal);
    window.data ??= this.#load(window, signal);
    const bytes = await window.data;
    window.left -= length;
    if (window.left <= 0) this.#drop(window);
    return bytes.slice(offset - window.offset, offset - window.offset + length);
  }

  #load(window: Window, signal: AbortSignal | undefined): Promise<Uint8Array<ArrayBuffer>> {
    this.#loaded.push(window);
    if (this.#loaded.length > WINDOWS) this.#drop(this.#loaded[0]!);
    const data = this.inner.read(window.path, window.offset, window.bytes, signal);
    // A failure (a cancel, say) must not stick.
    data.catch(() => this.#drop(window));
    return data;
  }

  #drop(window: Window): void {
    window.data = undefined;
    this.#loaded = this.#loaded.filter((other) => other !== window);
  }
}
