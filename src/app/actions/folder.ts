import type { ModelSource } from "../../api/index.ts";

type FolderSource = Extract<ModelSource, { kind: "files" }>;

/** The folder of `<input webkitdirectory>`: paths begin with the folder's own name, which is cut off. */
export function folderOfInput(files: FileList): FolderSource | undefined {
  const list = [...files];
  const name = list[0]?.webkitRelativePath.split("/")[0];
  if (list.length === 0) return undefined;
  const path = (file: File) => file.webkitRelativePath.split("/").slice(1).join("/") || file.name;
  return {
    kind: "files",
    name: name || (list.length === 1 ? list[0]!.name : "folder"),
    files: list.map((file) => ({ path: path(file), file })),
  };
}

/** A dropped folder, or loose files that were dropped together. */
export async function folderOfDrop(data: DataTransfer): Promise<FolderSource | undefined> {
  // The list of a drop event is gone after the first pause: entries are taken at once.
  const entries = [...data.items].flatMap((item) => item.webkitGetAsEntry?.() ?? []);
  const files: FolderSource["files"] = [];
  const only = entries.length === 1 && entries[0]!.isDirectory ? entries[0]! : undefined;
  for (const entry of entries) await walk(entry, only ? "" : entry.name, files);
  if (files.length === 0) return undefined;
  return { kind: "files", name: only?.name ?? "dropped files", files };
}

async function walk(entry: FileSystemEntry, path: string, into: FolderSource["files"]): Promise<void> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    into.push({ path: path || entry.name, file });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // At most a hundred entries come at a time.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const child of some) await walk(child, path ? `${path}/${child.name}` : child.name, into);
  }
}

/**
 * `owner/name`, a revision and a GGUF or ONNX file, from a name or a link to a page of the Hub; undefined when it is neither.
 */
export function parseHubName(text: string): Omit<Extract<ModelSource, { kind: "hub" }>, "kind"> | undefined {
  const clean = text
    .trim()
    .replace(/[?#].*$/, "")
    .replace(/\/+$/, "");
  const link = clean.match(/^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)\/(.+)$/);
  const path = link ? link[1]! : clean;
  const match = path.match(/^([\w.-]+)\/([\w.-]+)(?:\/(?:tree|blob|resolve)\/([^/]+)(?:\/(.*))?)?$/);
  if (!match || (!link && path.includes("://"))) return undefined;
  const [, owner, name, revision, file] = match;
  return {
    repo: `${owner}/${name}`,
    ...(revision ? { revision: decodeURIComponent(revision) } : {}),
    ...(file && /\.(gguf|onnx)$/i.test(file) ? { gguf: { language: decodeURIComponent(file) } } : {}),
  };
}
