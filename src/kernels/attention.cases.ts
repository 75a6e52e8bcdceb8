import { attention } from "./attention.ts";
import { randomCache } from "./cache.cases.ts";
import { type CacheType, cacheRowBytes } from "./cache.ts";
import type { Bench, BuiltCase, KernelCase } from "./case.ts";

export interface AttentionShape {
  tokens: number;
  heads: number;
  kvHeads: number;
  d: number;
  /** Keys already cached before the first query (causal), or sizes of the segments (not causal). */
  past?: number;
  segments?: number[];
  /** With segments: causal inside each, as packed training examples are. */
  packed?: boolean;
  /** Scores so large that an exponent without the maximum taken off would overflow. */
  sharp?: boolean;
  /** f32 unless it says otherwise. */
  cacheType?: CacheType;
}

/** First key and one past the last of each query. */
export function rangesOf(s: AttentionShape): [number, number][] {
  if (!s.segments) return Array.from({ length: s.tokens }, (_, t) => [0, (s.past ?? 0) + t + 1]);
  let start = 0;
  return s.segments.flatMap((n) => {
    const first = start;
    start += n;
    return Array.from({ length: n }, (_, i): [number, number] => [first, s.packed ? first + i + 1 : start]);
  });
}

/** q [tokens, heads, d], k, v [kvHeads, capacity, d]. Returns o, and the log-sum-exp of each (token, head). */
export function attentionReference(
  s: AttentionShape,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  capacity: number,
): { o: Float64Array; lse: Float64Array } {
  const { tokens, heads, kvHeads, d } = s;
  const out = new Float64Array(tokens * heads * d);
  const lse = new Float64Array(tokens * heads);
  const ranges = rangesOf(s);
  for (let t = 0; t < tokens; t++) {
    const [lo, hi] = ranges[t]!;
    for (let h = 0; h < heads; h++) {
      const head = Math.floor(h / (heads / kvHeads)) * capacity;
      const scores: number[] = [];
      for (let j = lo; j < hi; j++) {
        let dot = 0;
        for (let i = 0; i < d; i++) dot += q[(t * heads + h) * d + i]! * k[(head + j) * d + i]!;
        scores.push(dot / Math.sqrt(d));
      }
      const top = Math.max(...scores);
      const e = scores.map((x) => Math.exp(x - top));
      const sum = e.reduce((a, b) => a + b, 0);
      lse[t * heads + h] = top + Math.log(sum);
      for (let j = lo; j < hi; j++) {
        for (let i = 0; i < d; i++) out[(t * heads + h) * d + i]! += (e[j - lo]! / sum) * v[(head + j) * d + i]!;
      }
    }
  }
  return { o: out, lse };
}

function inputs(bench: Bench, s: AttentionShape, capacity: number) {
  const { tokens, heads, kvHeads, d, cacheType = "f32" } = s;
  const scale = s.sharp ? 30 : 1;
  const q = bench.values(tokens * heads * d, scale);
  const k = randomCache(bench, cacheType, kvHeads * capacity, d, scale);
  const v = randomCache(bench, cacheType, kvHeads * capacity, d, 1);
  const { o: expected, lse } = attentionReference(s, q, k.values, v.values, capacity);
  const o = bench.empty(expected.length);
  const given = { heads, kvHeads, d, capacity, cacheType, q: bench.upload(q), k: k.slice, v: v.slice, o };
  return { given, expected, lse };
}

function buildPrefill(bench: Bench, s: AttentionShape): BuiltCase {
  const capacity = (s.past ?? 0) + s.tokens + 2;
  const { given, expected, lse } = inputs(bench, s, capacity);
  const ranges = bench.upload(new Uint32Array(rangesOf(s).flat()));
  const lseOut = s.packed ? bench.empty(s.tokens * s.heads) : undefined;
  return {
    record: (program) =>
      attention(program, {
        ...given,
        ranges,
        tokens: s.tokens,
        keys: capacity,
        ...(lseOut ? { lse: lseOut } : {}),
      }),
    outputs: [
      { name: "o", slice: given.o, expected },
      ...(lseOut ? [{ name: "lse", slice: lseOut, expected: lse }] : []),
    ],
  };
}

const prefill: AttentionShape[] = [
  { tokens: 70, heads: 4, kvHeads: 2, d: 128, segments: [33, 1, 36], packed: true },
  { tokens: 1, heads: 2, kvHeads: 1, d: 16 },
  { tokens: 33, heads: 4, kvHeads: 1, d: 128 },
  { tokens: 70, heads: 2, kvHeads: 2, d: 32, past: 45 },
  { tokens: 31, heads: 2, kvHeads: 1, d: 128, past: 64, sharp: true },
  { tokens: 100, heads: 2, kvHeads: 2, d: 64, segments: [24, 1, 75] },
  { tokens: 40, heads: 1, kvHeads: 1, d: 72, segments: [40] },
  { tokens: 12, heads: 2, kvHeads: 2, d: 12, segments: [4, 8] },
  { tokens: 35, heads: 4, kvHeads: 1, d: 128, past: 20, cacheType: "i8" },
  { tokens: 9, heads: 2, kvHeads: 2, d: 20, past: 40, cacheType: "i8" },
  { tokens: 35, heads: 4, kvHeads: 1, d: 128, past: 20, cacheType: "f16" },
];

/** How a case is called. */
export const attentionLabel = (s: AttentionShape) =>
  `${s.tokens} queries, ${s.segments ? `${s.packed ? "packed" : "segments"} ${s.segments.join("+")}` : `${s.past ?? 0} cached`}, ${s.heads}/${s.kvHeads} heads of ${s.d}${s.sharp ? ", sharp" : ""}`;
export const kernelOf = (name: string, { cacheType }: AttentionShape) => (cacheType ? `${name} ${cacheType}` : name);

export const costs = (s: AttentionShape) => {
  const pairs = rangesOf(s).reduce((sum, [lo, hi]) => sum + hi - lo, 0);
  return {
    flops: 4 * pairs * s.heads * s.d,
    bytes: 2 * ((s.past ?? 0) + s.tokens) * s.kvHeads * cacheRowBytes(s.cacheType ?? "f32", s.d),
  };
};

export const attentionCases: KernelCase[] = [
  ...prefill.map((s) => ({
    kernel: kernelOf("attention", s),
    shape: attentionLabel(s),
    // Sharp rows put 900·√d into the exponent: f32 keeps 1e-7 of that, and the softmax shows it.
    tolerance: s.sharp ? 2e-3 : 1e-5,
    ...(s.cacheType === "i8" ? { onMatrixUnits: 1e-3 } : {}),
    ...costs(s),
    build: (bench: Bench) => buildPrefill(bench, s),
  })),
];
