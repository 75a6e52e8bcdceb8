import { type Clock, type Gpu, Program, type Slice } from "../gpu/index.ts";
import {
  attention,
  type CacheType,
  type Ceilings,
  cacheRowBytes,
  canGlu,
  canTile,
  decodeAttention,
  decodeScratchBytes,
  type Matrix,
  matmul,
  matmulBackward,
  rmsNorm,
  swiglu,
  TILE_SHAPES,
  tileChoice,
  timeProgram,
  VEC_SHAPES,
  vecChoice,
} from "../kernels/index.ts";
import type { GpuWeights, Qwen3VLConfig } from "../models/index.ts";
import type { BenchRow } from "./bench_protocol.ts";

const LINEARS = ["qkv", "o", "gate_up", "down"] as const;
/** Layers whose weights take turns, so that no cache of the device holds what is read next. */
const GEMM_LAYERS = 4;

/** How the names of rows say what a cache is kept in. */
const KEPT: Record<CacheType, string> = { f32: " in f32", f16: "", i8: " in 8 bits" };

/** Bytes of a matrix as stored. */
function matrixBytes(matrix: Matrix): number {
  return matrix.blocks.reduce((sum, b) => sum + b.codes.size + (b.scales === b.codes ? 0 : b.scales.size), 0);
}

/** Times the kernels of a layer alone, with the model's own weights, layer after layer. */
export class KernelBench {
  #gpu: Gpu;
  #config: Qwen3VLConfig;
  #weights: GpuWeights;
  #ceilings: Ceilings;
  #row: (row: BenchRow) => void;
  #slices: Slice[] = [];

  constructor(
    gpu: Gpu,
    config: Qwen3VLConfig,
    weights: GpuWeights,
    ceilings: Ceilings,
    onRow: (row: BenchRow) => void,
  ) {
    this.#gpu = gpu;
    this.#config = config;
    this.#weights = weights;
    this.#ceilings = ceilings;
    this.#row = onRow;
  }

  #floats(count: number): Slice {
    const data = Float32Array.from({ length: Math.min(count, 2 ** 20) }, (_, i) => Math.sin(i * 12.9898));
    const slice = this.#gpu.storage("bench", "operand", count * 4);
    for (let at = 0; at < count; at += data.length) {
      this.#gpu.write(slice, data.subarray(0, Math.min(data.length, count - at)), at * 4);
    }
    this.#slices.push(slice);
    return slice;
  }

  #words(data: Uint32Array<ArrayBuffer>): Slice {
    const slice = this.#gpu.upload("bench", "operand", data);
    this.#slices.push(slice);
    return slice;
  }

  /** Times what `record` puts into a program, as the time of one of `runs` equal parts. */
  async #time(
    part: string,
    name: string,
    cost: { bytes: number; flops: number; runs: number },
    record: (program: Program) => void,
    clock?: Clock,
  ): Promise<number> {
    const program = new Program(this.#gpu, name);
    record(program);
    const { runs, bytes, flops } = cost;
    const all = { bytes: bytes * runs, flops: flops * runs };
    const { milliseconds, share, bound } = await timeProgram(this.#gpu, program.seal(), all, this.#ceilings, clock);
    program.free();
    this.#row({ part, name, value: milliseconds / runs, unit: "ms", share, bound });
    return milliseconds / runs;
  }

  /** A linear as its layer has it: one row goes through the norm in front and the gated unit in the same dispatch, and an adapter's pairs. */
  #linear(
    program: Program,
    name: (typeof LINEARS)[number],
    layer: number,
    { x, y, m }: { x: Slice; y: Slice; m: number },
  ): void {
    const at = `language.layers.${layer}.`;
    const linear = this.#weights.linear(at + name);
    const gain = { qkv: "input_norm", gate_up: "post_norm", o: undefined, down: undefined }[name];
    if (m > 1 || !gain) {
      linear.forward(program, { x, y, m, accumulate: !gain });
      return;
    }
    const gateUp = name === "gate_up" ? { gateUp: y } : {};
    const { rmsNormEps: eps } = this.#config.text;
    linear.forwardNormed(program, { x, y, m, gain: this.#weights.vector(at + gain), eps, normed: x, ...gateUp });
  }

  /** The linears of a decoder layer on `m` rows, and their sum. */
  async linears(part: string, m: number, remark = ""): Promise<void> {
    const { text } = this.#config;
    const layers = Math.min(text.numHiddenLayers, m === 1 ? text.numHiddenLayers : GEMM_LAYERS);
    const x = this.#floats(m * Math.max(text.hiddenSize, text.intermediateSize));
    const y = this.#floats(m * 2 * text.intermediateSize);
    let sum = 0;
    let bytes = 0;
    let flops = 0;
    for (const name of LINEARS) {
      const matrices = Array.from({ length: layers }, (_, i) => this.#weights.matrix(`language.layers.${i}.${name}`));
      const { rows, cols } = matrices[0]!;
      const cost = {
        bytes: matrixBytes(matrices[0]!) + 4 * m * (rows + cols),
        flops: 2 * m * rows * cols,
        runs: layers,
      };
      bytes += cost.bytes;
      flops += cost.flops;
      sum += await this.#time(part, `${name}, ${m} rows${remark}`, cost, (program) => {
        for (let layer = 0; layer < layers; layer++) this.#linear(program, name, layer, { x, y, m });
      });
    }
    const cost = { bytes, flops, runs: layers };
    const inOrder = (program: Program) => {
      for (let layer = 0; layer < layers; layer++)
        for (const name of LINEARS) this.#linear(program, name, layer, { x, y, m });
    };
    if (m === 1) await this.#time(part, `linears of a layer in their order, 1 rows${remark}`, cost, inOrder);
    const name = `linears of a layer, ${m} rows, by the processor's clock${remark}`;
    await this.#time(part, name, cost, inOrder, "processor");
    const byBandwidth = (1000 * bytes) / this.#ceilings.copyBandwidth;
    const byArithmetic = (1000 * flops) / this.#ceilings.arithmetic;
    this.#row({
      part,
      name: `linears of a layer, ${m} rows${remark}`,
      value: sum,
      unit: "ms",
      share: Math.max(byBandwidth, byArithmetic) / sum,
      bound: byBandwidth > byArithmetic ? "bandwidth" : "arithmetic",
    });
    this.#free();
  }

  /** Every way of running the one-row products, for the choice of defaults. */
  async vecShapes(): Promise<void> {
    const { text } = this.#config;
    const { choices } = this.#gpu;
    const x = this.#floats(Math.max(text.hiddenSize, text.intermediateSize));
    const y = this.#floats(2 * text.intermediateSize);
    for (const name of LINEARS) {
      const matrices = Array.from({ length: Math.min(8, text.numHiddenLayers) }, (_, i) =>
        this.#weights.matrix(`language.layers.${i}.${name}`),
      );
      const { rows, cols } = matrices[0]!;
      const cost = {
        bytes: matrixBytes(matrices[0]!) + 4 * (rows + cols),
        flops: 2 * rows * cols,
        runs: matrices.length,
      };
      const glu = name === "gate_up" && canGlu(matrices[0]!);
      const key = vecChoice(matrices[0]!, glu);
      const tuned = choices.get(key);
      for (const [i, shape] of VEC_SHAPES.entries()) {
        choices.set(key, i);
        await this.#time("one-row shapes", `${name} ${i} ${JSON.stringify(shape)}`, cost, (program) => {
          for (let layer = 0; layer < matrices.length; layer++) this.#linear(program, name, layer, { x, y, m: 1 });
        });
      }
      if (tuned === undefined) choices.delete(key);
      else choices.set(key, tuned);
    }
    this.#free();
  }

  /** Every way of running the products of a prefill, and of a training step's way back, with m rows. */
  async tileShapes(m: number): Promise<void> {
    const { text } = this.#config;
    const { choices } = this.#gpu;
    const x = this.#floats(m * Math.max(text.hiddenSize, text.intermediateSize));
    const y = this.#floats(m * 2 * text.intermediateSize);
    for (const name of LINEARS) {
      const weight = this.#weights.matrix(`language.layers.0.${name}`);
      const { rows, cols } = weight;
      const cost = { bytes: matrixBytes(weight) + 4 * m * (rows + cols), flops: 2 * m * rows * cols, runs: 1 };
      for (const backward of [false, true]) {
        const key = tileChoice(weight, m, backward);
        const tuned = choices.get(key);
        for (const [i, shape] of TILE_SHAPES.entries()) {
          if (!canTile(this.#gpu, shape)) continue;
          choices.set(key, i);
          const label = `${name}${backward ? " backward" : ""}, ${m} rows, ${i} ${JSON.stringify(shape)}`;
          await this.#time("many-row shapes", label, cost, (program) => {
            if (backward) matmulBackward(program, { dy: y, dx: x, m, weight });
            else matmul(program, { x, y, m, weight });
          });
        }
        if (tuned === undefined) choices.delete(key);
        else choices.set(key, tuned);
      }
    }
    this.#free();
  }

  async head(): Promise<void> {
    const { text } = this.#config;
    const head = this.#weights.matrix(text.tieWordEmbeddings ? "language.embed" : "language.head");
    const x = this.#floats(head.cols);
    const y = this.#floats(head.rows);
    const cost = { bytes: matrixBytes(head) + 4 * (head.rows + head.cols), flops: 2 * head.rows * head.cols, runs: 1 };
    await this.#time("decode kernels", "head, 1 row", cost, (program) => matmul(program, { x, y, m: 1, weight: head }));
    this.#free();
  }

  /** The small kernels of one decoded token and attention over caches of the lengths `cached`. */
  async small(cached: readonly number[]): Promise<void> {
    const part = "decode kernels";
    const { text } = this.#config;
    const {
      hiddenSize: c,
      intermediateSize: ffn,
      numAttentionHeads: heads,
      numKeyValueHeads: kvHeads,
      headDim: d,
    } = text;
    const runs = 32;
    const x = this.#floats(2 * ffn);
    const y = this.#floats(Math.max(c, ffn));
    const gain = this.#weights.vector("language.norm");
    const repeat = (body: (program: Program) => void) => (program: Program) => {
      for (let i = 0; i < runs; i++) body(program);
    };
    await this.#time(
      part,
      "rms_norm, 1 row",
      { bytes: 12 * c, flops: 8 * c, runs },
      repeat((program) => rmsNorm(program, x, gain, y, { rows: 1, c, eps: 1e-6 })),
    );
    await this.#time(
      part,
      "swiglu, 1 row",
      { bytes: 12 * ffn, flops: 12 * ffn, runs },
      repeat((program) => swiglu(program, x, y, { rows: 1, n: ffn })),
    );
    const capacity = Math.max(...cached);
    const shape = { heads, kvHeads, d, capacity };
    const caches = (["f16", "i8"] as const).map((cacheType) => {
      const words = (kvHeads * capacity * cacheRowBytes(cacheType, d)) / 4;
      return { cacheType, k: this.#floats(words), v: this.#floats(words) };
    });
    const o = this.#floats(heads * d);
    const rotation = {
      qkv: this.#floats((heads + 2 * kvHeads) * d),
      table: this.#floats(64 * d),
      norms: this.#floats(2 * d),
      eps: 1e-6,
      sections: text.mropeSection,
    };
    const partial = this.#floats(decodeScratchBytes(shape) / 4);
    for (const cache of caches) {
      for (const keys of cached) {
        const positions = this.#words(new Uint32Array([5, 5, 5, keys - 1]));
        const bytes = 2 * kvHeads * keys * cacheRowBytes(cache.cacheType, d);
        await this.#time(
          part,
          `attention over ${keys} keys${KEPT[cache.cacheType]}, 1 row`,
          { bytes, flops: 4 * heads * keys * d, runs },
          repeat((program) =>
            decodeAttention(program, { ...shape, ...cache, ...rotation, positions, partial, o }).keys(keys),
          ),
        );
      }
    }
    this.#free();
  }

  /** Flash attention as prefill uses it: the last `rows` of `keys` tokens, causal. */
  async attention(rows: number, keys: number, cacheType: CacheType): Promise<void> {
    const { text } = this.#config;
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim: d } = text;
    const words = (kvHeads * keys * cacheRowBytes(cacheType, d)) / 4;
    const [k, v] = [this.#floats(words), this.#floats(words)];
    const [q, o] = [this.#floats(rows * heads * d), this.#floats(rows * heads * d)];
    const spans = new Uint32Array(2 * rows);
    for (let i = 0; i < rows; i++) spans[2 * i + 1] = keys - rows + i + 1;
    const ranges = this.#words(spans);
    const mean = keys - rows / 2;
    const cost = { bytes: 8 * (rows * heads * d + words), flops: 4 * rows * heads * mean * d, runs: 1 };
    await this.#time("prefill kernels", `attention, ${rows} rows, ${keys} keys${KEPT[cacheType]}`, cost, (program) =>
      attention(program, {
        heads,
        kvHeads,
        d,
        capacity: keys,
        cacheType,
        q,
        k,
        v,
        ranges,
        o,
        tokens: rows,
        keys: mean,
      }),
    );
    this.#free();
  }

  #free(): void {
    for (const slice of this.#slices) this.#gpu.free(slice);
    this.#slices = [];
  }
}
