import type { GgufNames, Message } from "./protocol.ts";
import type { TrainSettings } from "./train_protocol.ts";

/** A conversation whose pictures are read from addresses; `prompt` overrides the chat template. */
export interface DebugRequest {
  messages: Message[];
  pictures: { name: string; url: string }[];
  video?: { urls: string[]; fps: number };
  prompt?: string;
  /** Only the last rows of hidden states and logits are wanted. */
  lastRows?: number;
}

/** Intermediate results of one forward pass, row-major. */
export interface DebugForward {
  inputIds: number[];
  pixelValues: Float32Array<ArrayBuffer>;
  grid: number[][];
  /** [3][tokens] */
  positionIds: Int32Array<ArrayBuffer>;
  ropeDelta: number;
  /** After each vision block, picture after picture. */
  visionHidden: Float32Array<ArrayBuffer>[];
  /** Merger outputs in call order: DeepStack taps, then the final one; picture after picture. */
  visionMerged: Float32Array<ArrayBuffer>[];
  /** After each decoder layer, before any DeepStack addition; all rows or the last ones. */
  hidden: Float32Array<ArrayBuffer>[];
  /** [tokens][vocab], all rows or the last ones. */
  logits: Float32Array<ArrayBuffer>;
}

/** A training run on tokens and factors as they are. */
export interface DebugTrainRequest {
  parts: TrainSettings["lora"]["parts"];
  r: number;
  alpha: number;
  dropout: number;
  optimizer: TrainSettings["optimizer"];
  /** What the factors start with, by PEFT's name without "base_model.model.". */
  values: Record<string, Float32Array<ArrayBuffer>>;
  /** Pictures are read from addresses. */
  examples: { ids: number[]; labels: number[]; urls: string[] }[];
  /** For each step its micro-batches of example numbers. */
  steps: { batches: number[][]; rate: number; seed: number }[];
  step: { weightDecay: number; maxGradNorm: number };
  maxTokens: number;
  /** Whether to take logits before and afterwards. */
  withLogits: boolean;
}

export interface DebugTrainResult {
  /** GPU bytes, as the plan says and as the ledger counted. */
  planned: number;
  allocated: number;
  /** Of each step; gradients of the first one before clipping. */
  losses: number[];
  norms: number[];
  gradients: Record<string, Float32Array<ArrayBuffer>>;
  /** The factors at the end. */
  adapter: Record<string, Float32Array<ArrayBuffer>>;
  /** Of the first example: before, after with the adapter on, after with it off again. [tokens][vocab] */
  logits: Float32Array<ArrayBuffer>[];
}

/** A picture for the tower alone. */
export interface DebugEncode {
  url: string;
  /** Give back first what earlier pictures left, so that everything is allocated and recorded anew. */
  fresh?: boolean;
  /** Cancel as soon as something has run. */
  cancel?: boolean;
}

export interface DebugEncoded {
  /** Bits of E and the DeepStack features; none when cancelled. */
  features: Uint32Array<ArrayBuffer>[];
  /** Which of the recorded lists ran, numbered in order of their first run. */
  list: number;
  /** GPU bytes of the workspace afterwards, and when it is given back too. */
  kept: number;
  left: number;
}

/** How keys and values are cached. */
export type DebugCache = "f32" | "f16" | "i8";

/** The part of the worker that only tests use. */
export interface DebugApi {
  /** Opens another device without some features or with the specification's default limits; nothing is loaded afterwards. */
  debugDevice(options: { without?: string[]; defaultLimits?: boolean }): Promise<void>;
  /** Imports a checkpoint folder under `base` and loads it with the given cache type. */
  debugLoad(options: {
    base: string;
    kv: DebugCache;
    scheme?: "bf16" | "q4a32" | "q4a64";
    gguf?: GgufNames;
  }): Promise<void>;
  debugForward(request: DebugRequest): Promise<DebugForward>;
  /** Encodes pictures one after the other. */
  debugEncode(pictures: DebugEncode[]): Promise<DebugEncoded[]>;
  /** Greedy tokens with no end of turn. */
  debugGreedy(request: DebugRequest & { maxNewTokens: number }): Promise<number[]>;
  debugTrain(request: DebugTrainRequest): Promise<DebugTrainResult>;
  /** Destroys the device in the middle of whatever is running. */
  debugLoseDevice(): Promise<void>;
}
