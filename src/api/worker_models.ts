import {
  deleteModel,
  Engine,
  importModel,
  listModels,
  openModel,
  planImport,
  planMemory,
  readShards,
  tuningKey,
} from "../engine/index.ts";
import { BlobFileSet, type Checkpoint, type FileSet, HttpFileSet, openHub } from "../formats/index.ts";
import type { Gpu } from "../gpu/index.ts";
import { gpuWeightBytes, parseConfig, weightSlots } from "../models/index.ts";
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
import { EncoderPool } from "./worker_pool.ts";

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
        signal,
      });
    case "url":
      return new HttpFileSet(new URL(source.base, appBase()).href);
    case "files":
      return new BlobFileSet(source.name, source.files);
  }
}

async function planJob(source: ModelSource, scheme: WeightScheme, signal: AbortSignal) {
  const files = await openSource(source, signal);
  const slots = (checkpoint: Checkpoint) => weightSlots(parseConfig(checkpoint.config), checkpoint, scheme);
  const more = source.kind === "demo" ? { name: "Demo (charts)" } : source.gguf ? { gguf: source.gguf } : {};
  return await planImport({ files, scheme, slots, ...more }, signal);
}

/** What an import would cost, before any weight is read. */
export async function planOf(
  gpu: Gpu,
  source: ModelSource,
  scheme: WeightScheme,
  signal: AbortSignal,
): Promise<ImportPlan> {
  const job = await planJob(source, scheme, signal);
  const memory = planMemory(gpu, parseConfig(job.manifest.config), {});
  return {
    id: job.id,
    name: job.manifest.name,
    parameters: job.manifest.parameters,
    bytesToRead: job.bytesToRead,
    bytesToStore: job.bytesToStore,
    bytesAlreadyStored: job.bytesAlreadyStored,
    quotaFree: job.quotaFree,
    gpuWeightBytes: gpuWeightBytes(job.manifest.slots),
    gpuCacheBytes: memory.cacheBytes + memory.activationBytes + memory.visionBytes,
    contextLength: memory.capacity,
    ...(job.manifest.licence ? { licence: job.manifest.licence } : {}),
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

/** Streams a stored model to the GPU. */
export async function loadStored(
  gpu: Gpu,
  id: string,
  options: LoadOptions & { cacheType?: "f32" | "f16" },
  signal: AbortSignal,
  onProgress: OnProgress,
): Promise<{ engine: Engine; loaded: LoadedModel }> {
  const started = performance.now();
  const manifest = await openModel(id);
  const report = progressOf("Loading onto the GPU", onProgress);
  report(0, manifest.bytesTotal);
  const key = tuningKey(gpu);
  const choices = (await getSetting(key)) as Record<string, number> | undefined;
  const engine = await Engine.load(gpu, manifest, readShards(manifest, signal), {
    ...(choices ? { choices } : {}),
    ...(options.contextLength ? { contextLength: options.contextLength } : {}),
    ...(options.cacheType ? { cacheType: options.cacheType } : {}),
    signal,
    onProgress: report,
  });
  if (gpu.choices.size > 0) await putSetting(key, Object.fromEntries(gpu.choices));
  const { chat } = engine;
  const maxPixels = Math.min(chat.processor.maxPixels, engine.maxPixels);
  const loaded: LoadedModel = {
    id,
    name: manifest.name,
    contextLength: engine.capacity,
    maxContextLength: engine.maxContext,
    gpuBytes: gpu.ledger.total,
    ledger: gpu.ledger.byOwner(),
    loadMilliseconds: performance.now() - started,
    defaults: {
      ...chat.defaults,
      minP: 0,
      presencePenalty: 0,
      seed: 0,
      maxTokens: Math.min(2048, engine.capacity),
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
