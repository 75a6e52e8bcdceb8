import { isError, TabTuneError, throwIfCancelled } from "../errors.ts";
import {
  type Checkpoint,
  type FileSet,
  type HashState,
  MANIFEST_VERSION,
  MergedFiles,
  type ModelManifest,
  openCheckpoint,
  rowFormat,
  sha256Hex,
  VerifiedFiles,
} from "../formats/index.ts";
import {
  deleteRecord,
  deleteShards,
  getRecord,
  listShards,
  putRecord,
  putShard,
  storageSpace,
  withLock,
} from "../storage/index.ts";
import { hashOf, modelId } from "./import_id.ts";
import { Meter } from "./import_meter.ts";
import { findManifest, removeModel, storeManifest } from "./import_models.ts";
import { isPacked, openPacked } from "./import_packed.ts";
import { checkSlots, inFileOrder, planShards } from "./import_plan.ts";
import { quantizedRemarks } from "./import_remarks.ts";
import { inlineEncoder, produceShard, type RowEncoder } from "./import_shard.ts";
import type { ImportJob, ImportProgress, ImportRequest } from "./import_types.ts";
import { inlineReader } from "./read_shards.ts";

const SHARD_BYTES = 32 << 20;

/** The small files that are kept with a model, where the source has them. */
const TEXT_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "generation_config.json",
  "preprocessor_config.json",
  "processor_config.json",
  "video_preprocessor_config.json",
  "chat_template.jinja",
  "chat_template.json",
];

export interface ImportOptions {
  signal?: AbortSignal;
  onProgress?: (progress: ImportProgress) => void;
  encoder?: RowEncoder;
}

/**
 * Opens the source, checks every tensor, lays out the shards and looks at what storage holds. Reads headers and small files only and
 * writes nothing. Throws `BadCheckpoint`, `UnsupportedModel`, `NotFound` or `Network`.
 */
export async function planImport(request: ImportRequest, signal?: AbortSignal): Promise<ImportJob> {
  const { scheme } = request;
  const merged = new MergedFiles(request.files);
  const verified = new VerifiedFiles(merged);
  if (await isPacked(verified, signal)) return await jobOf(request, await openPacked(request, verified, signal));
  const checkpoint = await openCheckpoint(verified, signal, request.gguf);
  // Of GGUF files, with the small files that their metadata makes.
  const { files } = checkpoint;
  const slots = inFileOrder(request.slots(checkpoint), checkpoint);
  const warnings = [
    ...(checkpoint.notes ?? []),
    ...checkSlots(slots, checkpoint),
    ...(await quantizedRemarks(slots, checkpoint, signal)),
  ];
  const shards = planShards(slots, request.shardBytes ?? SHARD_BYTES);
  const id = await modelId(files.identity, scheme);
  const texts = await readTexts(files, signal);
  const licence = files.licence ?? (await readLicence(files, signal));
  const manifest: ModelManifest = {
    version: MANIFEST_VERSION,
    id,
    name: request.name ?? files.name,
    source: files.describe(),
    sourceFingerprint: await hashOf([MANIFEST_VERSION, checkpoint.fingerprint, slots, shards]),
    ...(licence === undefined ? {} : { licence }),
    format: formatOf(checkpoint),
    config: checkpoint.config,
    texts,
    scheme,
    slots,
    shards,
    state: "importing",
    parameters: slots.reduce((sum, slot) => sum + slot.rows * slot.cols, 0),
    bytesTotal: shards.reduce((sum, shard) => sum + shard.bytes, 0),
    bytesSource: sourceBytes(slots, checkpoint),
    created: Date.now(),
    lastUsed: Date.now(),
  };
  const tensors = [...checkpoint.tensors.values()];
  const job = await jobOf(request, {
    manifest,
    checkpoint,
    make: (index, encoder, onBytes, shardSignal) =>
      produceShard(shards[index]!, slots, checkpoint, encoder, onBytes, shardSignal),
    files: verified,
    weightFiles: [...new Set(tensors.map(({ file }) => file))],
    warnings,
  });
  // A repair reads a few rows here and there: their neighbours are not wanted.
  if (job.existing !== "complete") merged.expect(checkpoint.ranges);
  return job;
}

/** What there is of an import already, and what is missing. */
async function jobOf(
  request: ImportRequest,
  source: Pick<ImportJob, "manifest" | "checkpoint" | "make" | "files" | "weightFiles" | "warnings">,
): Promise<ImportJob> {
  const { manifest, files, weightFiles } = source;
  const existing = await lookAt(manifest);
  const stored = existing === "partial" || existing === "complete" ? await listShards(manifest.id) : [];
  const space = await storageSpace();
  const listing = (await files.list()) ?? [];
  return {
    ...source,
    id: manifest.id,
    hashedFiles: listing.filter(({ path, sha256 }) => sha256 && weightFiles.includes(path)).length,
    existing,
    restart: request.restart ?? false,
    bytesToRead: manifest.bytesSource,
    bytesToStore: manifest.bytesTotal,
    bytesAlreadyStored: stored.reduce((sum, shard) => sum + shard.bytes, 0),
    quotaFree: space.quota - space.used,
  };
}

/** The form of a checkpoint in a few words: its container and how most of its weights are stored. */
function formatOf({ tensors }: Checkpoint): string {
  const bytes = new Map<string, number>();
  let container = "";
  for (const { format, dtype, file, bytes: own } of tensors.values()) {
    container = /\.(\w+)$/.exec(file)?.[1] ?? container;
    const word = format ?? dtype;
    bytes.set(word, (bytes.get(word) ?? 0) + own);
  }
  const words = [...bytes].sort((a, b) => b[1] - a[1]).slice(0, 2);
  return `${container}, ${words.map(([word]) => word).join(" and ")}`;
}

/** Bytes of all rows as they are read. */
function sourceBytes(slots: ModelManifest["slots"], checkpoint: Checkpoint): number {
  const sources = slots.flatMap(({ sources, cols }) => sources.map((source) => ({ ...source, cols })));
  return sources.reduce((sum, { tensor, rows, cols }) => {
    return sum + rows * rowFormat(checkpoint.tensors.get(tensor)!.dtype)!.rowBytes(cols);
  }, 0);
}

async function readTexts(files: FileSet, signal?: AbortSignal): Promise<Record<string, string>> {
  const texts: Record<string, string> = {};
  for (const path of TEXT_FILES) {
    if (await files.has(path, signal)) texts[path] = await files.text(path, signal);
  }
  if (texts["tokenizer.json"] === undefined) {
    throw new TabTuneError(
      "NotFound",
      `${files.describe()}: expected tokenizer.json beside the weights, found none. Add it from the original repository.`,
    );
  }
  return texts;
}

/** The licence that a model card names at its top, or that a licence's text begins with. */
async function readLicence(files: FileSet, signal?: AbortSignal): Promise<string | undefined> {
  // Only where files are listed: a guess would cost a request.
  const small = ((await files.list(signal)) ?? []).filter(({ size }) => size < 1 << 20);
  if (small.some(({ path }) => path === "README.md")) {
    const head = /^---\r?\n([\s\S]*?)\r?\n---/.exec(await files.text("README.md", signal))?.[1] ?? "";
    const field = (name: string) => new RegExp(`^${name}:\\s*["']?([\\w.+ -]*\\w)`, "m").exec(head)?.[1];
    const licence = field("license");
    if (licence !== undefined) return licence === "other" ? (field("license_name") ?? licence) : licence;
  }
  const own = small.find(({ path }) => /^licen[cs]e(\.(txt|md))?$/i.test(path));
  if (!own) return undefined;
  const text = await files.text(own.path, signal);
  if (/Apache License\s+Version 2\.0/.test(text)) return "apache-2.0";
  return /\S.*/.exec(text)?.[0].trim().slice(0, 80);
}

async function lookAt(manifest: ModelManifest): Promise<ImportJob["existing"]> {
  const found = await findManifest(manifest.id);
  if (!found) return "none";
  if (found.version !== MANIFEST_VERSION) return "outdated";
  if (found.sourceFingerprint !== manifest.sourceFingerprint) return "changed";
  return found.state === "complete" ? "complete" : "partial";
}

/**
 * Carries out a planned import: makes and stores every shard that is not there with the right hash, then marks the model complete.
 * After a cancel, a closed tab or an error the same call goes on where it stopped; on a complete model it repairs what is damaged.
 * Throws `Busy` (another tab imports it), `Quota`, `Network`, `BadCheckpoint`, `BadInput` (the source has changed) or `Cancelled`.
 */
export async function importModel(job: ImportJob, options: ImportOptions = {}): Promise<ModelManifest> {
  const busy = `${job.manifest.name} is being imported in another tab or window. Wait for it, or close that tab.`;
  return await withLock(`tabtune-model-${job.id}`, busy, () => importLocked(job, options));
}

async function importLocked(job: ImportJob, options: ImportOptions): Promise<ModelManifest> {
  const { signal } = options;
  const existing = await lookAt(job.manifest);
  if (existing === "changed" && !job.restart) {
    throw new TabTuneError(
      "BadInput",
      `${job.manifest.source} has changed since ${job.manifest.name} was imported from it. Delete that model and import it again, or keep what you have.`,
    );
  }
  const isOther = existing === "changed" || existing === "outdated";
  const stored = isOther ? [] : await listShards(job.id);
  await checkSpace(job, stored);
  throwIfCancelled(signal);
  let manifest = { ...job.manifest, shards: job.manifest.shards.map((shard) => ({ ...shard })) };
  if (existing === "complete") manifest = { ...manifest, ...(await findManifest(job.id)), texts: manifest.texts };
  else {
    if (isOther) await deleteShards(job.id);
    await putRecord("model-texts", job.id, manifest.texts);
    await storeManifest(manifest);
  }
  const meter = new Meter(manifest, options.onProgress);
  const done = await checkStored(manifest, stored, meter, signal);
  // Repairs are compared with the shards' own hashes.
  const { encoder = inlineEncoder } = options;
  const hash = (state: HashState | undefined, bytes: Uint8Array<ArrayBuffer>) => encoder.hash(state, bytes);
  const saved = existing === "partial" ? await getRecord("import-hashes", job.id) : undefined;
  const files = existing === "complete" ? [] : job.weightFiles;
  const compared = await job.files.start(files, hash, saved as Record<string, HashState> | undefined);
  try {
    await makeMissing(manifest, job, done, meter, options);
    if (compared.length > 0) await compareFiles(job, meter, signal);
  } finally {
    job.files.stop();
  }
  const verified = compared.length > 0 ? { verifiedFiles: compared.length } : {};
  manifest = { ...manifest, ...verified, state: "complete", lastUsed: Date.now() };
  await storeManifest(manifest);
  await deleteRecord("import-hashes", job.id);
  return manifest;
}

/** Compares whole files with the hashes that their source names. Where one differs, nothing of the import is kept. */
async function compareFiles(job: ImportJob, meter: Meter, signal: AbortSignal | undefined): Promise<void> {
  meter.comparing();
  try {
    await job.files.finish(signal);
  } catch (error) {
    if (isError(error, "BadCheckpoint")) await removeModel(job.id);
    throw error;
  }
}

async function checkSpace(job: ImportJob, stored: { bytes: number }[]): Promise<void> {
  const space = await storageSpace();
  const free = space.quota - space.used;
  const missing = job.bytesToStore - stored.reduce((sum, shard) => sum + shard.bytes, 0);
  if (missing > free) {
    throw new TabTuneError(
      "Quota",
      `${job.manifest.name} needs ${megabytes(missing)} more storage, but the browser gives this page only ${megabytes(free)}. Delete a model or free disk space; nothing has been written.`,
    );
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}

/** Reads and hashes what is stored; fills in the hashes of good shards and returns their indices. */
async function checkStored(
  manifest: ModelManifest,
  stored: { index: number; sha256: string }[],
  meter: Meter,
  signal: AbortSignal | undefined,
): Promise<Set<number>> {
  const done = new Set<number>();
  for (const { index, sha256 } of stored) {
    throwIfCancelled(signal);
    const shard = manifest.shards[index];
    if (!shard) continue;
    const expected = { ...shard, sha256: shard.sha256 || sha256 };
    if ((await inlineReader.read(manifest.id, index, expected)).fault) continue;
    shard.sha256 = expected.sha256;
    done.add(index);
    meter.found(done.size, stored.length);
  }
  return done;
}

async function makeMissing(
  manifest: ModelManifest,
  { make, files }: ImportJob,
  done: Set<number>,
  meter: Meter,
  options: ImportOptions,
): Promise<void> {
  const { signal, encoder = inlineEncoder } = options;
  let writing: Promise<void> | undefined;
  meter.start(done);
  try {
    for (const index of manifest.shards.keys()) {
      if (done.has(index)) continue;
      throwIfCancelled(signal);
      const bytes = await make(index, encoder, (n) => meter.read(n), signal);
      // While this one is hashed and written, the next is read: two shards in memory, never more.
      await writing;
      // Between two shards everything that has been read belongs to those made so far: what an interrupted hash may go on from.
      const hashes = await files.settle(signal);
      writing = store(manifest, index, bytes, hashes, meter);
      writing.catch(() => undefined);
    }
  } finally {
    await writing;
  }
}

async function store(
  manifest: ModelManifest,
  index: number,
  bytes: Uint8Array<ArrayBuffer>,
  hashes: Record<string, HashState>,
  meter: Meter,
): Promise<void> {
  const shard = manifest.shards[index]!;
  const sha256 = await sha256Hex(bytes);
  if (shard.sha256 && shard.sha256 !== sha256) {
    throw new TabTuneError(
      "BadInput",
      `${manifest.source} now gives other weights than those imported as ${manifest.name}. Delete the model and import it again.`,
    );
  }
  await putShard(manifest.id, { index, bytes: bytes.length, sha256 }, bytes);
  if (Object.keys(hashes).length > 0) await putRecord("import-hashes", manifest.id, hashes);
  shard.sha256 = sha256;
  meter.stored();
}
