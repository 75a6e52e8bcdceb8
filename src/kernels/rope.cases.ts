import { f16ToF32 } from "../formats/index.ts";
import type { Bench, BuiltCase, KernelCase } from "./case.ts";
import { type CacheType, rope } from "./rope.ts";

interface Shape {
  tokens: number;
  heads: number;
  kvHeads: number;
  d: number;
  cacheType: CacheType;
  sections?: readonly [number, number, number];
}

function build(bench: Bench, s: Shape): BuiltCase {
  const { tokens, heads, kvHeads, d } = s;
  const capacity = tokens + 5;
  const width = (heads + 2 * kvHeads) * d;
  const qkv = bench.values(tokens * width, 2);
  const norms = bench.values(2 * d).map((v) => 1 + 0.2 * v);
  const reach = 40;
  const table = new Float32Array(reach * d);
  const angle = (pos: number, j: number) =>
    pos * (s.sections ? 5e6 ** ((-2 * j) / d) : 1e4 ** ((-4 * (j % (d / 4))) / d));
  for (let pos = 0; pos < reach; pos++) {
    for (let j = 0; j < d / 2; j++) {
      table[pos * d + 2 * j] = Math.cos(angle(pos, j));
      table[pos * d + 2 * j + 1] = Math.sin(angle(pos, j));
    }
  }
  const positions = new Uint32Array(tokens * 4);
  for (let t = 0; t < tokens; t++) {
    for (let a = 0; a < 3; a++) positions[4 * t + a] = Math.floor(bench.random() * reach);
    positions[4 * t + 3] = t + 3;
  }
  const axis = (j: number) => {
    if (!s.sections) return j < d / 4 ? 0 : 1;
    if (j % 3 === 1 && j < 3 * s.sections[1]) return 1;
    if (j % 3 === 2 && j < 3 * s.sections[2]) return 2;
    return 0;
  };
  const q = new Float64Array(tokens * heads * d);
  const k = new Float64Array(kvHeads * capacity * d);
  const v = new Float64Array(kvHeads * capacity * d);
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads + 2 * kvHeads; h++) {
      const x = Array.from(qkv.subarray(t * width + h * d, t * width + (h + 1) * d));
      const isV = h >= heads + kvHeads;
      if (s.sections && !isV) {
        const rms = Math.sqrt(x.reduce((sum, e) => sum + e * e, 0) / d + 1e-6);
        for (let i = 0; i < d; i++) x[i] = (norms[(h < heads ? 0 : d) + i]! * x[i]!) / rms;
      }
      const y = x.slice();
      if (!isV) {
        for (let j = 0; j < d / 2; j++) {
          const theta = angle(positions[4 * t + axis(j)]!, j);
          y[j] = x[j]! * Math.cos(theta) - x[j + d / 2]! * Math.sin(theta);
          y[j + d / 2] = x[j + d / 2]! * Math.cos(theta) + x[j]! * Math.sin(theta);
        }
      }
      const slot = positions[4 * t + 3]!;
      if (h < heads) q.set(y, (t * heads + h) * d);
      else if (!isV) k.set(y, ((h - heads) * capacity + slot) * d);
      else v.set(y, ((h - heads - kvHeads) * capacity + slot) * d);
    }
  }
  const cacheElements = kvHeads * capacity * d;
  const options = {
    qkv: bench.upload(qkv),
    tokens,
    heads,
    kvHeads,
    d,
    capacity,
    cacheType: s.cacheType,
    table: bench.upload(table),
    positions: bench.upload(positions),
    q: bench.empty(tokens * heads * d),
    k: bench.empty(s.cacheType === "f16" ? cacheElements / 2 : cacheElements),
    v: bench.empty(s.cacheType === "f16" ? cacheElements / 2 : cacheElements),
    eps: 1e-6,
    ...(s.sections ? { sections: s.sections, norms: bench.upload(norms) } : {}),
  };
  const type = s.cacheType === "f16" ? ("f16" as const) : ("f32" as const);
  return {
    record: (program) => rope(program, options),
    outputs: [
      { name: "q", slice: options.q, expected: q },
      { name: "k", slice: options.k, expected: k, type },
      { name: "v", slice: options.v, expected: v, type },
    ],
  };
}

const shapes: Shape[] = [
  { tokens: 3, heads: 8, kvHeads: 2, d: 128, cacheType: "f32", sections: [24, 20, 20] },
  { tokens: 5, heads: 4, kvHeads: 4, d: 32, cacheType: "f32", sections: [6, 5, 5] },
  { tokens: 1, heads: 4, kvHeads: 1, d: 16, cacheType: "f32", sections: [4, 2, 2] },
  { tokens: 7, heads: 2, kvHeads: 1, d: 128, cacheType: "f16", sections: [24, 20, 20] },
  { tokens: 6, heads: 3, kvHeads: 3, d: 72, cacheType: "f32" },
  { tokens: 9, heads: 2, kvHeads: 2, d: 12, cacheType: "f32" },
  { tokens: 4, heads: 16, kvHeads: 16, d: 64, cacheType: "f32" },
];

export const ropeCases: KernelCase[] = shapes.map((s) => ({
  kernel: `rope ${s.sections ? "m-rope" : "vision"} ${s.cacheType}`,
  shape: `${s.tokens} tokens, ${s.heads}+2×${s.kvHeads} heads of ${s.d}`,
  // f16 keeps 11 bits: at most 2^-12 of each value, 2^-12/√3 in the mean.
  tolerance: s.cacheType === "f16" ? 3e-4 : 1e-6,
  bytes: s.tokens * (s.heads + 2 * s.kvHeads) * s.d * 8,
  flops: s.tokens * (s.heads + 2 * s.kvHeads) * s.d * 8,
  build: (bench) => build(bench, s),
}));

/** Opens packed f16 words. */
export function openF16(words: Uint32Array): Float64Array {
  const out = new Float64Array(words.length * 2);
  for (let i = 0; i < words.length; i++) {
    out[2 * i] = f16ToF32(words[i]! & 0xffff);
    out[2 * i + 1] = f16ToF32(words[i]! >>> 16);
  }
  return out;
}
