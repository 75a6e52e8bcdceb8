import { addUpHeads } from "./attention_backward.cases.ts";
import { type CacheType, cacheRowBytes } from "./cache.ts";
import type { Bench, BuiltCase, KernelCase } from "./case.ts";
import { rope, ropeBackward } from "./rope.ts";

export interface RopeCaseShape {
  tokens: number;
  heads: number;
  kvHeads: number;
  d: number;
  cacheType: CacheType;
  sections?: readonly [number, number, number];
}

/** Everything beside the projections that a rotation depends on. Slots start at 3, so the caches have room before and behind. */
export interface RopeInputs extends RopeCaseShape {
  capacity: number;
  norms: ArrayLike<number>;
  /** [tokens, 4]: three axes and the slot. */
  positions: Uint32Array<ArrayBuffer>;
}

const EPS = 1e-6;

function angle(s: RopeCaseShape, position: number, j: number): number {
  return position * (s.sections ? 5e6 ** ((-2 * j) / s.d) : 1e4 ** ((-4 * (j % (s.d / 4))) / s.d));
}

function axis(s: RopeCaseShape, j: number): number {
  if (!s.sections) return j < s.d / 4 ? 0 : 1;
  if (j % 3 === 1 && j < 3 * s.sections[1]) return 1;
  if (j % 3 === 2 && j < 3 * s.sections[2]) return 2;
  return 0;
}

/** Where a head of the fused projection lies in q, k or v. */
function place(s: RopeInputs, t: number, h: number): ["q" | "k" | "v", number] {
  const slot = s.positions[4 * t + 3]!;
  if (h < s.heads) return ["q", (t * s.heads + h) * s.d];
  if (h < s.heads + s.kvHeads) return ["k", ((h - s.heads) * s.capacity + slot) * s.d];
  return ["v", ((h - s.heads - s.kvHeads) * s.capacity + slot) * s.d];
}

export function ropeReference(s: RopeInputs, qkv: ArrayLike<number>) {
  const { tokens, heads, kvHeads, d } = s;
  const cache = kvHeads * s.capacity * d;
  const out = {
    q: new Float64Array(tokens * heads * d),
    k: new Float64Array(cache),
    v: new Float64Array(cache),
  };
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads + 2 * kvHeads; h++) {
      const x = Float64Array.from({ length: d }, (_, i) => qkv[(t * (heads + 2 * kvHeads) + h) * d + i]!);
      const [name, at] = place(s, t, h);
      if (s.sections && name !== "v") {
        const rms = Math.sqrt(x.reduce((sum, e) => sum + e * e, 0) / d + EPS);
        for (let i = 0; i < d; i++) x[i] = (s.norms[(name === "q" ? 0 : d) + i]! * x[i]!) / rms;
      }
      const y = x.slice();
      if (name !== "v") {
        for (let j = 0; j < d / 2; j++) {
          const theta = angle(s, s.positions[4 * t + axis(s, j)]!, j);
          y[j] = x[j]! * Math.cos(theta) - x[j + d / 2]! * Math.sin(theta);
          y[j + d / 2] = x[j + d / 2]! * Math.cos(theta) + x[j]! * Math.sin(theta);
        }
      }
      out[name].set(y, at);
    }
  }
  return out;
}

/** The gradient of Σ dq ⊙ q + dk ⊙ k + dv ⊙ v by qkv. */
export function ropeBackwardReference(
  s: RopeInputs,
  qkv: ArrayLike<number>,
  grads: Record<"q" | "k" | "v", ArrayLike<number>>,
): Float64Array {
  const { tokens, heads, kvHeads, d } = s;
  const out = new Float64Array(tokens * (heads + 2 * kvHeads) * d);
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads + 2 * kvHeads; h++) {
      const base = (t * (heads + 2 * kvHeads) + h) * d;
      const [name, at] = place(s, t, h);
      const g = Float64Array.from({ length: d }, (_, i) => grads[name][at + i]!);
      if (name !== "v") {
        for (let j = 0; j < d / 2; j++) {
          const theta = angle(s, s.positions[4 * t + axis(s, j)]!, j);
          const [a, b] = [g[j]!, g[j + d / 2]!];
          g[j] = a * Math.cos(theta) + b * Math.sin(theta);
          g[j + d / 2] = b * Math.cos(theta) - a * Math.sin(theta);
        }
      }
      if (s.sections && name !== "v") {
        let [squares, products] = [0, 0];
        for (let i = 0; i < d; i++) {
          g[i]! *= s.norms[(name === "q" ? 0 : d) + i]!;
          squares += qkv[base + i]! ** 2;
          products += g[i]! * qkv[base + i]!;
        }
        const r = 1 / Math.sqrt(squares / d + EPS);
        for (let i = 0; i < d; i++) g[i] = r * g[i]! - (r ** 3 * qkv[base + i]! * products) / d;
      }
      out.set(g, base);
    }
  }
  return out;
}

/** Positions and norms of a case; `random` in [0, 1). */
export function ropeInputs(s: RopeCaseShape, random: () => number): RopeInputs {
  const positions = new Uint32Array(s.tokens * 4);
  for (let t = 0; t < s.tokens; t++) {
    for (let a = 0; a < 3; a++) positions[4 * t + a] = Math.floor(random() * REACH);
    positions[4 * t + 3] = t + 3;
  }
  const norms = Float32Array.from({ length: 2 * s.d }, () => 0.8 + 0.4 * random());
  return { ...s, capacity: s.tokens + 5, positions, norms };
}

/** Positions of a table. */
const REACH = 40;

/** Inputs of a case on the GPU. */
export function ropeUploads(bench: Bench, s: RopeInputs, qkv: Float32Array<ArrayBuffer>) {
  const table = new Float32Array(REACH * s.d);
  for (let pos = 0; pos < REACH; pos++) {
    for (let j = 0; j < s.d / 2; j++) {
      table[pos * s.d + 2 * j] = Math.cos(angle(s, pos, j));
      table[pos * s.d + 2 * j + 1] = Math.sin(angle(s, pos, j));
    }
  }
  const { tokens, heads, kvHeads, d, capacity, sections } = s;
  return {
    tokens,
    heads,
    kvHeads,
    d,
    capacity,
    qkv: bench.upload(qkv),
    table: bench.upload(table),
    positions: bench.upload(s.positions),
    eps: EPS,
    ...(sections ? { sections, norms: bench.upload(Float32Array.from(s.norms)) } : {}),
  };
}

function build(bench: Bench, shape: RopeCaseShape): BuiltCase {
  const s = ropeInputs(shape, () => bench.random());
  const qkv = bench.values(s.tokens * (s.heads + 2 * s.kvHeads) * s.d, 2);
  const { q, k, v } = ropeReference(s, qkv);
  const words = ((k.length / s.d) * cacheRowBytes(s.cacheType, s.d)) / 4;
  const options = {
    ...ropeUploads(bench, s, qkv),
    cacheType: s.cacheType,
    q: bench.empty(q.length),
    k: bench.empty(words),
    v: bench.empty(words),
  };
  const cache = { type: s.cacheType, d: s.d };
  return {
    record: (program) => rope(program, options),
    outputs: [
      { name: "q", slice: options.q, expected: q },
      { name: "k", slice: options.k, expected: k, cache },
      { name: "v", slice: options.v, expected: v, cache },
    ],
  };
}

function buildBackward(bench: Bench, shape: RopeCaseShape): BuiltCase {
  const s = ropeInputs(shape, () => bench.random());
  const qkv = bench.values(s.tokens * (s.heads + 2 * s.kvHeads) * s.d, 2);
  const shares = s.heads * s.capacity * s.d;
  const [q, k, v] = [bench.values(s.tokens * s.heads * s.d), bench.values(shares), bench.values(shares)];
  const expected = ropeBackwardReference(s, qkv, { q, k: addUpHeads(k, s), v: addUpHeads(v, s) });
  const dqkv = bench.empty(qkv.length);
  const options = {
    ...ropeUploads(bench, s, qkv),
    dq: bench.upload(q),
    dk: bench.upload(k),
    dv: bench.upload(v),
    dqkv,
  };
  return {
    record: (program) => ropeBackward(program, options),
    outputs: [{ name: "dqkv", slice: dqkv, expected }],
  };
}

const shapes: RopeCaseShape[] = [
  { tokens: 3, heads: 8, kvHeads: 2, d: 128, cacheType: "f32", sections: [24, 20, 20] },
  { tokens: 5, heads: 4, kvHeads: 4, d: 32, cacheType: "f32", sections: [6, 5, 5] },
  { tokens: 1, heads: 4, kvHeads: 1, d: 16, cacheType: "f32", sections: [4, 2, 2] },
  { tokens: 7, heads: 2, kvHeads: 1, d: 128, cacheType: "f16", sections: [24, 20, 20] },
  { tokens: 7, heads: 2, kvHeads: 1, d: 128, cacheType: "i8", sections: [24, 20, 20] },
  { tokens: 3, heads: 4, kvHeads: 2, d: 20, cacheType: "i8", sections: [4, 3, 3] },
  { tokens: 2, heads: 2, kvHeads: 2, d: 72, cacheType: "i8", sections: [12, 12, 12] },
  { tokens: 6, heads: 3, kvHeads: 3, d: 72, cacheType: "f32" },
  { tokens: 9, heads: 2, kvHeads: 2, d: 12, cacheType: "f32" },
  { tokens: 4, heads: 16, kvHeads: 16, d: 64, cacheType: "f32" },
];

/**
 * f16 keeps 11 bits: at most 2^-12 of each value, 2^-12/√3 in the mean. Of 16 values in 8 bits the largest is 1.7 to 2.1 times their mean
 * square's root, and a step is 1/127 of it: the error is 1/√12 of a step, 0.4 to 0.5 %.
 */
export const STORED = { f32: 1e-6, f16: 3e-4, i8: 6e-3 };

const cost = (s: RopeCaseShape) => s.tokens * (s.heads + 2 * s.kvHeads) * s.d;
const label = (s: RopeCaseShape) => `${s.tokens} tokens, ${s.heads}+2×${s.kvHeads} heads of ${s.d}`;

export const ropeCases: KernelCase[] = [
  ...shapes.map((s) => ({
    kernel: `rope ${s.sections ? "m-rope" : "vision"} ${s.cacheType}`,
    shape: label(s),
    tolerance: STORED[s.cacheType],
    bytes: cost(s) * 8,
    flops: cost(s) * 8,
    build: (bench: Bench) => build(bench, s),
  })),
  ...shapes
    .filter((s) => s.cacheType === "f32")
    .map((s) => ({
      kernel: `rope_backward ${s.sections ? "m-rope" : "vision"}`,
      shape: label(s),
      tolerance: 5e-6,
      bytes: cost(s) * 12,
      flops: cost(s) * 14,
      build: (bench: Bench) => buildBackward(bench, s),
    })),
];
