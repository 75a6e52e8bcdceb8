import { type Gpu, type Program, type Slice, storageBytes } from "../../gpu/index.ts";
import {
  attention,
  attentionBackward,
  gelu,
  geluBackward,
  interpolate,
  layerNorm,
  layerNormBackward,
  rope,
  ropeBackward,
} from "../../kernels/index.ts";
import type { Qwen3VLConfig, VisionConfig } from "./config.ts";
import type { Dropout } from "./linear.ts";
import { sized, TrainingBuffers } from "./training_buffers.ts";
import { type Grid, VISION_EPS, type VisionTables, visionTables } from "./vision_inputs.ts";
import type { GpuWeights } from "./weights.ts";

/** All pictures of a micro-batch, one after the other. */
export interface VisionBatch extends VisionTables {
  /** [patches, channels·temporal·patch²] f32. */
  pixels: Slice;
  patches: number;
  /** Patches that a patch sees on average. */
  seen: number;
}

/** Floats of every activation buffer for `patches` patches. */
function layout(vision: VisionConfig, patches: number) {
  const v = vision.hiddenSize;
  const widths = {
    n1: v,
    n2: v,
    mid: v,
    d: v,
    dn: v,
    qkv: 3 * v,
    dqkv: 3 * v,
    q: v,
    dq: v,
    k: v,
    dk: v,
    v,
    dv: v,
    att: v,
    datt: v,
    lse: vision.numHeads,
    stats: 2 * vision.numHeads,
    // A merger's rows are four patches wide, so it needs no more than these.
    z: Math.max(v, vision.intermediateSize),
    act: Math.max(v, vision.intermediateSize),
    dact: Math.max(v, vision.intermediateSize),
  };
  return sized(widths, patches);
}

/** GPU bytes of the tower's training for up to `patches` patches at once, beside weights and adapter; and its largest buffer. */
export function visionTrainingBytes(vision: VisionConfig, patches: number) {
  const buffers = Object.values(layout(vision, patches)).map((floats) => storageBytes(4 * floats));
  const activations = buffers.reduce((sum, bytes) => sum + bytes, 0);
  const tokens = patches / vision.spatialMergeSize ** 2;
  // E and each tap's features, and the gradients of all of them.
  const features = 2 * storageBytes(4 * tokens * vision.outHiddenSize) * (1 + vision.deepstackVisualIndexes.length);
  const checkpoints = storageBytes(4 * patches * vision.hiddenSize) * (vision.depth + 1);
  return { activations: activations + features, checkpoints, largest: Math.max(...buffers) };
}

/** The tower and its mergers forward and backward, a block's input kept and the rest made again. Formulas: qwen3-vl.md §5 and §9.7. */
export class VisionTraining {
  readonly maxPatches: number;
  /** E, F_0, F_1, … of all pictures, [tokens, D] f32, and their gradients. */
  readonly features: Slice[] = [];
  readonly gradients: Slice[] = [];
  #gpu: Gpu;
  #config: Qwen3VLConfig;
  #weights: GpuWeights;
  #b!: Record<keyof ReturnType<typeof layout>, Slice>;
  #x: Slice[] = [];
  #buffers: TrainingBuffers;

  private constructor(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, maxPatches: number) {
    this.#gpu = gpu;
    this.#buffers = new TrainingBuffers(gpu);
    this.#config = config;
    this.#weights = weights;
    this.maxPatches = maxPatches;
  }

  /** Throws `OutOfMemory`. */
  static async create(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, maxPatches: number) {
    const model = new VisionTraining(gpu, config, weights, maxPatches);
    try {
      await gpu.allocating(`training the vision tower on ${maxPatches} patches at once`, () => model.#allocate());
    } catch (error) {
      model.free();
      throw error;
    }
    return model;
  }

  #allocate(): void {
    const { vision } = this.#config;
    this.#b = this.#buffers.activations(layout(vision, this.maxPatches));
    this.#x = this.#buffers.checkpoints(vision.depth, this.maxPatches * vision.hiddenSize);
    const make = (owner: string, label: string, floats: number) => this.#buffers.make(owner, label, floats);
    const tokens = this.maxPatches / vision.spatialMergeSize ** 2;
    for (let j = 0; j <= vision.deepstackVisualIndexes.length; j++) {
      this.features.push(make("image features", "image features", tokens * vision.outHiddenSize));
      this.gradients.push(make("training activations", "feature gradients", tokens * vision.outHiddenSize));
    }
  }

  /** Uploads pictures; `keep` receives every buffer that must be freed after the run. */
  upload(
    pictures: readonly { pixels: Float32Array<ArrayBuffer>; grid: Grid }[],
    keep: (s: Slice) => Slice,
  ): VisionBatch {
    const patches = pictures.reduce((sum, { grid: [t, h, w] }) => sum + t * h * w, 0);
    const pairs = pictures.reduce((sum, { grid: [t, h, w] }) => sum + t * (h * w) ** 2, 0);
    const width = pictures[0]!.pixels.length / pictures[0]!.grid.reduce((a, b) => a * b);
    const pixels = new Float32Array(patches * width);
    let at = 0;
    for (const picture of pictures) {
      pixels.set(picture.pixels, at);
      at += picture.pixels.length;
    }
    const grids = pictures.map(({ grid }) => grid);
    const upload = (label: string, data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>) =>
      keep(this.#gpu.upload("training activations", label, data));
    const tables = visionTables(this.#config.vision, grids, upload);
    return { ...tables, pixels: upload("pixels", pixels), patches, seen: pairs / patches };
  }

  /** Records the tower: `features` receives E and the DeepStack features. */
  forward(program: Program, batch: VisionBatch, dropout: Dropout | undefined): void {
    const { vision } = this.#config;
    const b = this.#b;
    const m = batch.patches;
    this.#weights.linear("vision.patch").forward(program, { x: batch.pixels, y: this.#x[0]!, m });
    const positions = this.#weights.vector("vision.positions");
    interpolate(program, positions, batch.index, batch.weight, this.#x[0]!, { rows: m, c: vision.hiddenSize });
    for (let i = 0; i < vision.depth; i++) {
      const out = this.#x[i + 1]!;
      this.#blockForward(program, i, batch, out, dropout);
      this.#layer(i, "fc2").forward(program, { x: b.act, y: out, m, accumulate: true, dropout });
      const j = vision.deepstackVisualIndexes.indexOf(i);
      if (j >= 0) this.#mergerForward(program, j, batch, dropout, this.features[1 + j]!);
    }
    this.#mergerForward(program, undefined, batch, dropout, this.features[0]!);
  }

  /** Records the backward pass from `gradients`. The lowest block needs no gradient of its input. */
  backward(program: Program, batch: VisionBatch, dropout: Dropout | undefined): void {
    const { vision } = this.#config;
    program.clear(this.#b.d, batch.patches * vision.hiddenSize * 4);
    this.#mergerBackward(program, undefined, batch, dropout);
    for (let i = vision.depth - 1; i >= 0; i--) {
      const j = vision.deepstackVisualIndexes.indexOf(i);
      if (j >= 0) this.#mergerBackward(program, j, batch, dropout);
      this.#blockForward(program, i, batch, this.#b.mid, dropout);
      this.#blockBackward(program, i, batch, dropout);
    }
  }

  #layer(i: number, name: string) {
    return this.#weights.linear(`vision.blocks.${i}.${name}`);
  }

  #heads(batch: VisionBatch) {
    const { numHeads, hiddenSize } = this.#config.vision;
    return {
      tokens: batch.patches,
      heads: numHeads,
      kvHeads: numHeads,
      d: hiddenSize / numHeads,
      capacity: this.maxPatches,
    };
  }

  /** Block i up to the input of fc2; `out` becomes the trunk after attention. */
  #blockForward(program: Program, i: number, batch: VisionBatch, out: Slice, dropout: Dropout | undefined): void {
    const { vision } = this.#config;
    const b = this.#b;
    const m = batch.patches;
    const shape = { rows: m, c: vision.hiddenSize, eps: VISION_EPS };
    const vector = (name: string) => this.#weights.vector(`vision.blocks.${i}.${name}`);
    program.copy(this.#x[i]!, out, m * vision.hiddenSize * 4);
    layerNorm(program, this.#x[i]!, vector("norm1"), vector("norm1.bias"), b.n1, shape);
    this.#layer(i, "qkv").forward(program, { x: b.n1, y: b.qkv, m, dropout });
    const { table, positions, ranges } = batch;
    rope(program, { ...this.#heads(batch), qkv: b.qkv, cacheType: "f32", table, positions, q: b.q, k: b.k, v: b.v });
    attention(program, {
      ...this.#heads(batch),
      cacheType: "f32",
      q: b.q,
      k: b.k,
      v: b.v,
      ranges,
      o: b.att,
      lse: b.lse,
      keys: batch.seen,
    });
    this.#layer(i, "proj").forward(program, { x: b.att, y: out, m, accumulate: true, dropout });
    layerNorm(program, out, vector("norm2"), vector("norm2.bias"), b.n2, shape);
    this.#layer(i, "fc1").forward(program, { x: b.n2, y: b.z, m, dropout });
    gelu(program, b.z, b.act, { act: "gelu_tanh", count: m * vision.intermediateSize });
  }

  #blockBackward(program: Program, i: number, batch: VisionBatch, dropout: Dropout | undefined): void {
    const { vision } = this.#config;
    const b = this.#b;
    const m = batch.patches;
    const norm = { rows: m, c: vision.hiddenSize, eps: VISION_EPS, accumulate: true };
    const vector = (name: string) => this.#weights.vector(`vision.blocks.${i}.${name}`);
    this.#layer(i, "fc2").backward(program, { x: b.act, dy: b.d, dx: b.dact, m, dropout });
    geluBackward(program, b.z, b.dact, { act: "gelu_tanh", count: m * vision.intermediateSize });
    this.#layer(i, "fc1").backward(program, { x: b.n2, dy: b.dact, dx: b.dn, m, dropout });
    layerNormBackward(program, { ...norm, x: b.mid, w: vector("norm2"), dy: b.dn, dx: b.d });
    this.#layer(i, "proj").backward(program, { x: b.att, dy: b.d, dx: b.datt, m, dropout });
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
      // Every patch of a segment sees every other: who sees a patch is whom it sees.
      keyRanges: batch.ranges,
      dout: b.datt,
      stats: b.stats,
      dq: b.dq,
      dk: b.dk,
      dv: b.dv,
    });
    const { table, positions } = batch;
    const heads = this.#heads(batch);
    ropeBackward(program, { ...heads, qkv: b.qkv, table, positions, dq: b.dq, dk: b.dk, dv: b.dv, dqkv: b.dqkv });
    const dx = i > 0 ? b.dn : undefined;
    this.#layer(i, "qkv").backward(program, { x: b.n1, dy: b.dqkv, dx, m, dropout });
    if (dx) layerNormBackward(program, { ...norm, x: this.#x[i]!, w: vector("norm1"), dy: dx, dx: b.d });
  }

  /** Merger j of DeepStack, or the final one: its input, the shape of its norm, its layers. */
  #merger(j: number | undefined, batch: VisionBatch) {
    const { vision } = this.#config;
    const four = vision.spatialMergeSize ** 2;
    const c = vision.hiddenSize;
    const prefix = j === undefined ? "vision.merger." : `vision.deepstack.${j}.`;
    const m = batch.patches / four;
    return {
      x: this.#x[j === undefined ? vision.depth : vision.deepstackVisualIndexes[j]! + 1]!,
      // The final merger norms each patch, the DeepStack mergers the four patches of a token together.
      shape: j === undefined ? { rows: batch.patches, c, eps: VISION_EPS } : { rows: m, c: c * four, eps: VISION_EPS },
      w: this.#weights.vector(`${prefix}norm`),
      bias: this.#weights.vector(`${prefix}norm.bias`),
      fc1: this.#weights.linear(`${prefix}fc1`),
      fc2: this.#weights.linear(`${prefix}fc2`),
      m,
      count: batch.patches * c,
    };
  }

  #mergerForward(program: Program, j: number | undefined, batch: VisionBatch, dropout: Dropout | undefined, y?: Slice) {
    const b = this.#b;
    const { x, shape, w, bias, fc1, fc2, m, count } = this.#merger(j, batch);
    layerNorm(program, x, w, bias, b.n1, shape);
    fc1.forward(program, { x: b.n1, y: b.z, m, dropout });
    gelu(program, b.z, b.act, { act: "gelu_erf", count });
    if (y) fc2.forward(program, { x: b.act, y, m, dropout });
  }

  #mergerBackward(program: Program, j: number | undefined, batch: VisionBatch, dropout: Dropout | undefined): void {
    const b = this.#b;
    const { x, shape, w, fc1, fc2, m, count } = this.#merger(j, batch);
    this.#mergerForward(program, j, batch, dropout);
    const dy = this.gradients[j === undefined ? 0 : 1 + j]!;
    fc2.backward(program, { x: b.act, dy, dx: b.dact, m, dropout });
    geluBackward(program, b.z, b.dact, { act: "gelu_erf", count });
    fc1.backward(program, { x: b.n1, dy: b.dact, dx: b.dn, m, dropout });
    layerNormBackward(program, { ...shape, x, w, dy: b.dn, dx: b.d, accumulate: true });
  }

  free(): void {
    this.#buffers.free();
  }
}
