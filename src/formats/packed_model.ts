import { TabTuneError } from "../errors.ts";
import type { FileSet } from "./file_set.ts";
import { sha256Hex } from "./fingerprint.ts";
import { parseJson } from "./json.ts";
import { MANIFEST_VERSION, type ModelManifest, type ShardChunk } from "./manifest.ts";
import { GROUPED_SCHEMES, rowLayout, type SlotScheme, type WeightSlot } from "./weight_slot.ts";

/*
 * A model in our own form as a folder: shards as they are stored, the small files, and a list of all of it with their SHA-256. One person
 * converts a checkpoint, others just open the result.
 *
 *   tabtune.json          PackedIndex; written last
 *   shards/00000.bin …    at most 32 MiB each
 *   texts/tokenizer.json …
 */

export const PACKED_INDEX = "tabtune.json";
const FORMAT = "tabtune-model";
const MAX_SHARDS = 4096;
const SCHEMES = new Set<SlotScheme>([...GROUPED_SCHEMES, "bf16", "f32"]);

interface PackedFile {
  path: string;
  bytes: number;
  sha256: string;
}

type Kept = "name" | "source" | "sourceFingerprint" | "licence" | "config" | "scheme" | "slots" | "parameters";

/** What tabtune.json holds. */
export interface PackedIndex extends Pick<ModelManifest, Kept> {
  format: typeof FORMAT;
  /** The layout of the shards; another version's are not read. */
  version: number;
  shards: (PackedFile & { chunks: ShardChunk[] })[];
  texts: PackedFile[];
}

const shardPath = (index: number) => `shards/${String(index).padStart(5, "0")}.bin`;
const textPath = (name: string) => `texts/${name}`;

/** The list of a complete model, and its small files. */
export async function packIndex(manifest: ModelManifest): Promise<{ index: PackedIndex; texts: [string, string][] }> {
  const texts = Object.entries(manifest.texts).map(([name, text]): [string, string] => [textPath(name), text]);
  const { name, source, sourceFingerprint, licence, config, scheme, slots, parameters } = manifest;
  const index: PackedIndex = {
    ...{
      format: FORMAT,
      version: MANIFEST_VERSION,
      name,
      source,
      sourceFingerprint,
      config,
      scheme,
      slots,
      parameters,
    },
    ...(licence === undefined ? {} : { licence }),
    shards: manifest.shards.map(({ bytes, sha256, chunks }, i) => ({ path: shardPath(i), bytes, sha256, chunks })),
    texts: [],
  };
  for (const [path, text] of texts) {
    const bytes = new TextEncoder().encode(text);
    index.texts.push({ path, bytes: bytes.length, sha256: await sha256Hex(bytes) });
  }
  return { index, texts };
}

/** Reads and checks tabtune.json. Throws `BadCheckpoint` for anything that does not fit together. */
export async function readPackedIndex(files: FileSet, signal?: AbortSignal): Promise<PackedIndex> {
  const found = parseJson(await files.text(PACKED_INDEX, signal), PACKED_INDEX, REMEDY);
  const index = (found ?? {}) as Partial<PackedIndex>;
  if (index.format !== FORMAT) throw bad(`expected the format "${FORMAT}", found ${JSON.stringify(index.format)}`);
  if (index.version !== MANIFEST_VERSION) {
    throw bad(
      `expected version ${MANIFEST_VERSION}, found ${JSON.stringify(index.version)}: another version of this page has written it`,
    );
  }
  for (const key of ["name", "source", "sourceFingerprint", "scheme"] as const) {
    if (typeof index[key] !== "string") throw bad(`expected a text "${key}", found ${JSON.stringify(index[key])}`);
  }
  if (!Array.isArray(index.slots) || !Array.isArray(index.shards) || !Array.isArray(index.texts)) {
    throw bad("expected lists of slots, shards and texts");
  }
  if (index.shards.length === 0 || index.shards.length > MAX_SHARDS) {
    throw bad(`expected 1 to ${MAX_SHARDS} shards, found ${index.shards.length}`);
  }
  const checked = index as PackedIndex;
  checked.slots.forEach(checkSlot);
  for (const [i, shard] of checked.shards.entries()) checkFile(shard, shardPath(i));
  for (const text of checked.texts) checkFile(text, textPath(String(text?.path).replace(/^texts\//, "")));
  checkChunks(checked.slots, checked.shards);
  return checked;
}

/** A text of the folder, compared with its hash. */
export async function readPackedText(files: FileSet, { path, sha256 }: PackedFile, signal?: AbortSignal) {
  const text = await files.text(path, signal);
  await compare(path, new TextEncoder().encode(text), sha256);
  return text;
}

/** A shard of the folder, compared with its hash. */
export async function readPackedShard(files: FileSet, { path, bytes, sha256 }: PackedFile, signal?: AbortSignal) {
  const size = await files.size(path, signal);
  if (size !== bytes) {
    throw new TabTuneError("BadCheckpoint", `${path}: expected ${bytes} bytes, found ${size}. Copy the folder again.`);
  }
  const data = await files.read(path, 0, bytes, signal);
  await compare(path, data, sha256);
  return data;
}

async function compare(path: string, bytes: Uint8Array, sha256: string): Promise<void> {
  const found = await sha256Hex(bytes);
  if (found === sha256) return;
  throw new TabTuneError(
    "BadCheckpoint",
    `${path}: expected SHA-256 ${sha256.slice(0, 12)}…, found ${found.slice(0, 12)}…. The file is damaged; copy the folder again.`,
  );
}

const isCount = (value: unknown, least = 0): value is number =>
  Number.isSafeInteger(value) && (value as number) >= least;

function checkFile(file: PackedFile | null, path: string): void {
  const isName = /^[\w./-]+$/.test(path) && !path.includes("..");
  if (!isName || file?.path !== path || !isCount(file.bytes) || !/^[0-9a-f]{64}$/.test(file.sha256)) {
    throw bad(`expected ${path} with bytes and sha256, found ${JSON.stringify(file).slice(0, 100)}`);
  }
}

function checkSlot(slot: WeightSlot): void {
  const isFine =
    typeof slot?.name === "string" && isCount(slot.rows, 1) && isCount(slot.cols, 1) && SCHEMES.has(slot.scheme);
  if (isFine && Array.isArray(slot.sources)) return;
  throw bad(`a slot that this page does not know: ${JSON.stringify(slot).slice(0, 120)}`);
}

/** Every row of every slot is in exactly one chunk, in order, and every chunk lies inside its shard. */
function checkChunks(slots: WeightSlot[], shards: PackedIndex["shards"]): void {
  const rows = slots.map(() => 0);
  for (const { path, bytes, chunks } of shards) {
    let end = 0;
    for (const chunk of Array.isArray(chunks) ? chunks : []) {
      const slot = slots[chunk?.slot];
      const layout = slot && rowLayout(slot.scheme, slot.cols);
      const isFine =
        layout &&
        isCount(chunk.rows, 1) &&
        chunk.row0 === rows[chunk.slot] &&
        chunk.row0 + chunk.rows <= slot.rows &&
        isCount(chunk.codesOffset, end) &&
        chunk.codesBytes === chunk.rows * layout.codesBytes &&
        isCount(chunk.metaOffset, chunk.codesOffset + chunk.codesBytes) &&
        chunk.metaBytes === chunk.rows * layout.metaBytes &&
        chunk.metaOffset + chunk.metaBytes <= bytes;
      if (!isFine) throw bad(`${path}: a part that does not fit: ${JSON.stringify(chunk).slice(0, 120)}`);
      end = chunk.metaOffset + chunk.metaBytes;
      rows[chunk.slot]! += chunk.rows;
    }
  }
  const missing = slots.find((slot, i) => rows[i] !== slot.rows);
  if (missing) throw bad(`${missing.name}: not all of its ${missing.rows} rows are in the shards`);
}

const REMEDY = "Export the model again.";

function bad(what: string): TabTuneError {
  return new TabTuneError("BadCheckpoint", `${PACKED_INDEX}: ${what}. ${REMEDY}`);
}
