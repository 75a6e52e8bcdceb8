import { TabTuneError } from "../errors.ts";
import type { Gpu } from "../gpu/index.ts";
import { packSampleSettings, type SampleSettings } from "../kernels/index.ts";
import { type ImageFeatures, type Qwen3VL, ropePositions } from "../models/index.ts";
import { commonPrefix, type Prompt, promptChunks, type TokenKey, tokenKeys } from "./prompt.ts";

export interface GenerateOptions {
  settings: SampleSettings;
  /** Stop after this many tokens in all, those of `generated` included. */
  maxTokens: number;
  signal?: AbortSignal;
  onProgress?: (stage: "encoding" | "prefill", done: number, total: number) => void;
  /** New tokens, as they are read back. Return true to stop (a stop string was found). */
  onTokens: (ids: number[]) => boolean;
}

export interface GenerateTimes {
  promptTokens: number;
  reusedTokens: number;
  newTokens: number;
  encodeMilliseconds: number;
  prefillMilliseconds: number;
  /** From the call to the first token on the CPU. */
  firstTokenMilliseconds: number;
  /** From the first token to the last one. */
  decodeMilliseconds: number;
  contextUsed: number;
}

export type Finish = "stop" | "length" | "cancelled" | "context";

/** Submits of decoded tokens that may be under way at one time. */
const IN_FLIGHT = 3;
/** A submit of several tokens should take about this long. */
const BATCH_MILLISECONDS = 30;
const MAX_BATCH = 8;
/** All submits under way together: what is left of the 200 ms in which a cancel must be seen goes to reading back. */
const WAITING_MILLISECONDS = 120;

/** Bytes of picture features that stay on the GPU between turns. */
const FEATURE_BUDGET = 512 * 2 ** 20;

/**
 * One timeline of tokens and pictures on the GPU. A new prompt reuses the longest prefix that the KV cache already holds,
 * and pictures are encoded once each, so that the next turn costs only what is new.
 */
export class Session {
  #gpu: Gpu;
  #model: Qwen3VL;
  /** What the cache holds, slot by slot. */
  #cached: TokenKey[] = [];
  /** Least recently used first. */
  #features = new Map<string, ImageFeatures>();
  #staging: GPUBuffer[] = [];
  #milliseconds = 50;

  constructor(gpu: Gpu, model: Qwen3VL) {
    this.#gpu = gpu;
    this.#model = model;
    for (let i = 0; i < IN_FLIGHT; i++) {
      this.#staging.push(gpu.staging("sampling", "token read-back", 8 + 4 * MAX_BATCH));
    }
  }

  /**
   * Answers a prompt. Picked tokens are appended to `generated`; what it already holds counts as the start of the answer,
   * so that an answer can be continued after a lost device.
   * Throws `ContextFull`, `OutOfMemory`, `DeviceLost`; a fired signal resolves with finish "cancelled".
   */
  async generate(
    prompt: Prompt,
    generated: number[],
    options: GenerateOptions,
  ): Promise<{ finish: Finish; times: GenerateTimes }> {
    const { capacity } = this.#model.language;
    const started = performance.now();
    const times: GenerateTimes = {
      promptTokens: prompt.ids.length,
      reusedTokens: 0,
      newTokens: 0,
      encodeMilliseconds: 0,
      prefillMilliseconds: 0,
      firstTokenMilliseconds: 0,
      decodeMilliseconds: 0,
      contextUsed: prompt.ids.length,
    };
    const full: Prompt = { ids: [...prompt.ids, ...generated], images: prompt.images };
    if (full.ids.length >= capacity) {
      throw new TabTuneError(
        "ContextFull",
        `The conversation has ${full.ids.length} tokens and the context holds ${capacity}. Delete earlier turns or pictures, lower a picture's pixel budget, or load the model with a longer context.`,
      );
    }
    let finish: Finish;
    try {
      await this.#prefill(full, times, options);
      finish = await this.#decode(full, generated, times, started, options);
    } catch (error) {
      if (!(error instanceof Error && error.name === "Cancelled")) throw error;
      finish = "cancelled";
    }
    times.newTokens = generated.length;
    times.contextUsed = Math.min(capacity, prompt.ids.length + generated.length);
    return { finish, times };
  }

  async #prefill(prompt: Prompt, times: GenerateTimes, options: GenerateOptions): Promise<void> {
    const keys = tokenKeys(prompt);
    // The last token is always run again: its logits are what the answer starts from.
    const reused = Math.min(commonPrefix(this.#cached, keys), keys.length - 1);
    times.reusedTokens = reused;
    this.#cached.length = reused;
    const encodeStart = performance.now();
    const images = await this.#encodeMissing(prompt, reused, options);
    const prefillStart = performance.now();
    times.encodeMilliseconds = prefillStart - encodeStart;
    const { positions } = ropePositions(
      prompt.ids,
      prompt.images.map((image) => image.grid),
      this.#model.config,
    );
    const { signal } = options;
    for (const { chunk, to } of promptChunks(prompt, positions, images, reused, this.#model.language.maxRows)) {
      await this.#model.language.prefill(chunk, { last: to === keys.length, ...(signal ? { signal } : {}) });
      this.#cached.push(...keys.slice(this.#cached.length, to));
      options.onProgress?.("prefill", to - reused, keys.length - reused);
    }
    times.prefillMilliseconds = performance.now() - prefillStart;
  }

  /** Features of every picture that has a token beyond the reused prefix; encodes what is not cached. */
  async #encodeMissing(prompt: Prompt, reused: number, options: GenerateOptions): Promise<Map<string, ImageFeatures>> {
    const needed = prompt.images.filter(({ runs }) => runs.some(({ start, tokens }) => start + tokens > reused));
    const found = new Map<string, ImageFeatures>();
    for (const { key, features } of needed) {
      const cached = this.#features.get(key);
      if (cached) {
        this.#features.delete(key);
        this.#features.set(key, cached);
      }
      const known = features ?? cached;
      if (known) found.set(key, known);
    }
    const missing = needed.filter(({ key }, i) => !found.has(key) && needed.findIndex((n) => n.key === key) === i);
    for (const [i, image] of missing.entries()) {
      options.onProgress?.("encoding", i, missing.length);
      const { signal } = options;
      const features = await this.#model.vision.encode(await image.pixels(signal), image.grid, {
        ...(signal ? { signal } : {}),
        onProgress: (share) => options.onProgress?.("encoding", i + share, missing.length),
      });
      found.set(image.key, features);
      this.#features.set(image.key, features);
    }
    this.#evict(new Set(found.keys()));
    return found;
  }

  #evict(inUse: Set<string>): void {
    let total = 0;
    for (const { bytes } of this.#features.values()) total += bytes;
    for (const [key, { features, bytes }] of this.#features) {
      if (total <= FEATURE_BUDGET) return;
      if (inUse.has(key)) continue;
      for (const slice of features) this.#gpu.free(slice);
      this.#features.delete(key);
      total -= bytes;
    }
  }

  /** Puts the state buffers where the sampler expects them before the first token. */
  #prepare(prompt: Prompt, generated: readonly number[], options: GenerateOptions): void {
    const { state } = this.#model.language;
    const { delta } = ropePositions(
      prompt.ids,
      prompt.images.map((image) => image.grid),
      this.#model.config,
    );
    const seen = new Uint32Array(this.#model.config.text.vocabSize);
    for (const id of prompt.ids) seen[id] = 1;
    for (const id of generated) seen[id] = 3;
    // The sampler moves the position on by one when it picks: it starts at the last token of the prompt.
    const slot = prompt.ids.length - 1;
    this.#gpu.write(state.settings, packSampleSettings(options.settings));
    this.#gpu.write(state.seen, seen);
    this.#gpu.write(state.positions, new Uint32Array([slot + delta, slot + delta, slot + delta, slot]));
    this.#gpu.write(state.control, new Uint32Array([generated.length, 0]));
  }

  async #decode(
    prompt: Prompt,
    generated: number[],
    times: GenerateTimes,
    started: number,
    options: GenerateOptions,
  ): Promise<Finish> {
    const { language } = this.#model;
    const base = generated.length;
    const promptLength = prompt.ids.length;
    // Tokens that may still be picked: the last one needs no slot of its own.
    const room = Math.min(options.maxTokens - base, language.capacity - promptLength + 1);
    if (room <= 0) return "length";
    this.#prepare(prompt, generated, options);
    await Promise.all(
      [language.sampleProgram(), language.decodeProgram(promptLength)].map((program) => program.ready()),
    );
    let submitted = 0;
    let read = 0;
    let firstAt = 0;
    let lastAt = 0;
    let finish: Finish | undefined;
    let broken: unknown;
    const pending: { count: number; result: Promise<{ ids: Uint32Array; picked: number; done: number }> }[] = [];

    const submit = (count: number, sampleOnly: boolean) => {
      const encoder = this.#gpu.device.createCommandEncoder({ label: "decode" });
      const program = sampleOnly ? language.sampleProgram() : language.decodeProgram(promptLength + submitted + count);
      for (let i = 0; i < count; i++) program.encode(encoder);
      const result = this.#readBack(encoder, base + submitted, count);
      result.catch(() => {});
      pending.push({ count, result });
      submitted += count;
    };

    submit(1, true);
    for (;;) {
      // Keep the queue filled while something may still come: token loop and read-back overlap.
      while (finish === undefined && pending.length < this.#inFlight() && submitted < room && read > 0) {
        submit(Math.min(this.#batch(), room - submitted), false);
      }
      const next = pending.shift();
      if (!next) break;
      const { count, result } = next;
      const { ids, picked, done } = await result;
      const now = performance.now();
      if (finish !== undefined) continue;
      const fresh = Array.from(ids.subarray(0, Math.min(count, picked - base - read)));
      if (read > 0 && fresh.length > 0)
        this.#milliseconds = 0.7 * this.#milliseconds + (0.3 * (now - lastAt)) / fresh.length;
      if (read === 0) firstAt = now;
      lastAt = now;
      read += fresh.length;
      generated.push(...fresh);
      const stopped = options.onTokens(fresh);
      if (done === 2) {
        // Thrown once the submits under way are read back: their buffers must be free for the next answer.
        finish = "stop";
        broken = new TabTuneError(
          "BadCheckpoint",
          "The model produced numbers that are not finite. The weights are damaged, or this device computes wrongly: run the self-test, then verify the model.",
        );
      } else if (done === 1 || stopped) finish = "stop";
      else if (options.signal?.aborted) finish = "cancelled";
      else if (read >= room) finish = base + read >= options.maxTokens ? "length" : "context";
    }
    if (broken) throw broken;
    times.firstTokenMilliseconds = firstAt - started;
    times.decodeMilliseconds = lastAt - firstAt;
    // Every picked token but the last has been run and is in the cache.
    this.#cached = [...this.#cached.slice(0, promptLength), ...generated.slice(base, base + Math.max(0, read - 1))];
    return finish ?? "length";
  }

  /** On a slow device fewer submits wait, since a cancel has to wait for them. */
  #inFlight(): number {
    const submits = Math.floor(WAITING_MILLISECONDS / (this.#batch() * this.#milliseconds));
    return Math.max(1, Math.min(IN_FLIGHT, submits));
  }

  #batch(): number {
    return Math.max(1, Math.min(MAX_BATCH, Math.floor(BATCH_MILLISECONDS / this.#milliseconds)));
  }

  #ringAt = 0;

  /** Copies control words and `count` picked tokens from `first` on into the next staging buffer, submits and maps it. */
  async #readBack(encoder: GPUCommandEncoder, first: number, count: number) {
    const { control, ring } = this.#model.language.state;
    const staging = this.#staging[this.#ringAt]!;
    this.#ringAt = (this.#ringAt + 1) % IN_FLIGHT;
    encoder.copyBufferToBuffer(control.buffer, control.offset, staging, 0, 8);
    encoder.copyBufferToBuffer(ring.buffer, ring.offset + 4 * first, staging, 8, 4 * count);
    this.#gpu.device.queue.submit([encoder.finish()]);
    await this.#gpu.guard(staging.mapAsync(GPUMapMode.READ, 0, 8 + 4 * count));
    const words = new Uint32Array(staging.getMappedRange(0, 8 + 4 * count).slice(0));
    staging.unmap();
    return { picked: words[0]!, done: words[1]!, ids: words.subarray(2) };
  }

  /** Takes the cache to hold these tokens, whatever it holds: for measurements of speed alone. */
  assumeCached(prompt: Prompt): void {
    this.#cached = tokenKeys(prompt);
  }

  /** Forgets the cache, for a conversation that shares nothing or another adapter; features of pictures stay unless they too are stale. */
  reset({ pictures = false } = {}): void {
    this.#cached = [];
    if (pictures) this.#freeFeatures();
  }

  #freeFeatures(): void {
    for (const { features } of this.#features.values()) for (const slice of features) this.#gpu.free(slice);
    this.#features.clear();
  }

  free(): void {
    this.#freeFeatures();
    for (const buffer of this.#staging) this.#gpu.free(buffer);
    this.#staging = [];
  }
}
