import type { Message } from "./protocol.ts";

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

/** The part of the worker that only tests use. */
export interface DebugApi {
  /** Opens another device without some features or with the specification's default limits; nothing is loaded afterwards. */
  debugDevice(options: { without?: string[]; defaultLimits?: boolean }): Promise<void>;
  /** Imports a checkpoint folder under `base` and loads it with the given cache type. */
  debugLoad(options: { base: string; kv: "f32" | "f16"; scheme?: "bf16" | "q4a32" | "q4a64" }): Promise<void>;
  debugForward(request: DebugRequest): Promise<DebugForward>;
  /** Greedy tokens with no end of turn. */
  debugGreedy(request: DebugRequest & { maxNewTokens: number }): Promise<number[]>;
  /** Destroys the device in the middle of whatever is running. */
  debugLoseDevice(): Promise<void>;
}
