import { type FileToZip, writeZip } from "../../formats/index.ts";
import { type Dataset, partsOf } from "./dataset.ts";
import type { DataRow } from "./row.ts";

/** A picture's bytes by hash. */
export type LoadPicture = (id: string) => Promise<Blob>;

/** What the file of a part is called; reading the archive again finds the split from it. */
const FILES = { train: "train.jsonl", heldBack: "test.jsonl" } as const;

/** Rows of an exported file: TRL's form, pictures by path. */
function exportRow(row: DataRow, pathOf: (pictureId: string) => string): Record<string, unknown> {
  return {
    messages: row.messages.map(({ role, parts }) => ({
      role,
      content: parts.map((part) =>
        part.type === "text" ? { type: "text", text: part.text } : { type: "image", image: pathOf(part.pictureId) },
      ),
    })),
  };
}

/** A zip of train.jsonl, test.jsonl (where rows are held back) and pictures/, which this page and TRL can read. */
export async function exportDataset(dataset: Dataset, load: LoadPicture, more: FileToZip[] = []): Promise<Blob> {
  const parts = partsOf(dataset);
  async function* files(): AsyncGenerator<FileToZip> {
    const paths = new Map<string, string>();
    for (const part of ["train", "heldBack"] as const) {
      const rows = dataset.rows.filter((_, i) => parts[i] === part);
      for (const row of rows) {
        for (const { parts: pieces } of row.messages) {
          for (const piece of pieces) {
            if (piece.type !== "image" || paths.has(piece.pictureId)) continue;
            const blob = await load(piece.pictureId);
            const path = `pictures/${piece.pictureId.slice(0, 16)}${ending(blob.type)}`;
            paths.set(piece.pictureId, path);
            yield { path, data: blob };
          }
        }
      }
      const lines = rows.map((row) => `${JSON.stringify(exportRow(row, (id) => paths.get(id)!))}\n`);
      if (rows.length > 0) yield { path: FILES[part], data: lines.join("") };
    }
    yield* more;
  }
  return await writeZip(files());
}

function ending(type: string): string {
  const known: Record<string, string> = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
  };
  return known[type] ?? ".png";
}
