import { type Gpu, Program, type Slice } from "../../gpu/index.ts";
import { attention, interpolate, layerNorm, rope } from "../../kernels/index.ts";
import type { Qwen3VLConfig } from "./config.ts";
import { type Grid, VISION_EPS, type VisionInputs, visionInputs } from "./vision_inputs.ts";
import type { GpuWeights } from "./weights.ts";

/** A look at an intermediate result, for parity runs: it may record copies. */
export type Tap = (program: Program, name: string, slice: Slice, rows: number, cols: number) => void;

/** What the tower makes of one picture (or one video): E and the DeepStack features, each [tokens, D] f32 on the GPU. */
export interface ImageFeatures {
  tokens: number;
  /** E, then F_0, F_1, …: qwen3-vl.md §5. */
  features: Slice[];
  bytes: number;
}

/** Patches whose QKV and MLP rows are in memory at one time. A multiple of 64 and of 4. */
export const VISION_CHUNK = 1024;

/** Largest number of patches that the tower can encode in one go on this device. */
export function maxPatches(gpu: Pick<Gpu, "maxBytes">, config: Qwen3VLConfig): number {
  const { vision } = config;
  const patch = vision.inChannels * vision.temporalPatchSize * vision.patchSize ** 2;
  const widest = Math.max(patch, vision.hiddenSize);
  return Math.floor(gpu.maxBytes / 4 / widest / 64) * 64;
}

/** The vision tower of Qwen3-VL with its mergers: qwen3-vl.md §5. */
export class VisionTower {
  /** Most rows of a linear layer's input at one time. */
  readonly maxRows = VISION_CHUNK;
  #gpu: Gpu;
  #config: Qwen3VLConfig;
  #weights: GpuWeights;

  constructor(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights) {
    this.#gpu = gpu;
    this.#config = config;
    this.#weights = weights;
  }

  /**
   * Encodes the patches of one picture or video, in merge-block order.
   * @param pixels [patches, channels·temporal·patch²] f32
   * Throws `OutOfMemory`, `Cancelled`, `DeviceLost`.
   */
  async encode(
    pixels: Float32Array<ArrayBuffer>,
    grid: Grid,
    options: {
      signal?: AbortSignal;
      onProgress?: (share: number) => void;
      tap?: Tap;
      /** Called with what has run, for benchmarks. */
      inspect?: (program: Program) => Promise<void>;
    } = {},
  ): Promise<ImageFeatures> {
    const gpu = this.#gpu;
    const { vision } = this.#config;
    const patches = grid[0] * grid[1] * grid[2];
    const tokens = patches / vision.spatialMergeSize ** 2;
    const taps = vision.deepstackVisualIndexes.length;
    const owned: Slice[] = [];
    const keep = (slice: Slice) => {
      owned.push(slice);
      return slice;
    };
    const features: Slice[] = [];
    const program = new Program(gpu, "vision");
    try {
      const pieces = await gpu.allocating("encoding a picture", () => {
        for (let i = 0; i <= taps; i++) {
          features.push(gpu.storage("image features", "image features", tokens * vision.outHiddenSize * 4));
        }
        const inputs = visionInputs(vision, pixels, [grid], (label, data) =>
          keep(gpu.upload("vision workspace", label, data)),
        );
        return this.#prepare(program, keep, inputs, patches, grid[1] * grid[2], features, options.tap);
      });
      await program.stream(pieces, options.signal, options.onProgress);
      await options.inspect?.(program);
      return { tokens, features, bytes: features.reduce((sum, f) => sum + f.size, 0) };
    } catch (error) {
      for (const slice of features) gpu.free(slice);
      throw error;
    } finally {
      program.free();
      for (const slice of owned) gpu.free(slice);
    }
  }

  /** Allocates the workspace; what it returns records the tower block by block, and yields how much of it there is. */
  #prepare(
    program: Program,
    keep: (s: Slice) => Slice,
    input: VisionInputs,
    patches: number,
    segment: number,
    features: Slice[],
    tap: Tap | undefined,
  ): Iterable<number> {
    const { vision } = this.#config;
    const w = this.#weights;
    const v = vision.hiddenSize;
    const d = v / vision.numHeads;
    const merge = vision.spatialMergeSize ** 2;
    const chunk = Math.min(VISION_CHUNK, patches);
    const scratch = (label: string, count: number) => keep(this.#gpu.storage("vision workspace", label, count * 4));
    const x = scratch("trunk", patches * v);
    const [q, k, val, att] = ["q", "k", "v", "attention"].map((label) => scratch(label, patches * v)) as [
      Slice,
      Slice,
      Slice,
      Slice,
    ];
    const n = scratch("normed", chunk * v);
    const wide = scratch("qkv and mlp", chunk * Math.max(3 * v, vision.intermediateSize, v));
    const merged = scratch("merger", Math.ceil(chunk / merge) * v * merge);
    const eachChunk = (body: (row0: number, rows: number) => void) => {
      for (let row0 = 0; row0 < patches; row0 += chunk) body(row0, Math.min(chunk, patches - row0));
    };
    const rowsOf = (slice: Slice, row0: number, width: number): Slice => ({
      buffer: slice.buffer,
      offset: slice.offset + row0 * width * 4,
      size: slice.size - row0 * width * 4,
    });

    const merger = (prefix: string, post: boolean, out: Slice) => {
      const [weight, bias] = [w.vector(`${prefix}norm`), w.vector(`${prefix}norm.bias`)];
      eachChunk((row0, rows) => {
        // The final merger norms each patch, the DeepStack mergers the four patches of a token together.
        const shape = post ? { rows: rows / merge, c: v * merge, eps: VISION_EPS } : { rows, c: v, eps: VISION_EPS };
        layerNorm(program, rowsOf(x, row0, v), weight, bias, n, shape);
        const m = rows / merge;
        w.linear(`${prefix}fc1`).forward(program, { x: n, y: merged, m, activation: "gelu_erf" });
        const y = rowsOf(out, row0 / merge, vision.outHiddenSize);
        w.linear(`${prefix}fc2`).forward(program, { x: merged, y, m });
      });
      tap?.(program, "merged", out, patches / merge, vision.outHiddenSize);
    };

    function* record(): Generator<number> {
      w.linear("vision.patch").forward(program, { x: input.pixels, y: x, m: patches });
      interpolate(program, w.vector("vision.positions"), input.index, input.weight, x, { rows: patches, c: v });
      for (let i = 0; i < vision.depth; i++) {
        const block = `vision.blocks.${i}.`;
        const linear = (name: string) => w.linear(block + name);
        const normed = (name: string, row0: number, rows: number) =>
          layerNorm(program, rowsOf(x, row0, v), w.vector(block + name), w.vector(`${block}${name}.bias`), n, {
            rows,
            c: v,
            eps: VISION_EPS,
          });
        eachChunk((row0, rows) => {
          normed("norm1", row0, rows);
          linear("qkv").forward(program, { x: n, y: wide, m: rows });
          rope(program, {
            qkv: wide,
            tokens: rows,
            heads: vision.numHeads,
            kvHeads: vision.numHeads,
            d,
            capacity: patches,
            cacheType: "f32",
            table: input.table,
            positions: rowsOf(input.positions, row0, 4),
            q: rowsOf(q, row0, v),
            k,
            v: val,
          });
        });
        attention(program, {
          q,
          k,
          v: val,
          ranges: input.ranges,
          o: att,
          tokens: patches,
          heads: vision.numHeads,
          kvHeads: vision.numHeads,
          d,
          capacity: patches,
          cacheType: "f32",
          keys: segment,
        });
        eachChunk((row0, rows) => {
          const [from, to] = [rowsOf(att, row0, v), rowsOf(x, row0, v)];
          linear("proj").forward(program, { x: from, y: to, m: rows, accumulate: true });
          normed("norm2", row0, rows);
          linear("fc1").forward(program, { x: n, y: wide, m: rows, activation: "gelu_tanh" });
          linear("fc2").forward(program, { x: wide, y: rowsOf(x, row0, v), m: rows, accumulate: true });
        });
        tap?.(program, "vision", x, patches, v);
        const j = vision.deepstackVisualIndexes.indexOf(i);
        if (j >= 0) merger(`vision.deepstack.${j}.`, true, features[1 + j]!);
        yield (i + 1) / (vision.depth + 1);
      }
      merger("vision.merger.", false, features[0]!);
    }
    return record();
  }
}
