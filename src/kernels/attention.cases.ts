import { attention, DECODE_SLICE, decodeAttention, decodeScratchBytes } from "./attention.ts";
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
  const q = bench.values(s.tokens * s.heads * s.d, s.sharp ? 30 : 1);
  const k = bench.values(s.kvHeads * capacity * s.d, s.sharp ? 30 : 1);
  const v = bench.values(s.kvHeads * capacity * s.d);
  return { q, k, v, ...attentionReference(s, q, k, v, capacity) };
}

function buildPrefill(bench: Bench, s: AttentionShape): BuiltCase {
  const capacity = (s.past ?? 0) + s.tokens + 2;
  const { q, k, v, o: expected, lse } = inputs(bench, s, capacity);
  const [qs, ks, vs] = [bench.upload(q), bench.upload(k), bench.upload(v)];
  const ranges = bench.upload(new Uint32Array(rangesOf(s).flat()));
  const o = bench.empty(expected.length);
  const { tokens, heads, kvHeads, d } = s;
  const lseOut = s.packed ? bench.empty(tokens * heads) : undefined;
  return {
    record: (program) =>
      attention(program, {
        q: qs,
        k: ks,
        v: vs,
        ranges,
        o,
        tokens,
        heads,
        kvHeads,
        d,
        capacity,
        cacheType: "f32",
        keys: capacity,
        ...(lseOut ? { lse: lseOut } : {}),
      }),
    outputs: [{ name: "o", slice: o, expected }, ...(lseOut ? [{ name: "lse", slice: lseOut, expected: lse }] : [])],
  };
}

function buildDecode(bench: Bench, s: AttentionShape): BuiltCase {
  const slot = s.past ?? 0;
  const capacity = slot + 70;
  const { q, k, v, o: expected } = inputs(bench, s, capacity);
  const [qs, ks, vs] = [bench.upload(q), bench.upload(k), bench.upload(v)];
  const positions = bench.upload(new Uint32Array([0, 0, 0, slot]));
  const { heads, kvHeads, d } = s;
  const partial = bench.empty(decodeScratchBytes({ heads, d, capacity }) / 4);
  const o = bench.empty(expected.length);
  return {
    record: (program) => {
      const shape = { heads, kvHeads, d, capacity, cacheType: "f32" as const };
      // One slice more than needed: a surplus workgroup must leave everything as it is.
      const slices = Math.floor(slot / DECODE_SLICE) + 2;
      decodeAttention(program, { ...shape, q: qs, k: ks, v: vs, positions, partial, o, slices });
    },
    outputs: [{ name: "o", slice: o, expected }],
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
];

const decode: AttentionShape[] = [
  { tokens: 1, heads: 4, kvHeads: 1, d: 128, past: 0 },
  { tokens: 1, heads: 8, kvHeads: 2, d: 128, past: 63 },
  { tokens: 1, heads: 8, kvHeads: 2, d: 64, past: 64 },
  { tokens: 1, heads: 4, kvHeads: 2, d: 32, past: 300 },
  { tokens: 1, heads: 2, kvHeads: 1, d: 16, past: 5, sharp: true },
  { tokens: 1, heads: 16, kvHeads: 2, d: 128, past: 130 },
];

/** How a case is called. */
export const attentionLabel = (s: AttentionShape) =>
  `${s.tokens} queries, ${s.segments ? `${s.packed ? "packed" : "segments"} ${s.segments.join("+")}` : `${s.past ?? 0} cached`}, ${s.heads}/${s.kvHeads} heads of ${s.d}${s.sharp ? ", sharp" : ""}`;

const costs = (s: AttentionShape) => {
  const pairs = rangesOf(s).reduce((sum, [lo, hi]) => sum + hi - lo, 0);
  return { flops: 4 * pairs * s.heads * s.d, bytes: 8 * ((s.past ?? 0) + s.tokens) * s.kvHeads * s.d };
};

export const attentionCases: KernelCase[] = [
  ...prefill.map((s) => ({
    kernel: "attention",
    shape: attentionLabel(s),
    // Sharp rows put 900·√d into the exponent: f32 keeps 1e-7 of that, and the softmax shows it.
    tolerance: s.sharp ? 2e-3 : 1e-5,
    // Rounded to f16, sharp rows are off by a third in the exponent; the others show what there is to see.
    onMatrixUnits: s.sharp ? 0.5 : 1e-3,
    ...costs(s),
    build: (bench: Bench) => buildPrefill(bench, s),
  })),
  ...decode.map((s) => ({
    kernel: "attention_decode",
    shape: attentionLabel(s),
    tolerance: s.sharp ? 2e-3 : 1e-5,
    ...costs(s),
    build: (bench: Bench) => buildDecode(bench, s),
  })),
];
