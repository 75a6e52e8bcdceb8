import { type Gpu, type Program, type Slice, storageBytes } from "../../gpu/index.ts";
import {
  attention,
  attentionBackward,
  crossEntropy,
  embedding,
  gather,
  matmul,
  matmulBackward,
  rmsNorm,
  rmsNormBackward,
  rope,
  ropeBackward,
  scatter,
  swiglu,
  swigluBackward,
} from "../../kernels/index.ts";
import type { Qwen3VLConfig, TextConfig } from "./config.ts";
import { LOGIT_ROWS } from "./language.ts";
import type { Dropout } from "./linear.ts";
import { ropeTable } from "./positions.ts";
import { sized, TrainingBuffers } from "./training_buffers.ts";
import type { GpuWeights } from "./weights.ts";

/** A picture's features and where they go: rows `first` … of each, to tokens `at`. */
export interface PlacedPicture {
  /** E, then F_0, F_1, …, [.., hidden] f32. */
  features: readonly Slice[];
  /** Where their gradients go, if anything below learns. */
  gradients?: readonly Slice[];
  first: number;
  at: Slice;
  rows: number;
}

/** A packed micro-batch on the GPU; layouts as in `PackedBatch`. */
export interface LanguageBatch {
  tokens: number;
  ids: Slice;
  positions: Slice;
  ranges: Slice;
  keyRanges: Slice;
  /** Tokens that a token sees on average, for the cost estimate. */
  seen: number;
  pictures: readonly PlacedPicture[];
  trained: number;
  /** [trained] u32, u32, f32 and pairs of f32: rows, labels, weights; losses and hits come out. */
  trainedAt: Slice;
  labels: Slice;
  weights: Slice;
  results: Slice;
}

/** Floats of every activation buffer for `tokens` tokens. */
function layout(text: TextConfig, tokens: number) {
  const h = text.hiddenSize;
  const q = text.numAttentionHeads * text.headDim;
  const kv = text.numKeyValueHeads * text.headDim;
  const ffn = text.intermediateSize;
  const widths = {
    n1: h,
    n2: h,
    mid: h,
    d: h,
    dn: h,
    qkv: q + 2 * kv,
    dqkv: q + 2 * kv,
    q,
    dq: q,
    k: kv,
    dk: q,
    v: kv,
    dv: q,
    att: q,
    datt: q,
    lse: text.numAttentionHeads,
    stats: 2 * text.numAttentionHeads,
    gu: 2 * ffn,
    act: ffn,
    dact: ffn,
    table: text.headDim,
  };
  return { ...sized(widths, tokens), logits: LOGIT_ROWS * text.vocabSize };
}

/** GPU bytes of the decoder's training for sequences of up to `tokens` tokens, beside weights and adapter; and its largest buffer. */
export function languageTrainingBytes(text: TextConfig, tokens: number) {
  const buffers = Object.values(layout(text, tokens)).map((floats) => storageBytes(4 * floats));
  const activations = buffers.reduce((sum, bytes) => sum + bytes, 0);
  const checkpoints = storageBytes(4 * tokens * text.hiddenSize) * (text.numHiddenLayers + 1);
  return { activations, checkpoints, largest: Math.max(...buffers) };
}

/**
 * The decoder forward and backward. Only the input of each block is kept; the rest of a block is made again when its turn
 * comes in the backward pass. Formulas: qwen3-vl.md §6 and §9.7.
 */
export class LanguageTraining {
  readonly maxTokens: number;
  #gpu: Gpu;
  #config: Qwen3VLConfig;
  #weights: GpuWeights;
  #b!: Record<keyof ReturnType<typeof layout>, Slice>;
  /** Input of each block, and the output of the last. */
  #x: Slice[] = [];
  #buffers: TrainingBuffers;

  private constructor(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, maxTokens: number) {
    this.#gpu = gpu;
    this.#buffers = new TrainingBuffers(gpu);
    this.#config = config;
    this.#weights = weights;
    this.maxTokens = maxTokens;
  }

  /** Throws `OutOfMemory`. */
  static async create(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, maxTokens: number) {
    const model = new LanguageTraining(gpu, config, weights, maxTokens);
    try {
      await gpu.allocating(`training on ${maxTokens} tokens at once`, () => model.#allocate());
    } catch (error) {
      model.free();
      throw error;
    }
    return model;
  }

  #allocate(): void {
    const { text } = this.#config;
    this.#b = this.#buffers.activations(layout(text, this.maxTokens));
    this.#gpu.write(this.#b.table, ropeTable(this.maxTokens, text.headDim, text.ropeTheta));
    this.#x = this.#buffers.checkpoints(text.numHiddenLayers, this.maxTokens * text.hiddenSize);
  }

  /**
   * Records embedding, all blocks and the loss of the trained tokens, block by block; with `backward`, what their gradient needs beside it.
   */
  *forward(
    program: Program,
    batch: LanguageBatch,
    options: { backward: boolean; dropout?: Dropout | undefined },
  ): Generator<undefined> {
    const { text } = this.#config;
    const c = text.hiddenSize;
    const place = (feature: number, y: Slice, add: boolean) => {
      for (const { features, first, at, rows } of batch.pictures) {
        scatter(program, { x: features[feature]!, first, at, y, rows, c, add });
      }
    };
    embedding(program, batch.ids, this.#weights.matrix("language.embed"), this.#x[0]!, batch.tokens);
    place(0, this.#x[0]!, false);
    for (let i = 0; i < text.numHiddenLayers; i++) {
      this.#blockForward(program, i, batch, this.#x[i + 1]!, options.dropout);
      this.#layer(i, "down").forward(program, {
        x: this.#b.act,
        y: this.#x[i + 1]!,
        m: batch.tokens,
        accumulate: true,
        dropout: options.dropout,
      });
      if (i < this.#config.vision.deepstackVisualIndexes.length) place(1 + i, this.#x[i + 1]!, true);
      yield;
    }
    this.#loss(program, batch, options.backward);
  }

  /** Records the backward pass after `forward` with `backward`, block by block: gradients of the pairs, and of the pictures that want theirs. */
  *backward(program: Program, batch: LanguageBatch, dropout: Dropout | undefined): Generator<undefined> {
    const { text, vision } = this.#config;
    const collect = (feature: number) => {
      for (const { gradients, first, at, rows } of batch.pictures) {
        if (!gradients) continue;
        gather(program, { x: this.#b.d, first, at, y: gradients[feature]!, rows, c: text.hiddenSize, add: false });
      }
    };
    const wantsInput = batch.pictures.some(({ gradients }) => gradients !== undefined);
    for (let i = text.numHiddenLayers - 1; i >= 0; i--) {
      // A feature is added to the block's output, so its gradient is that of the stream right there.
      if (i < vision.deepstackVisualIndexes.length) collect(1 + i);
      this.#blockForward(program, i, batch, this.#b.mid, dropout);
      this.#blockBackward(program, i, batch, wantsInput || i > 0, dropout);
      yield;
    }
    if (wantsInput) collect(0);
  }

  #layer(i: number, name: string) {
    return this.#weights.linear(`language.layers.${i}.${name}`);
  }

  #heads(batch: LanguageBatch) {
    const { text } = this.#config;
    return {
      tokens: batch.tokens,
      heads: text.numAttentionHeads,
      kvHeads: text.numKeyValueHeads,
      d: text.headDim,
      capacity: this.maxTokens,
    };
  }

  #rope(i: number, batch: LanguageBatch) {
    const { text } = this.#config;
    return {
      ...this.#heads(batch),
      qkv: this.#b.qkv,
      table: this.#b.table,
      positions: batch.positions,
      norms: this.#weights.vector(`language.layers.${i}.qk_norm`),
      eps: text.rmsNormEps,
      sections: text.mropeSection,
    };
  }

  /** Block i up to the input of `down`. `out` becomes the residual stream after attention; all that lies between stays in its buffers. */
  #blockForward(program: Program, i: number, batch: LanguageBatch, out: Slice, dropout: Dropout | undefined): void {
    const { text } = this.#config;
    const b = this.#b;
    const m = batch.tokens;
    const norm = { rows: m, c: text.hiddenSize, eps: text.rmsNormEps };
    const vector = (name: string) => this.#weights.vector(`language.layers.${i}.${name}`);
    program.copy(this.#x[i]!, out, m * text.hiddenSize * 4);
    rmsNorm(program, this.#x[i]!, vector("input_norm"), b.n1, norm);
    this.#layer(i, "qkv").forward(program, { x: b.n1, y: b.qkv, m, dropout });
    rope(program, { ...this.#rope(i, batch), cacheType: "f32", q: b.q, k: b.k, v: b.v });
    attention(program, {
      ...this.#heads(batch),
      cacheType: "f32",
      q: b.q,
      k: b.k,
      v: b.v,
      ranges: batch.ranges,
      o: b.att,
      lse: b.lse,
      keys: batch.seen,
    });
    this.#layer(i, "o").forward(program, { x: b.att, y: out, m, accumulate: true, dropout });
    rmsNorm(program, out, vector("post_norm"), b.n2, norm);
    this.#layer(i, "gate_up").forward(program, { x: b.n2, y: b.gu, m, dropout });
    swiglu(program, b.gu, b.act, { rows: m, n: text.intermediateSize });
  }

  /** The same block backward: d is the gradient of its output and becomes that of its input. The order is that of the forward pass, reversed. */
  #blockBackward(
    program: Program,
    i: number,
    batch: LanguageBatch,
    wantsInput: boolean,
    dropout: Dropout | undefined,
  ): void {
    const { text } = this.#config;
    const b = this.#b;
    const m = batch.tokens;
    const norm = { rows: m, c: text.hiddenSize, eps: text.rmsNormEps, accumulate: true };
    const vector = (name: string) => this.#weights.vector(`language.layers.${i}.${name}`);
    this.#layer(i, "down").backward(program, { x: b.act, dy: b.d, dx: b.dact, m, dropout });
    swigluBackward(program, b.dact, b.gu, { rows: m, n: text.intermediateSize });
    this.#layer(i, "gate_up").backward(program, { x: b.n2, dy: b.gu, dx: b.dn, m, dropout });
    rmsNormBackward(program, { ...norm, x: b.mid, w: vector("post_norm"), dy: b.dn, dx: b.d });
    this.#layer(i, "o").backward(program, { x: b.att, dy: b.d, dx: b.datt, m, dropout });
    attentionBackward(program, {
      ...this.#heads(batch),
      keys: m,
      seen: batch.seen,
      q: b.q,
      k: b.k,
      v: b.v,
      o: b.att,
      lse: b.lse,
      ranges: batch.ranges,
      keyRanges: batch.keyRanges,
      dout: b.datt,
      stats: b.stats,
      dq: b.dq,
      dk: b.dk,
      dv: b.dv,
    });
    ropeBackward(program, { ...this.#rope(i, batch), dq: b.dq, dk: b.dk, dv: b.dv, dqkv: b.dqkv });
    const dx = wantsInput ? b.dn : undefined;
    this.#layer(i, "qkv").backward(program, { x: b.n1, dy: b.dqkv, dx, m, dropout });
    if (dx) rmsNormBackward(program, { ...norm, x: this.#x[i]!, w: vector("input_norm"), dy: dx, dx: b.d });
  }

  /** Final norm, head and cross-entropy of the trained rows, a few at a time; with `backward`, d becomes the gradient of the stream. */
  #loss(program: Program, batch: LanguageBatch, backward: boolean): void {
    const { text } = this.#config;
    const b = this.#b;
    const [c, rows, vocab] = [text.hiddenSize, batch.trained, text.vocabSize];
    const head = this.#weights.matrix(text.tieWordEmbeddings ? "language.embed" : "language.head");
    const w = this.#weights.vector("language.norm");
    const norm = { rows, c, eps: text.rmsNormEps };
    const stream = this.#x[text.numHiddenLayers]!;
    // Between the blocks' passes their buffers are free: mid holds the trained rows, n1 their norm, dn and n2 the gradients.
    gather(program, { x: stream, first: 0, at: batch.trainedAt, y: b.mid, rows, c, add: false });
    rmsNorm(program, b.mid, w, b.n1, norm);
    for (let row = 0; row < rows; row += LOGIT_ROWS) {
      const m = Math.min(LOGIT_ROWS, rows - row);
      matmul(program, { x: from(b.n1, row * c), y: b.logits, m, weight: head });
      crossEntropy(program, {
        logits: b.logits,
        labels: from(batch.labels, row),
        weights: from(batch.weights, row),
        results: from(batch.results, 2 * row),
        rows: m,
        vocab,
        gradient: backward,
      });
      if (backward) matmulBackward(program, { dy: b.logits, dx: from(b.dn, row * c), m, weight: head });
    }
    if (!backward) return;
    rmsNormBackward(program, { ...norm, x: b.mid, w, dy: b.dn, dx: b.n2 });
    program.clear(b.d, batch.tokens * c * 4);
    scatter(program, { x: b.n2, first: 0, at: batch.trainedAt, y: b.d, rows, c, add: false });
  }

  free(): void {
    this.#buffers.free();
  }
}

/** What lies behind `elements`, a multiple of 64. */
function from(slice: Slice, elements: number): Slice {
  return { buffer: slice.buffer, offset: slice.offset + elements * 4, size: slice.size - elements * 4 };
}
