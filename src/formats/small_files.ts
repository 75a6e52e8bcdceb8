import type { FileEntry, FileSet } from "./file_set.ts";

/** A place whose weight files stand for a Hugging Face folder: small files made of them are beside what is really there. */
export class WithSmallFiles implements FileSet {
  readonly name: string;
  readonly identity: string;
  readonly licence?: string;
  #files: FileSet;
  #own: ReadonlyMap<string, Uint8Array>;
  #defaults: ReadonlyMap<string, Uint8Array>;

  /**
   * @param weights the files that are read: other ones of the same place make another model
   * @param own small files that count whatever lies beside the weights
   * @param defaults small files that count where the place has none of that name
   */
  constructor(
    files: FileSet,
    weights: readonly string[],
    own: Readonly<Record<string, string>>,
    defaults: Readonly<Record<string, string>>,
    licence?: string,
  ) {
    this.#files = files;
    this.name = files.name;
    this.identity = `${files.identity}#${weights.join("+")}`;
    if (licence !== undefined) this.licence = licence;
    this.#own = encoded(own);
    this.#defaults = encoded(defaults);
  }

  describe(): string {
    return this.#files.describe();
  }

  async #made(path: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const own = this.#own.get(path);
    if (own) return own;
    const standIn = this.#defaults.get(path);
    if (!standIn || (await this.#files.has(path, signal))) return undefined;
    // Settings for pictures may also be written in processor_config.json.
    const isSaid = path === "preprocessor_config.json" && (await this.#files.has("processor_config.json", signal));
    return isSaid ? undefined : standIn;
  }

  async list(signal?: AbortSignal): Promise<FileEntry[] | undefined> {
    return await this.#files.list(signal);
  }

  async has(path: string, signal?: AbortSignal): Promise<boolean> {
    return (await this.#made(path, signal)) !== undefined || (await this.#files.has(path, signal));
  }

  async size(path: string, signal?: AbortSignal): Promise<number> {
    return (await this.#made(path, signal))?.length ?? (await this.#files.size(path, signal));
  }

  async read(path: string, offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const made = await this.#made(path, signal);
    return made ? made.slice(offset, offset + length) : await this.#files.read(path, offset, length, signal);
  }

  async text(path: string, signal?: AbortSignal): Promise<string> {
    const made = await this.#made(path, signal);
    return made ? new TextDecoder().decode(made) : await this.#files.text(path, signal);
  }
}

function encoded(texts: Readonly<Record<string, string>>): Map<string, Uint8Array> {
  return new Map(Object.entries(texts).map(([path, text]) => [path, new TextEncoder().encode(text)]));
}
