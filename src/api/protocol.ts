/**
 * Everything that crosses the border between the page and the worker: plain data and one interface.
 * No class instances, no functions except comlink callbacks; times in milliseconds, sizes in bytes.
 */

/** What the visitor's GPU offers, or why it cannot be used. */
export type Capabilities =
  | {
      ok: true;
      vendor: string;
      architecture: string;
      description: string;
      /** True for a software adapter such as SwiftShader: works, slowly. */
      software: boolean;
      features: string[];
      /** Products with many rows are made in f16, on matrix units or not; false once the self-test has switched both off. */
      halfPrecision: boolean;
      maxBufferSize: number;
      maxBindingSize: number;
    }
  | { ok: false; reason: "no-webgpu" | "no-adapter" | "limits"; found: string; remedy: string };

/** Where a checkpoint comes from. */
export type ModelSource =
  | { kind: "demo" }
  /** A Hugging Face repository, `owner/name`, optionally at a revision; from a mirror where `endpoint` is its base address. */
  | { kind: "hub"; repo: string; revision?: string; token?: string; endpoint?: string; gguf?: GgufNames }
  /** Any HTTP(S) base that holds a Hugging Face style folder and answers range requests. */
  | { kind: "url"; base: string; gguf?: GgufNames }
  /** A local folder, as picked or dropped. Paths are relative to the folder. */
  | { kind: "files"; name: string; files: { path: string; file: Blob }[]; gguf?: GgufNames };

/** Which GGUF or ONNX files to take where there are several, by name; where nothing can be listed (`url`), both of a GGUF pair or the ONNX text model must be named. */
export interface GgufNames {
  language?: string;
  /** The mmproj file of a GGUF pair. */
  vision?: string;
}

/** How linear weights are stored: 4-bit affine groups of 32 or 64 along K, or as they are in the file. */
export type WeightScheme = "q4a32" | "q4a64" | "bf16";

export interface ImportPlan {
  id: string;
  name: string;
  /** Parameters in all tensors that are used. */
  parameters: number;
  bytesToRead: number;
  bytesToStore: number;
  /** Bytes of an earlier, interrupted import that need not be read again. */
  bytesAlreadyStored: number;
  quotaFree: number;
  licence?: string;
  /** The place, with its revision where it has one. */
  source: string;
  /** Weight files that are read, and how many of them are compared with a SHA-256 that the source names. */
  weightFiles: number;
  hashedFiles: number;
  warnings: string[];
}

/** What a visitor would like to do with a model. */
export interface MemoryWish {
  contextLength: number;
  /** Of a LoRA adapter on all matrices of the language model. */
  rank: number;
}

/** GPU bytes that a model takes, against what this GPU has given in a test. */
export interface MemoryVerdict {
  weights: number;
  /** The wished context, or the longest below it that this device can bind. */
  contextLength: number;
  longestContext: number;
  cache: number;
  activations: number;
  /** Of encoding one picture. */
  vision: number;
  /** A training run beside the weights, the short context of its evaluations included. */
  training: number;
  /** Largest buffer that this device binds. */
  largestBuffer: number;
  /** Bytes that could be had in a test, and whether there is no more; absent when none was made. */
  measured?: number;
  isAll?: boolean;
  /** Absent where the test did not go far enough to tell. */
  chatFits?: boolean;
  trainingFits?: boolean;
  /** The longest context that fits into what was measured. */
  bestContext?: number;
  /** The largest LoRA rank that fits into it; 0 when none does. */
  bestRank?: number;
}

export interface Progress {
  /** What is being done, for a person: "Reading and quantizing", "Loading onto the GPU", … */
  phase: string;
  bytesDone: number;
  bytesTotal: number;
  bytesPerSecond: number;
  secondsLeft: number;
}

export interface ModelRecord {
  id: string;
  name: string;
  source: string;
  scheme: WeightScheme;
  state: "importing" | "complete";
  bytesStored: number;
  bytesTotal: number;
  parameters: number;
  licence?: string;
  /** The published form that it was made from, for a person. */
  format?: string;
  /** Weight files that were compared with a SHA-256 that their source names. */
  verifiedFiles?: number;
  created: number;
  lastUsed: number;
}

export interface LoadOptions {
  /** Tokens that the KV cache holds; the engine lowers it when memory does not allow more, and says so. */
  contextLength?: number;
}

export interface LoadedModel {
  id: string;
  name: string;
  contextLength: number;
  maxContextLength: number;
  gpuBytes: number;
  /** Bytes by owner: weights, KV cache, activations, … */
  ledger: Record<string, number>;
  loadMilliseconds: number;
  /** Where that time went: opening files and device, making room, waiting for shards, the device and its self-test, finding out what suits it. */
  loadTimes: { open: number; allocate: number; read: number; upload: number; check: number; tune: number };
  defaults: Sampling;
  /** Pixel budget of the checkpoint's own processor and the largest that this device can encode. */
  minPixels: number;
  maxPixels: number;
  defaultMaxPixels: number;
  isThinking: boolean;
  /** For example: a kernel variant failed its self-test here and the portable one is used. */
  notes: string[];
}

export interface Sampling {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  seed: number;
  maxTokens: number;
  /** Tokens after which a thinking model's thoughts are ended; 0 or absent for no bound. */
  thinkingBudget?: number;
  stop: string[];
}

/** A picture of a conversation. `id` is its content hash; the bytes stay in IndexedDB. */
export interface Picture {
  id: string;
  name: string;
  blob: Blob;
  minPixels?: number;
  maxPixels?: number;
}

export interface PictureInfo {
  id: string;
  width: number;
  height: number;
  /** The size that the model sees, and how many image tokens that costs. */
  resizedWidth: number;
  resizedHeight: number;
  tokens: number;
}

export type MessagePart = { type: "text"; text: string } | { type: "image"; pictureId: string };

export interface Message {
  role: "system" | "user" | "assistant";
  parts: MessagePart[];
}

export interface GenerateRequest {
  messages: Message[];
  pictures: Picture[];
  sampling: Sampling;
}

export type GenerateEvent =
  | { type: "pictures"; pictures: PictureInfo[] }
  | { type: "progress"; stage: "encoding" | "prefill"; done: number; total: number }
  /** Text to append. Never half a character. */
  | { type: "text"; text: string }
  | { type: "stats"; stats: GenerateStats }
  /** The device was lost and has been rebuilt; the answer goes on from where it was. */
  | { type: "recovered"; message: string };

export interface GenerateStats {
  promptTokens: number;
  /** Tokens taken from the cache of the previous turn. */
  reusedTokens: number;
  newTokens: number;
  encodeMilliseconds: number;
  firstTokenMilliseconds: number;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  contextUsed: number;
  contextLength: number;
}

export interface GenerateResult {
  text: string;
  finish: "stop" | "length" | "cancelled" | "context";
  stats: GenerateStats;
}

/** One row of the self-test table. */
export interface SelfTestRow {
  kernel: string;
  shape: string;
  /** Largest relative L2 error of its outputs against the float64 reference, and the bound it must keep. */
  error: number;
  tolerance: number;
  pass: boolean;
  /** Median GPU milliseconds of one dispatch, when measured. */
  milliseconds?: number;
  /** Share of the bandwidth or arithmetic ceiling measured in the same run, 0 to 1. */
  share?: number;
  bound?: "bandwidth" | "arithmetic";
  message?: string;
}

export interface SelfTestSummary {
  passed: number;
  failed: number;
  /** Measured ceilings: device-to-device copy in bytes/s, f32 multiply-adds in FLOP/s. */
  copyBandwidth?: number;
  arithmetic?: number;
  milliseconds: number;
}

/** A stored conversation; pictures are kept once each, by hash. */
export interface Conversation {
  id: string;
  title: string;
  created: number;
  updated: number;
  modelId?: string;
  /** The adapter that it is answered with. */
  adapterId?: string;
  system: string;
  sampling?: Sampling;
  messages: StoredMessage[];
  pictures: Picture[];
}

export interface StoredMessage extends Message {
  id: string;
  /** Set on answers. */
  stats?: GenerateStats;
  finish?: GenerateResult["finish"];
  modelName?: string;
}

export interface ConversationSummary {
  id: string;
  title: string;
  updated: number;
  messages: number;
}

/**
 * What the worker does for the page. Every method rejects with a TabTuneError (its `name` is the code) that is written for the visitor.
 * Long calls take a task id of the caller's choice; `cancel(taskId)` stops them within 200 ms and they reject with `Cancelled`
 * (`generate` resolves with finish "cancelled" instead).
 */
export interface EngineApi {
  capabilities(): Promise<Capabilities>;

  listModels(): Promise<ModelRecord[]>;
  planImport(source: ModelSource, scheme: WeightScheme, taskId: string): Promise<ImportPlan>;
  /** Whether a planned import or a stored model fits this GPU; memory is taken for a moment to see how much there is. */
  memoryVerdict(id: string, wish: MemoryWish, taskId: string): Promise<MemoryVerdict>;
  importModel(
    source: ModelSource,
    scheme: WeightScheme,
    taskId: string,
    onProgress: (progress: Progress) => void,
  ): Promise<ModelRecord>;
  verifyModel(id: string, taskId: string, onProgress: (progress: Progress) => void): Promise<{ damaged: number[] }>;
  deleteModel(id: string): Promise<void>;
  renameModel(id: string, name: string): Promise<void>;
  /**
   * Writes a complete model in our own form, which another visitor can import as it is: into a folder, or into a zip file as it is made.
   * Without a target the zip comes back as a Blob, which the browser keeps on disk.
   */
  exportModel(
    id: string,
    target: FileSystemDirectoryHandle | FileSystemFileHandle | undefined,
    taskId: string,
    onProgress: (progress: Progress) => void,
  ): Promise<Blob | undefined>;
  storageEstimate(): Promise<{ used: number; quota: number; persistent: boolean }>;

  loadModel(
    id: string,
    options: LoadOptions,
    taskId: string,
    onProgress: (progress: Progress) => void,
  ): Promise<LoadedModel>;
  unloadModel(): Promise<void>;

  /** Size and cost of a picture as the loaded model would see it, without encoding it. */
  inspectPicture(picture: Picture): Promise<PictureInfo>;
  generate(request: GenerateRequest, taskId: string, onEvent: (event: GenerateEvent) => void): Promise<GenerateResult>;

  cancel(taskId: string): Promise<void>;

  selfTest(
    options: { filter?: string; timing: boolean },
    taskId: string,
    onRow: (row: SelfTestRow) => void,
  ): Promise<SelfTestSummary>;

  listConversations(): Promise<ConversationSummary[]>;
  loadConversation(id: string): Promise<Conversation>;
  saveConversation(conversation: Conversation): Promise<void>;
  deleteConversation(id: string): Promise<void>;
  /** Small settings of the page (theme, last model, …), kept as one JSON value each. */
  getSetting(key: string): Promise<unknown>;
  putSetting(key: string, value: unknown): Promise<void>;
}
