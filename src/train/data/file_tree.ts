import { TabTuneError, throwIfCancelled } from "../../errors.ts";
import { openZip } from "../../formats/index.ts";

/** A file that was dropped, or lies in an archive that was. */
export interface DataFile {
  /** With forward slashes; an archive's own name is no part of it. */
  path: string;
  size: number;
  blob(signal?: AbortSignal): Promise<Blob>;
}

const isJunk = (path: string) => /(^|\/)(__MACOSX|\.[^/]+|Thumbs\.db|desktop\.ini)(\/|$)/.test(path);

/** Everything that was dropped, archives opened, with a look-up for the pictures that tables name. */
export class FileTree {
  readonly files: readonly DataFile[];
  #byName = new Map<string, DataFile[]>();

  private constructor(files: DataFile[]) {
    this.files = files;
    for (const file of files) {
      const name = baseName(file.path).toLowerCase();
      const same = this.#byName.get(name);
      if (same) same.push(file);
      else this.#byName.set(name, [file]);
    }
  }

  /** Throws `BadInput` for an archive that cannot be read, `Cancelled`. */
  static async open(dropped: readonly { path: string; file: Blob }[], signal?: AbortSignal): Promise<FileTree> {
    const files: DataFile[] = [];
    for (const { path, file } of dropped) {
      throwIfCancelled(signal);
      const clean = normal(path);
      if (isJunk(clean)) continue;
      if (!(await isZip(clean, file))) {
        files.push({ path: clean, size: file.size, blob: async () => file });
        continue;
      }
      const folder = clean.slice(0, -baseName(clean).length);
      for (const entry of await openZip(file, clean)) {
        const inside = folder + normal(entry.path);
        if (isJunk(inside)) continue;
        files.push({
          path: inside,
          size: entry.size,
          blob: async (cancel) => new Blob([await entry.read(cancel)]),
        });
      }
    }
    if (files.length === 0)
      throw new TabTuneError("BadInput", "Nothing was found in what was dropped: it holds no files.");
    return new FileTree(files);
  }

  /**
   * The file that a table means by a path: beside the table or from the top; else the one whose path ends alike, nearest to the table
   * (paths of another computer, bare names as in ChartQA). Says "several" where that does not tell; a wrong picture would be worse than
   * a missing one. `exact` is false when a folder in the path had to be ignored.
   */
  find(reference: string, table: string): { file: DataFile; exact: boolean } | "several" | undefined {
    return this.#find(normal(reference), table) ?? this.#find(normal(decode(reference)), table);
  }

  #find(wanted: string, table: string): { file: DataFile; exact: boolean } | "several" | undefined {
    const named = this.#byName.get(baseName(wanted).toLowerCase()) ?? [];
    const folder = table.slice(0, -baseName(table).length);
    for (const path of [folder + wanted, wanted]) {
      const file = named.find((f) => f.path === path);
      if (file) return { file, exact: true };
    }
    const parts = wanted.split("/");
    const scored = named.map((file) => {
      const own = file.path.split("/");
      return { file, tail: commonTail(own, parts), near: commonHead(own, folder.split("/")) };
    });
    scored.sort((a, b) => b.tail - a.tail || b.near - a.near);
    const [best, next] = scored;
    if (!best) return undefined;
    if (next && next.tail === best.tail && next.near === best.near) return "several";
    return { file: best.file, exact: best.tail === parts.length };
  }
}

export function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Forward slashes, no ".", no "..", no leading slash. */
function normal(path: string): string {
  const out: string[] = [];
  for (const part of path.replaceAll("\\", "/").split("/")) {
    if (part === "..") out.pop();
    else if (part !== "" && part !== ".") out.push(part);
  }
  return out.join("/");
}

function decode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

async function isZip(path: string, file: Blob): Promise<boolean> {
  if (/\.(parquet|docx|xlsx|pptx|odt)$/i.test(path)) return false;
  const magic = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  return magic[0] === 0x50 && magic[1] === 0x4b && (magic[2] === 3 || magic[2] === 5);
}

function commonTail(a: string[], b: string[]): number {
  let n = 0;
  while (n < a.length && n < b.length && a.at(-1 - n)!.toLowerCase() === b.at(-1 - n)!.toLowerCase()) n++;
  return n;
}

function commonHead(a: string[], b: string[]): number {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
}
