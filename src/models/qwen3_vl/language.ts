import { type Gpu, Program, type Slice } from "../../gpu/index.ts";
import {
  attention,
  type CacheType,
  cacheRowBytes,
  decodeAttention,
  decodeScratchBytes,
  embedding,
  matmul,
  reserveTileScratch,
  rmsNorm,
  rope,
  type SampleState,
  sample,
  sampleScratchBytes,
  scatter,
} from "../../kernels/index.ts";
import type { Qwen3VLConfig, TextConfig } from "./config.ts";
import { ropeTable } from "./positions.ts";
import type { ImageFeatures, Tap } from "./vision.ts";
import type { GpuWeights } from "./weights.ts";

export interface LanguageOptions {
  /** Tokens that the KV cache holds. */
  capacity: number;
  cacheType: CacheType;
  /** Largest number of tokens of one prefill chunk. */
  maxRows: number;
}

/** Rows of a picture's features that fall into a chunk: feature row `first + i` goes to token `at[i]` of the chunk. */
export interface ChunkImage {
  features: ImageFeatures;
  first: number;
  at: Uint32Array<ArrayBuffer>;
}

/** A run of tokens to append to the cache. */
export interface Chunk {
  ids: Uint32Array<ArrayBuffer>;
  /** [tokens, 4] u32: t, h, w and the slot. */
  positions: Uint32Array<ArrayBuffer>;
  images: ChunkImage[];
}

interface PrefillOptions {
  /** Leave the logits of the chunk's last token in `state.logits`. */
  last: boolean;
  signal?: AbortSignal;
  /** Parity runs: sees the residual stream after each layer, before any DeepStack addition. */
  tap?: Tap;
  /** Parity runs: for each LOGIT_ROWS tokens of the chunk [LOGIT_ROWS, vocab] f32 that receive their logits. */
  logits?: readonly Slice[];
  /** Begins to compile what would run, and runs nothing. */
  onlyCompile?: boolean;
}

/** Rows of a block of logits: few enough that a block of a large vocabulary fits the smallest binding. */
export const LOGIT_ROWS = 64;

/** GPU bytes of the KV cache. */
export function cacheBytes(text: TextConfig, capacity: number, cacheType: CacheType): number {
  return 2 * text.numHiddenLayers * text.numKeyValueHeads * capacity * cacheRowBytes(cacheType, text.headDim);
}

/** GPU bytes of the activations beside cache and weights. */
export function activationBytes(text: TextConfig, { capacity, maxRows }: LanguageOptions): number {
  const q = text.numAttentionHeads * text.headDim;
  const qkv = q + 2 * text.numKeyValueHeads * text.headDim;
  const row = 2 * text.hiddenSize + qkv + 2 * q + 3 * text.intermediateSize + 16;
  const table = capacity * text.headDim;
  const scratch = decodeScratchBytes({ heads: text.numAttentionHeads, d: text.headDim, capacity }) / 4;
  return 4 * (maxRows * row + table + scratch + 2 * text.vocabSize + capacity) + sampleScratchBytes(text.vocabSize);
}

/** What attention in a layer works on, but for which tokens. */
type LayerHeads = Omit<Parameters<typeof decodeAttention>[1], "positions" | "partial" | "o">;

/** The decoder of Qwen3-VL with its KV cache and the buffers of a running generation: qwen3-vl.md §6. */
export class LanguageModel {
  readonly capacity: number;
  readonly maxRows: number;
  /** What the sampler reads and moves on; the session writes it before a generation. */
  readonly state: SampleState;
  #gpu: Gpu;
  #config: Qwen3VLConfig;
  #weights: GpuWeights;
  #cacheType: CacheType;
  #keys: Slice[] = [];
  #values: Slice[] = [];
  #table!: Slice;
  #b!: Record<
    "x" | "n" | "qkv" | "q" | "att" | "gu" | "act" | "ids" | "positions" | "ranges" | "last" | "partial",
    Slice
  >;
  #owned: Slice[] = [];
  #decode: { program: Program; grow: ((keys: number) => void)[] } | undefined;
  #sampleOnly: Program | undefined;

  private constructor(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, options: LanguageOptions) {
    this.#gpu = gpu;
    this.#config = config;
    this.#weights = weights;
    this.capacity = options.capacity;
    this.maxRows = options.maxRows;
    this.#cacheType = options.cacheType;
    this.state = {} as SampleState;
  }

  /** Allocates cache and activations. Throws `OutOfMemory`. */
  static async create(
    gpu: Gpu,
    config: Qwen3VLConfig,
    weights: GpuWeights,
    options: LanguageOptions,
  ): Promise<LanguageModel> {
    const model = new LanguageModel(gpu, config, weights, options);
    await reserveTileScratch(gpu);
    try {
      await gpu.allocating(`the KV cache of ${options.capacity} tokens`, () => model.#allocate());
    } catch (error) {
      model.free();
      throw error;
    }
    return model;
  }

  #allocate(): void {
    const { text } = this.#config;
    const { capacity, maxRows } = this;
    const make = (owner: string, label: string, words: number) => {
      const slice = this.#gpu.storage(owner, label, words * 4);
      this.#owned.push(slice);
      return slice;
    };
    const layer = cacheBytes(text, capacity, this.#cacheType) / 4 / 2 / text.numHiddenLayers;
    for (let i = 0; i < text.numHiddenLayers; i++) {
      this.#keys.push(make("KV cache", `keys ${i}`, layer));
      this.#values.push(make("KV cache", `values ${i}`, layer));
    }
    const table = ropeTable(capacity, text.headDim, text.ropeTheta);
    this.#table = this.#gpu.upload("activations", "rotary table", table);
    this.#owned.push(this.#table);
    const q = text.numAttentionHeads * text.headDim;
    const rows = (label: string, width: number) => make("activations", label, maxRows * width);
    this.#b = {
      x: rows("residual stream", text.hiddenSize),
      n: rows("normed", text.hiddenSize),
      qkv: rows("qkv", q + 2 * text.numKeyValueHeads * text.headDim),
      q: rows("queries", q),
      att: rows("attention", q),
      gu: rows("gate and up", 2 * text.intermediateSize),
      act: rows("mlp", text.intermediateSize),
      ids: rows("token ids", 1),
      positions: rows("positions", 4),
      ranges: rows("ranges", 2),
      last: make("activations", "last row", text.hiddenSize),
      partial: make(
        "activations",
        "split attention",
        decodeScratchBytes({ heads: text.numAttentionHeads, d: text.headDim, capacity }) / 4,
      ),
    };
    Object.assign(this.state, {
      settings: make("sampling", "settings", 17),
      logits: make("sampling", "logits", text.vocabSize),
      seen: make("sampling", "seen tokens", text.vocabSize),
      token: make("sampling", "token", 1),
      positions: make("sampling", "position", 4),
      control: make("sampling", "control", 2),
      ring: make("sampling", "picked tokens", capacity),
      scratch: make("sampling", "candidates", sampleScratchBytes(text.vocabSize) / 4),
    } satisfies SampleState);
  }

  /**
   * Runs one chunk of at most `maxRows` tokens through all layers and appends it to the cache.
   */
  async prefill(chunk: Chunk, options: PrefillOptions): Promise<void> {
    const gpu = this.#gpu;
    const b = this.#b;
    const count = chunk.ids.length;
    const program = new Program(gpu, "prefill");
    const extra: Slice[] = [];
    try {
      gpu.write(b.ids, chunk.ids);
      gpu.write(b.positions, chunk.positions);
      const ranges = new Uint32Array(2 * count);
      for (let i = 0; i < count; i++) ranges[2 * i + 1] = chunk.positions[4 * i + 3]! + 1;
      gpu.write(b.ranges, ranges);
      const images = chunk.images.map((image) => {
        const at = gpu.upload("activations", "image rows", image.at);
        extra.push(at);
        return { ...image, at, rows: image.at.length };
      });
      const keys = chunk.positions[4 * (count - 1) + 3]! + 1;
      const pieces = this.#recordPrefill(program, count, keys, images, options);
      if (options.onlyCompile) for (const _ of pieces);
      else await program.stream(pieces, options.signal);
    } finally {
      program.free();
      for (const slice of extra) gpu.free(slice);
    }
  }

  /** Begins to compile what a chunk of so many tokens runs, a picture's among them. */
  async compilePrefill(tokens: number): Promise<void> {
    const taps = this.#config.vision.deepstackVisualIndexes.length;
    const features = { tokens: 1, features: Array.from({ length: 1 + taps }, () => this.#b.n), bytes: 0 };
    const images = [{ features, first: 0, at: Uint32Array.of(0) }];
    const chunk = { ids: new Uint32Array(tokens), positions: new Uint32Array(4 * tokens), images };
    await this.prefill(chunk, { last: true, onlyCompile: true });
  }

  /** Records a chunk of `count` tokens layer by layer; the last of them sees `keys` keys. */
  *#recordPrefill(
    program: Program,
    count: number,
    keys: number,
    images: { features: ImageFeatures; first: number; at: Slice; rows: number }[],
    options: PrefillOptions,
  ): Generator<undefined> {
    const { text, vision } = this.#config;
    const b = this.#b;
    const place = (feature: number, add: boolean) => {
      for (const { features, first, at, rows } of images) {
        scatter(program, { x: features.features[feature]!, first, at, y: b.x, rows, c: text.hiddenSize, add });
      }
    };
    embedding(program, b.ids, this.#weights.matrix("language.embed"), b.x, count);
    place(0, false);
    for (let i = 0; i < text.numHiddenLayers; i++) {
      this.#block(program, i, count, (heads) => {
        rope(program, { ...heads, tokens: count, positions: b.positions, q: b.q });
        const spans = { ranges: b.ranges, keys: keys - count / 2 };
        attention(program, { ...heads, ...spans, tokens: count, q: b.q, o: b.att });
      });
      options.tap?.(program, "hidden", b.x, count, text.hiddenSize);
      if (i < vision.deepstackVisualIndexes.length) place(1 + i, true);
      yield;
    }
    options.logits?.forEach((slice, i) => {
      const offset = i * LOGIT_ROWS * text.hiddenSize * 4;
      const x = { buffer: b.x.buffer, offset: b.x.offset + offset, size: b.x.size - offset };
      this.#logits(program, x, Math.min(LOGIT_ROWS, count - i * LOGIT_ROWS), slice);
    });
    if (options.last) {
      const width = text.hiddenSize * 4;
      program.copy({ buffer: b.x.buffer, offset: (count - 1) * width, size: width }, b.last, width);
      this.#logits(program, b.last, 1, this.state.logits);
    }
  }

  #heads(i: number): LayerHeads {
    const { text } = this.#config;
    return {
      qkv: this.#b.qkv,
      table: this.#table,
      norms: this.#weights.vector(`language.layers.${i}.qk_norm`),
      eps: text.rmsNormEps,
      sections: text.mropeSection,
      k: this.#keys[i]!,
      v: this.#values[i]!,
      heads: text.numAttentionHeads,
      kvHeads: text.numKeyValueHeads,
      d: text.headDim,
      capacity: this.capacity,
      cacheType: this.#cacheType,
    };
  }

  /** One decoder layer on the first `rows` rows of the residual stream. `attend` records attention from qkv into att and the cache. */
  #block(program: Program, i: number, rows: number, attend: (heads: LayerHeads) => void): void {
    const { text } = this.#config;
    const w = this.#weights;
    const b = this.#b;
    const layer = `language.layers.${i}.`;
    const normed = { x: b.x, m: rows, eps: text.rmsNormEps, normed: b.n };
    w.linear(`${layer}qkv`).forwardNormed(program, { ...normed, gain: w.vector(`${layer}input_norm`), y: b.qkv });
    attend(this.#heads(i));
    w.linear(`${layer}o`).forward(program, { x: b.att, y: b.x, m: rows, accumulate: true });
    const gain = w.vector(`${layer}post_norm`);
    w.linear(`${layer}gate_up`).forwardNormed(program, { ...normed, gain, y: b.act, gateUp: b.gu });
    w.linear(`${layer}down`).forward(program, { x: b.act, y: b.x, m: rows, accumulate: true });
  }

  #logits(program: Program, x: Slice, rows: number, y: Slice): void {
    const { text } = this.#config;
    const head = this.#weights.matrix(text.tieWordEmbeddings ? "language.embed" : "language.head");
    const gain = this.#weights.vector("language.norm");
    const eps = text.rmsNormEps;
    if (rows === 1) {
      matmul(program, { x, y, m: rows, weight: head, norm: { gain, eps } });
      return;
    }
    rmsNorm(program, x, gain, this.#b.n, { rows, c: text.hiddenSize, eps });
    matmul(program, { x: this.#b.n, y, m: rows, weight: head });
  }

  /** The commands of one decoded token: they read token and position from `state` and move both on. Recorded once. */
  decodeProgram(context: number): Program {
    this.#decode ??= this.#recordDecode();
    for (const grow of this.#decode.grow) grow(Math.min(context, this.capacity));
    return this.#decode.program;
  }

  /** Picks a token from the logits that a prefill left. */
  sampleProgram(): Program {
    if (!this.#sampleOnly) {
      this.#sampleOnly = new Program(this.#gpu, "sample");
      sample(this.#sampleOnly, this.state, this.#config.text.vocabSize);
      this.#sampleOnly.seal();
    }
    return this.#sampleOnly;
  }

  #recordDecode() {
    const { text } = this.#config;
    const b = this.#b;
    const grow: ((keys: number) => void)[] = [];
    const program = new Program(this.#gpu, "decode");
    this.#weights.startAdapter(program);
    embedding(program, this.state.token, this.#weights.matrix("language.embed"), b.x, 1);
    for (let i = 0; i < text.numHiddenLayers; i++) {
      this.#block(program, i, 1, (heads) => {
        const { positions } = this.state;
        grow.push(decodeAttention(program, { ...heads, positions, partial: b.partial, o: b.att }).keys);
      });
    }
    this.#logits(program, b.x, 1, this.state.logits);
    sample(program, this.state, text.vocabSize);
    return { program: program.seal(), grow };
  }

  /** Drops recorded commands: they hold the adapter that was on when they were recorded. */
  forgetPrograms(): void {
    this.#decode?.program.free();
    this.#decode = undefined;
  }

  free(): void {
    this.forgetPrograms();
    this.#sampleOnly?.free();
    for (const slice of this.#owned) this.#gpu.free(slice);
    this.#owned = [];
  }
}
