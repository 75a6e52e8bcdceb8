import {
  ChatFormat,
  deleteModel,
  Engine,
  importModel,
  listModels,
  openModel,
  planImport,
  readShards,
  tuningKey,
} from "../engine/index.ts";
import { BlobFileSet, type Checkpoint, type FileSet, HttpFileSet, openHub, ZipFileSet } from "../formats/index.ts";
import type { Gpu } from "../gpu/index.ts";
import { parseConfig, slotShapes, weightSlots } from "../models/index.ts";
import type {
  ImportPlan,
  LoadedModel,
  LoadOptions,
  ModelRecord,
  ModelSource,
  Progress,
  WeightScheme,
} from "./protocol.ts";
import { getSetting, putSetting } from "./worker_conversations.ts";
import { rememberPlan } from "./worker_memory.ts";
import { EncoderPool, ReaderPool } from "./worker_pool.ts";
import { fetchFrom } from "./worker_reaching.ts";

/** Where the embedded demo model lies, next to the app itself. */
const DEMO = "models/demo/";
/** Its files: without a network, asking for others would wait for a server that does not answer. */
const DEMO_FILES = [
  "config.json",
  "generation_config.json",
  "preprocessor_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "chat_template.jinja",
  "model.safetensors",
];
/** A picture above this is offered smaller by default: 1,600 image tokens. The visitor can raise it. */
const DEFAULT_MAX_PIXELS = 1280 * 1280;

type OnProgress = (progress: Progress) => void;

/** The page's own address; a worker's script lies below it. Set by the page's first call through the worker's name. */
export function appBase(): URL {
  return new URL(
    import.meta.env.BASE_URL,
    import.meta.env.DEV ? self.location.origin : new URL("..", self.location.href),
  );
}

/** Opens the files of a source; nothing but names and small files is read. */
export async function openSource(source: ModelSource, signal: AbortSignal): Promise<FileSet> {
  switch (source.kind) {
    case "demo":
      return new HttpFileSet(new URL(DEMO, appBase()).href, { only: DEMO_FILES, licence: "apache-2.0" });
    case "hub":
      return await openHub(source.repo, {
        ...(source.revision ? { revision: source.revision } : {}),
        ...(source.token ? { token: source.token } : {}),
        ...(source.endpoint ? { endpoint: source.endpoint, client: { fetch: fetchFrom(source.endpoint) } } : {}),
        signal,
      });
    case "url": {
      const { href } = new URL(source.base, appBase());
      return new HttpFileSet(href, { client: { fetch: fetchFrom(href) } });
    }
    case "files":
      return await openFiles(source.name, source.files);
  }
}

/** A folder, or a model that was exported as one zip file. */
async function openFiles(name: string, files: { path: string; file: Blob }[]): Promise<FileSet> {
  const [only] = files;
  if (files.length === 1 && only && /\.zip$/i.test(only.path)) return await ZipFileSet.open(only.path, only.file);
  return new BlobFileSet(name, files);
}

async function planJob(source: ModelSource, scheme: WeightScheme, signal: AbortSignal) {
  const files = await openSource(source, signal);
  const slots = (checkpoint: Checkpoint) => weightSlots(parseConfig(checkpoint.config), checkpoint, scheme);
  const more = source.kind === "demo" ? { name: "Demo (charts)" } : source.gguf ? { gguf: source.gguf } : {};
  const shapes = (config: unknown) => slotShapes(parseConfig(config));
  return await planImport({ files, scheme, slots, shapes, ...more }, signal);
}

/** What an import would cost, before any weight is read. */
export async function planOf(source: ModelSource, scheme: WeightScheme, signal: AbortSignal): Promise<ImportPlan> {
  const job = await planJob(source, scheme, signal);
  rememberPlan(job.id, job.manifest.config, job.manifest.slots);
  return {
    id: job.id,
    name: job.manifest.name,
    parameters: job.manifest.parameters,
    bytesToRead: job.bytesToRead,
    bytesToStore: job.bytesToStore,
    bytesAlreadyStored: job.bytesAlreadyStored,
    quotaFree: job.quotaFree,
    ...(job.manifest.licence ? { licence: job.manifest.licence } : {}),
    source: job.manifest.source,
    weightFiles: job.weightFiles.length,
    hashedFiles: job.hashedFiles,
    warnings: job.warnings,
  };
}

/** Imports, or goes on with an import that was interrupted; a complete one returns at once. */
export async function importSource(
  source: ModelSource,
  scheme: WeightScheme,
  signal: AbortSignal,
  onProgress: OnProgress,
): Promise<ModelRecord> {
  const job = await planJob(source, scheme, signal);
  const encoder = new EncoderPool();
  const manifest = await importModel(job, { signal, onProgress, encoder }).finally(() => encoder.close());
  const record = (await models()).find((m) => m.id === manifest.id);
  if (!record) throw new Error(`${manifest.id} is not in the list after its import`);
  return record;
}

export async function models(): Promise<ModelRecord[]> {
  return (await listModels()).map((m) => ({ ...m, scheme: m.scheme as WeightScheme }));
}

/** Turns bytes into progress with speed and time left, counted from now. */
export function progressOf(phase: string, onProgress: OnProgress): (bytesDone: number, bytesTotal: number) => void {
  const started = performance.now();
  return (bytesDone, bytesTotal) => {
    const bytesPerSecond = (1000 * bytesDone) / Math.max(1, performance.now() - started);
    const secondsLeft = bytesPerSecond > 0 ? (bytesTotal - bytesDone) / bytesPerSecond : Number.POSITIVE_INFINITY;
    onProgress({ phase, bytesDone, bytesTotal, bytesPerSecond, secondsLeft });
  };
}

type Load = [
  ...[device: Promise<Gpu>, id: string, options: LoadOptions & { cacheType?: "f32" | "f16" | "i8" }],
  ...[signal: AbortSignal, onProgress: OnProgress],
];

/** Streams a stored model to the GPU. Reading begins while the device is still being opened. */
export async function loadStored(...load: Load): Promise<{ engine: Engine; loaded: LoadedModel }> {
  const reader = new ReaderPool();
  return await loadFrom(reader, ...load).finally(() => reader.close());
}

async function loadFrom(reader: ReaderPool, ...[device, id, options, signal, onProgress]: Load) {
  const started = performance.now();
  device.catch(() => undefined); // It is awaited below.
  const manifest = await openModel(id);
  const report = progressOf("Loading onto the GPU", onProgress);
  report(0, manifest.bytesTotal);
  const shards = readShards(manifest, { reader, signal });
  const chat = ChatFormat.from(manifest.texts, parseConfig(manifest.config));
  const gpu = await device;
  const key = tuningKey(gpu);
  const choices = (await getSetting(key)) as Record<string, number> | undefined;
  const open = performance.now() - started;
  const engine = await Engine.load(gpu, manifest, chat, shards, {
    ...(choices ? { choices } : {}),
    ...(options.contextLength ? { contextLength: options.contextLength } : {}),
    ...(options.cacheType ? { cacheType: options.cacheType } : {}),
    signal,
    onProgress: report,
  });
  if (gpu.choices.size > 0) await putSetting(key, Object.fromEntries(gpu.choices));
  const maxPixels = Math.min(chat.processor.maxPixels, engine.maxPixels);
  const loaded: LoadedModel = {
    id,
    name: manifest.name,
    contextLength: engine.capacity,
    maxContextLength: engine.maxContext,
    gpuBytes: gpu.ledger.total,
    ledger: gpu.ledger.byOwner(),
    loadMilliseconds: performance.now() - started,
    loadTimes: { open, ...engine.loadTimes },
    defaults: {
      ...chat.defaults,
      minP: 0,
      presencePenalty: 0,
      seed: 0,
      maxTokens: Math.min(2048, engine.capacity),
      ...(chat.isThinking ? { thinkingBudget: 0 } : {}),
      stop: [],
    },
    minPixels: chat.processor.minPixels,
    maxPixels,
    defaultMaxPixels: Math.min(maxPixels, Math.max(DEFAULT_MAX_PIXELS, chat.processor.minPixels)),
    isThinking: chat.isThinking,
    notes: engine.notes,
  };
  return { engine, loaded };
}

export { deleteModel };
