import { TabTuneError, throwIfCancelled } from "../errors.ts";
import { PACKED_INDEX, packIndex } from "../formats/index.ts";
import { openModel } from "./import_models.ts";
import { inlineReader } from "./read_shards.ts";

export interface ExportedFile {
  path: string;
  data: string | Uint8Array<ArrayBuffer>;
}

/**
 * A stored model in our own form, file by file: at most one shard is in memory if the caller lets go of each. Every shard is compared with
 * its hash first, and the list comes last, so that half an export does not look whole. Throws `NotFound`, `DamagedShard`, `Cancelled`.
 */
export async function* exportFiles(
  id: string,
  options: { signal?: AbortSignal; onProgress?: (bytesDone: number, bytesTotal: number) => void } = {},
): AsyncGenerator<ExportedFile> {
  const manifest = await openModel(id);
  const { index, texts } = await packIndex(manifest);
  let done = 0;
  for (const [i, shard] of manifest.shards.entries()) {
    throwIfCancelled(options.signal);
    const { bytes, fault } = await inlineReader.read(id, i, shard);
    if (!bytes) {
      throw new TabTuneError(
        "DamagedShard",
        `Part ${i + 1} of ${manifest.name} is damaged (${fault}), so it is not handed on. Mend the model, then export it again.`,
      );
    }
    yield { path: index.shards[i]!.path, data: bytes };
    done += shard.bytes;
    options.onProgress?.(done, manifest.bytesTotal);
  }
  for (const [path, data] of texts) yield { path, data };
  yield { path: PACKED_INDEX, data: JSON.stringify(index) };
}
