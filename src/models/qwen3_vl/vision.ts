import { isError } from "../../errors.ts";
import { type Gpu, Program, type Slice } from "../../gpu/index.ts";
import { attention, interpolate, layerNorm, rope } from "../../kernels/index.ts";
import type { Qwen3VLConfig } from "./config.ts";
import { type Grid, VISION_EPS, type VisionTables, visionTables } from "./vision_inputs.ts";
import { VISION_CHUNK, type VisionPass, VisionWorkspace } from "./vision_workspace.ts";
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

/** Largest number of patches that the tower can encode in one go on this device. */
export function maxPatches(gpu: Pick<Gpu, "maxBytes">, config: Qwen3VLConfig): number {
  const { vision } = config;
  const patch = vision.inChannels * vision.temporalPatchSize * vision.patchSize ** 2;
  const widest = Math.max(patch, vision.hiddenSize);
  return Math.floor(gpu.maxBytes / 4 / widest / 64) * 64;
}

interface EncodeOptions {
  signal?: AbortSignal;
  onProgress?: (share: number) => void;
  tap?: Tap;
  /** Called with what has run, for benchmarks. */
  inspect?: (program: Program) => Promise<void>;
  /** Begins to compile what would run, and runs nothing; the features are not filled. */
  onlyCompile?: boolean;
}

/** The vision tower of Qwen3-VL with its mergers: qwen3-vl.md §5. */
export class VisionTower {
  /** Most rows of a linear layer's input at one time. */
  readonly maxRows = VISION_CHUNK;
  #gpu: Gpu;
  #config: Qwen3VLConfig;
  #weights: GpuWeights;
  #keepBytes: number;
  /** For the next picture; taken out while it is in use, so that two pictures never share it. */
  #kept: VisionWorkspace | undefined;

  /** @param keepBytes a workspace of up to so many bytes stays allocated between pictures, until memory is asked for elsewhere */
  constructor(gpu: Gpu, config: Qwen3VLConfig, weights: GpuWeights, keepBytes = 0) {
    this.#gpu = gpu;
    this.#config = config;
    this.#weights = weights;
    this.#keepBytes = keepBytes;
  }

  /**
   * Encodes the patches of one picture or video, in merge-block order. A second picture of a size finds everything allocated and recorded.
   * @param pixels [patches, channels·temporal·patch²] f32
   * Throws `OutOfMemory`, `Cancelled`, `DeviceLost`.
   */
  async encode(pixels: Float32Array<ArrayBuffer>, grid: Grid, options: EncodeOptions = {}): Promise<ImageFeatures> {
    const hadKept = this.#kept !== undefined;
    try {
      return await this.#encode(pixels, grid, options);
    } catch (error) {
      // A smaller workspace may leave the room that was missing.
      if (!hadKept || !isError(error, "OutOfMemory")) throw error;
      this.release();
      return await this.#encode(pixels, grid, options);
    }
  }

  async #encode(pixels: Float32Array<ArrayBuffer>, grid: Grid, options: EncodeOptions): Promise<ImageFeatures> {
    const gpu = this.#gpu;
    const { vision } = this.#config;
    const { signal, onProgress, tap, inspect } = options;
    const patches = grid[0] * grid[1] * grid[2];
    const tokens = patches / vision.spatialMergeSize ** 2;
    const workspace = this.#take(patches);
    const known = tap ? undefined : workspace.find(grid);
    const pass = known ?? { program: new Program(gpu, "vision"), owned: [], features: [] };
    const features: Slice[] = [];
    const allocated = gpu.allocating("encoding a picture", () => {
      for (let i = 0; i <= vision.deepstackVisualIndexes.length; i++) {
        features.push(gpu.storage("image features", "image features", tokens * vision.outHiddenSize * 4));
      }
      gpu.write(workspace.buffers.pixels, pixels);
      if (known) return undefined;
      return visionTables(vision, [grid], (label, data) => {
        const slice = gpu.upload("vision workspace", label, data);
        pass.owned.push(slice);
        return slice;
      });
    });
    const ready = allocated.then((tables) => {
      pass.program.replace(new Map(pass.features.map(({ buffer }, i) => [buffer, features[i]!.buffer])));
      pass.features = features;
      return tables;
    });
    ready.catch(() => {}); // It is awaited while the device works.
    let isRecorded = known !== undefined;
    try {
      if (known) await pass.program.run(signal, onProgress, ready);
      else if (options.onlyCompile) for (const _ of this.#record(pass, workspace, (await ready)!, grid, tap));
      else {
        const tables = (await ready)!;
        await pass.program.stream(this.#record(pass, workspace, tables, grid, tap), signal, onProgress);
        isRecorded = !tap && !pass.program.isCut;
        if (isRecorded) workspace.keep(grid, pass);
      }
      await inspect?.(pass.program);
      this.#putBack(workspace);
      return { tokens, features, bytes: features.reduce((sum, f) => sum + f.size, 0) };
    } catch (error) {
      for (const slice of features) gpu.free(slice);
      if (isError(error, "OutOfMemory")) workspace.free();
      else this.#putBack(workspace);
      throw error;
    } finally {
      if (!isRecorded) workspace.drop(pass);
    }
  }

  #take(patches: number): VisionWorkspace {
    const kept = this.#kept;
    this.#kept = undefined;
    if (kept && kept.patches >= patches) return kept;
    kept?.free();
    return new VisionWorkspace(this.#gpu, this.#config.vision, patches);
  }

  #putBack(workspace: VisionWorkspace): void {
    this.release();
    if (workspace.bytes > this.#keepBytes) {
      workspace.free();
      return;
    }
    this.#kept = workspace;
    this.#gpu.spares.add(this.release);
  }

  /** Frees what is kept, for memory or because the weights' adapter changes. */
  readonly release = (): void => {
    this.#kept?.free();
    this.#kept = undefined;
    this.#gpu.spares.delete(this.release);
  };

  /** Records the tower block by block, and yields how much of it there is. */
  *#record(
    { program, features }: VisionPass,
    { buffers }: VisionWorkspace,
    tables: VisionTables,
    grid: Grid,
    tap: Tap | undefined,
  ): Generator<number> {
    const { vision } = this.#config;
    const w = this.#weights;
    const { x, n, wide, merged, q, k, v, att } = buffers;
    const c = vision.hiddenSize;
    const d = c / vision.numHeads;
    const merge = vision.spatialMergeSize ** 2;
    const [segment, patches] = [grid[1] * grid[2], grid[0] * grid[1] * grid[2]];
    const chunk = Math.min(VISION_CHUNK, patches);
    const eachChunk = (body: (row0: number, rows: number) => void) => {
      for (let row0 = 0; row0 < patches; row0 += chunk) body(row0, Math.min(chunk, patches - row0));
    };
    const rowsOf = (slice: Slice, row0: number, width: number): Slice => ({
      buffer: slice.buffer,
      offset: slice.offset + row0 * width * 4,
      size: slice.size - row0 * width * 4,
    });

    const merger = (prefix: string, post: boolean, out: Slice) => {
      // The next picture's features are allocated while the device works on the blocks before these.
      program.hold();
      const [weight, bias] = [w.vector(`${prefix}norm`), w.vector(`${prefix}norm.bias`)];
      eachChunk((row0, rows) => {
        // The final merger norms each patch, the DeepStack mergers the four patches of a token together.
        const shape = post ? { rows: rows / merge, c: c * merge, eps: VISION_EPS } : { rows, c, eps: VISION_EPS };
        layerNorm(program, rowsOf(x, row0, c), weight, bias, n, shape);
        const m = rows / merge;
        w.linear(`${prefix}fc1`).forward(program, { x: n, y: merged, m, activation: "gelu_erf" });
        const y = rowsOf(out, row0 / merge, vision.outHiddenSize);
        w.linear(`${prefix}fc2`).forward(program, { x: merged, y, m });
      });
      tap?.(program, "merged", out, patches / merge, vision.outHiddenSize);
    };

    w.linear("vision.patch").forward(program, { x: buffers.pixels, y: x, m: patches });
    interpolate(program, w.vector("vision.positions"), tables.index, tables.weight, x, { rows: patches, c });
    for (let i = 0; i < vision.depth; i++) {
      const block = `vision.blocks.${i}.`;
      const linear = (name: string) => w.linear(block + name);
      const normed = (name: string, row0: number, rows: number) => {
        const [gain, bias] = [w.vector(block + name), w.vector(`${block}${name}.bias`)];
        layerNorm(program, rowsOf(x, row0, c), gain, bias, n, { rows, c, eps: VISION_EPS });
      };
      const heads = {
        heads: vision.numHeads,
        kvHeads: vision.numHeads,
        d,
        capacity: patches,
        cacheType: "f32" as const,
      };
      eachChunk((row0, rows) => {
        normed("norm1", row0, rows);
        linear("qkv").forward(program, { x: n, y: wide, m: rows });
        const positions = rowsOf(tables.positions, row0, 4);
        const { table } = tables;
        rope(program, { ...heads, qkv: wide, tokens: rows, table, positions, q: rowsOf(q, row0, c), k, v });
      });
      attention(program, { ...heads, q, k, v, ranges: tables.ranges, o: att, tokens: patches, keys: segment });
      eachChunk((row0, rows) => {
        const [from, to] = [rowsOf(att, row0, c), rowsOf(x, row0, c)];
        linear("proj").forward(program, { x: from, y: to, m: rows, accumulate: true });
        normed("norm2", row0, rows);
        linear("fc1").forward(program, { x: n, y: wide, m: rows, activation: "gelu_tanh" });
        linear("fc2").forward(program, { x: wide, y: rowsOf(x, row0, c), m: rows, accumulate: true });
      });
      tap?.(program, "vision", x, patches, c);
      const j = vision.deepstackVisualIndexes.indexOf(i);
      if (j >= 0) merger(`vision.deepstack.${j}.`, true, features[1 + j]!);
      yield (i + 1) / (vision.depth + 1);
    }
    merger("vision.merger.", false, features[0]!);
  }
}
