import { TabTuneError, throwIfCancelled } from "../errors.ts";
import type { FileEntry, FileSet } from "./file_set.ts";

const MAX_TEXT_BYTES = 64 << 20;

/**
 * A picked or dropped folder. Paths are relative to the folder; a first component that all share (what a browser's folder
 * picker writes) is taken off. Where config.json lies in one subfolder only, that is taken as the root.
 */
export class BlobFileSet implements FileSet {
  readonly name: string;
  readonly identity: string;
  private readonly files: Map<string, Blob>;

  constructor(name: string, files: { path: string; file: Blob }[]) {
    const root = findRoot(files.map(({ path }) => clean(path)));
    this.files = new Map();
    for (const { path, file } of files) {
      const key = clean(path);
      if (key.startsWith(root)) this.files.set(key.slice(root.length), file);
    }
    this.name = name || root.replace(/\/$/, "") || "folder";
    // Many folders are called "model": the size of the weights tells them apart.
    const weights = [...this.files].filter(([path]) =>
      /\.(safetensors|gguf|bin|onnx|onnx[._]data(_\d+)?)$/i.test(path),
    );
    this.identity = `files:${this.name}:${weights.reduce((sum, [, file]) => sum + file.size, 0)}`;
  }

  describe(): string {
    return `folder “${this.name}”`;
  }

  async list(): Promise<FileEntry[]> {
    return Array.from(this.files, ([path, file]) => ({ path, size: file.size }));
  }

  async has(path: string): Promise<boolean> {
    return this.files.has(path);
  }

  async size(path: string): Promise<number> {
    return this.get(path).size;
  }

  async read(path: string, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    throwIfCancelled(signal);
    const file = this.get(path);
    if (offset < 0 || length < 0 || offset + length > file.size) {
      throw new TabTuneError(
        "BadCheckpoint",
        `${path}: asked for bytes ${offset} to ${offset + length}, but the file has ${file.size}. It is truncated; download it again.`,
      );
    }
    try {
      const bytes = new Uint8Array(await file.slice(offset, offset + length).arrayBuffer());
      throwIfCancelled(signal);
      if (bytes.length === length) return bytes;
    } catch (cause) {
      throwIfCancelled(signal);
      throw new TabTuneError(
        "NotFound",
        `${path} can no longer be read; was it moved or changed? Choose the folder again.`,
        {
          cause,
        },
      );
    }
    throw new TabTuneError("NotFound", `${path} became shorter while it was read. Choose the folder again.`);
  }

  async text(path: string, signal?: AbortSignal): Promise<string> {
    const size = this.get(path).size;
    if (size > MAX_TEXT_BYTES) {
      throw new TabTuneError(
        "BadCheckpoint",
        `${path}: expected a text of at most ${MAX_TEXT_BYTES} bytes, found ${size}.`,
      );
    }
    return new TextDecoder().decode(await this.read(path, 0, size, signal));
  }

  private get(path: string): Blob {
    const file = this.files.get(path);
    if (!file) throw new TabTuneError("NotFound", `${this.describe()} has no file ${path}.`);
    return file;
  }
}

function clean(path: string): string {
  return path.replaceAll("\\", "/").replace(/^(\.?\/)+/, "");
}

/** The shallowest folder that holds a config.json or a tabtune.json, as a prefix with its slash; empty when there is none. */
function findRoot(paths: string[]): string {
  const depth = (path: string) => path.split("/").length;
  const configs = paths.filter((path) => /(^|\/)(config|tabtune)\.json$/.test(path));
  configs.sort((a, b) => depth(a) - depth(b) || (a < b ? -1 : 1));
  return configs[0]?.replace(/[^/]*$/, "") ?? "";
}
