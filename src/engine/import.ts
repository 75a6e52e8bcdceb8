import { TabTuneError, throwIfCancelled } from "../errors.ts";
import {
  type Checkpoint,
  type FileSet,
  MANIFEST_VERSION,
  type ModelManifest,
  openCheckpoint,
  rowFormat,
  sha256Hex,
} from "../formats/index.ts";
import { deleteShards, getShard, listShards, putRecord, putShard, storageSpace, withLock } from "../storage/index.ts";
import { findManifest, storeManifest, wrongWith } from "./import_models.ts";
import { checkSlots, planShards } from "./import_plan.ts";
import { inlineEncoder, produceShard, type RowEncoder } from "./import_shard.ts";
import type { ImportJob, ImportProgress, ImportRequest } from "./import_types.ts";

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
  const checkpoint = await openCheckpoint(request.files, signal, request.gguf);
  // Of GGUF files, with the small files that their metadata makes.
  const { files } = checkpoint;
  const slots = request.slots(checkpoint);
  const warnings = [...(checkpoint.notes ?? []), ...checkSlots(slots, checkpoint)];
  const shards = planShards(slots, request.shardBytes ?? SHARD_BYTES);
  const id = (await hashOf([files.identity, scheme])).slice(0, 16);
  const texts = await readTexts(files, signal);
  const licence = files.licence ?? (await readLicence(files, signal));
  const manifest: ModelManifest = {
    version: MANIFEST_VERSION,
    id,
    name: request.name ?? files.name,
    source: files.describe(),
    sourceFingerprint: await hashOf([MANIFEST_VERSION, checkpoint.fingerprint, slots, shards]),
    ...(licence === undefined ? {} : { licence }),
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
  const existing = await lookAt(manifest);
  const stored = existing === "none" || existing === "changed" ? [] : await listShards(id);
  const space = await storageSpace();
  return {
    id,
    manifest,
    checkpoint,
    existing,
    restart: request.restart ?? false,
    bytesToRead: manifest.bytesSource,
    bytesToStore: manifest.bytesTotal,
    bytesAlreadyStored: stored.reduce((sum, shard) => sum + shard.bytes, 0),
    quotaFree: space.quota - space.used,
    warnings,
  };
}

/** Bytes of all rows as they are read. */
function sourceBytes(slots: ModelManifest["slots"], checkpoint: Checkpoint): number {
  const sources = slots.flatMap(({ sources, cols }) => sources.map((source) => ({ ...source, cols })));
  return sources.reduce((sum, { tensor, rows, cols }) => {
    return sum + rows * rowFormat(checkpoint.tensors.get(tensor)!.dtype)!.rowBytes(cols);
  }, 0);
}

async function hashOf(value: unknown): Promise<string> {
  return await sha256Hex(new TextEncoder().encode(JSON.stringify(value)));
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

/** The `license:` line at the top of a model card. */
async function readLicence(files: FileSet, signal?: AbortSignal): Promise<string | undefined> {
  // Only where files are listed: a guess would cost a request.
  if (!(await files.list(signal))?.some(({ path, size }) => path === "README.md" && size < 1 << 20)) return undefined;
  const head = /^---\r?\n([\s\S]*?)\r?\n---/.exec(await files.text("README.md", signal));
  return /^license:\s*["']?([\w.+-]+)/m.exec(head?.[1] ?? "")?.[1];
}

async function lookAt(manifest: ModelManifest): Promise<ImportJob["existing"]> {
  const found = await findManifest(manifest.id);
  if (!found) return "none";
  if (found.version !== MANIFEST_VERSION || found.sourceFingerprint !== manifest.sourceFingerprint) return "changed";
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
  const stored = existing === "changed" ? [] : await listShards(job.id);
  await checkSpace(job, stored);
  throwIfCancelled(signal);
  let manifest = { ...job.manifest, shards: job.manifest.shards.map((shard) => ({ ...shard })) };
  if (existing === "complete") manifest = { ...manifest, ...(await findManifest(job.id)), texts: manifest.texts };
  else {
    if (existing === "changed") await deleteShards(job.id);
    await putRecord("model-texts", job.id, manifest.texts);
    await storeManifest(manifest);
  }
  const meter = new Meter(manifest, options.onProgress);
  const done = await checkStored(manifest, stored, meter, signal);
  await makeMissing(manifest, job.checkpoint, done, meter, options);
  manifest = { ...manifest, state: "complete", lastUsed: Date.now() };
  await storeManifest(manifest);
  return manifest;
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
    if ((await wrongWith(expected, () => getShard(manifest.id, index))).fault) continue;
    shard.sha256 = expected.sha256;
    done.add(index);
    meter.found(done.size, stored.length);
  }
  return done;
}

async function makeMissing(
  manifest: ModelManifest,
  checkpoint: Checkpoint,
  done: Set<number>,
  meter: Meter,
  options: ImportOptions,
): Promise<void> {
  const { signal, encoder = inlineEncoder } = options;
  let writing: Promise<void> | undefined;
  meter.start(done);
  try {
    for (const [index, shard] of manifest.shards.entries()) {
      if (done.has(index)) continue;
      throwIfCancelled(signal);
      const bytes = await produceShard(shard, manifest.slots, checkpoint, encoder, (n) => meter.read(n), signal);
      // While this one is hashed and written, the next is read: two shards in memory, never more.
      await writing;
      writing = store(manifest, index, bytes, meter);
      writing.catch(() => undefined);
    }
  } finally {
    await writing;
  }
}

async function store(manifest: ModelManifest, index: number, bytes: Uint8Array<ArrayBuffer>, meter: Meter) {
  const shard = manifest.shards[index]!;
  const sha256 = await sha256Hex(bytes);
  if (shard.sha256 && shard.sha256 !== sha256) {
    throw new TabTuneError(
      "BadInput",
      `${manifest.source} now gives other weights than those imported as ${manifest.name}. Delete the model and import it again.`,
    );
  }
  await putShard(manifest.id, { index, bytes: bytes.length, sha256 }, bytes);
  shard.sha256 = sha256;
  meter.stored();
}

/** Counts what has been read and tells the caller, with the speed over the last ten seconds. */
class Meter {
  private readonly manifest: ModelManifest;
  private readonly report: ((progress: ImportProgress) => void) | undefined;
  private bytesDone = 0;
  private shard = 0;
  private samples: { time: number; bytes: number }[] = [];

  constructor(manifest: ModelManifest, report: ((progress: ImportProgress) => void) | undefined) {
    this.manifest = manifest;
    this.report = report;
  }

  found(checked: number, stored: number): void {
    const bytesTotal = this.manifest.bytesSource;
    const share = stored / this.manifest.shards.length;
    this.tell("Checking what is stored", bytesTotal * share * (checked / stored), checked);
  }

  start(done: Set<number>): void {
    const share =
      [...done].reduce((sum, index) => sum + this.manifest.shards[index]!.bytes, 0) / this.manifest.bytesTotal;
    this.bytesDone = Math.round(this.manifest.bytesSource * share);
    this.shard = done.size;
    this.samples = [{ time: performance.now(), bytes: this.bytesDone }];
    this.tell("Reading and storing", this.bytesDone, this.shard);
  }

  read(bytes: number): void {
    this.bytesDone = Math.min(this.bytesDone + bytes, this.manifest.bytesSource);
    this.samples.push({ time: performance.now(), bytes: this.bytesDone });
    while (this.samples.length > 2 && this.samples.at(-1)!.time - this.samples[0]!.time > 10_000) this.samples.shift();
    this.tell("Reading and storing", this.bytesDone, this.shard);
  }

  stored(): void {
    this.shard++;
    this.tell("Reading and storing", this.bytesDone, this.shard);
  }

  private tell(phase: ImportProgress["phase"], bytesDone: number, shard: number): void {
    const first = this.samples[0];
    const last = this.samples.at(-1);
    const milliseconds = first && last ? last.time - first.time : 0;
    const bytesPerSecond = first && last && milliseconds > 0 ? ((last.bytes - first.bytes) / milliseconds) * 1000 : 0;
    const bytesTotal = this.manifest.bytesSource;
    const secondsLeft = bytesPerSecond > 0 ? (bytesTotal - bytesDone) / bytesPerSecond : Number.POSITIVE_INFINITY;
    this.report?.({
      phase,
      bytesDone,
      bytesTotal,
      shard,
      shards: this.manifest.shards.length,
      bytesPerSecond,
      secondsLeft,
    });
  }
}
