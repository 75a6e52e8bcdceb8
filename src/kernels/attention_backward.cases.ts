import { type AttentionShape, attentionLabel, attentionReference, rangesOf } from "./attention.cases.ts";
import { attentionBackward } from "./attention_backward.ts";
import type { Bench, KernelCase } from "./case.ts";

/** Adds up the shares of the query heads that read one kv head: [heads, …] to [kvHeads, …]. */
export function addUpHeads(
  shares: ArrayLike<number>,
  { heads, kvHeads }: { heads: number; kvHeads: number },
): Float64Array {
  const size = shares.length / heads;
  const sum = new Float64Array(kvHeads * size);
  for (let h = 0; h < heads; h++) {
    const to = Math.floor(h / (heads / kvHeads)) * size;
    for (let i = 0; i < size; i++) sum[to + i]! += shares[h * size + i]!;
  }
  return sum;
}

/** The gradients of Σ dout ⊙ o by q, k and v, from probabilities written out in full; by k and v the share of each query head. */
export function attentionBackwardReference(
  s: AttentionShape,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  dout: ArrayLike<number>,
  capacity: number,
) {
  const { tokens, heads, kvHeads, d } = s;
  const { lse } = attentionReference(s, q, k, v, capacity);
  const dq = new Float64Array(tokens * heads * d);
  const dk = new Float64Array(heads * capacity * d);
  const dv = new Float64Array(heads * capacity * d);
  rangesOf(s).forEach(([lo, hi], t) => {
    for (let h = 0; h < heads; h++) {
      const at = (t * heads + h) * d;
      const head = Math.floor(h / (heads / kvHeads)) * capacity;
      const p: number[] = [];
      const dp: number[] = [];
      for (let j = lo; j < hi; j++) {
        let [score, slope] = [0, 0];
        for (let i = 0; i < d; i++) {
          score += q[at + i]! * k[(head + j) * d + i]!;
          slope += dout[at + i]! * v[(head + j) * d + i]!;
        }
        p.push(Math.exp(score / Math.sqrt(d) - lse[t * heads + h]!));
        dp.push(slope);
      }
      const mean = p.reduce((sum, e, j) => sum + e * dp[j]!, 0);
      for (let j = lo; j < hi; j++) {
        const ds = (p[j - lo]! * (dp[j - lo]! - mean)) / Math.sqrt(d);
        for (let i = 0; i < d; i++) {
          const share = (h * capacity + j) * d + i;
          dq[at + i]! += ds * k[(head + j) * d + i]!;
          dk[share]! += ds * q[at + i]!;
          dv[share]! += p[j - lo]! * dout[at + i]!;
        }
      }
    }
  });
  return { dq, dk, dv };
}

/** First query that sees each key, and one past the last. */
function keyRangesOf(s: AttentionShape, keys: number): [number, number][] {
  const ranges = rangesOf(s);
  return Array.from({ length: keys }, (_, key) => {
    const seen = ranges.map(([lo, hi]) => lo <= key && key < hi);
    return [seen.indexOf(true), seen.lastIndexOf(true) + 1];
  });
}

function build(bench: Bench, s: AttentionShape) {
  const { tokens, heads, kvHeads, d } = s;
  const keys = (s.past ?? 0) + tokens;
  const capacity = keys + 2;
  const scale = s.sharp ? 30 : 1;
  const q = bench.values(tokens * heads * d, scale);
  const k = bench.values(kvHeads * capacity * d, scale);
  const [v, dout] = [bench.values(kvHeads * capacity * d), bench.values(tokens * heads * d)];
  const { o, lse } = attentionReference(s, q, k, v, capacity);
  const expected = attentionBackwardReference(s, q, k, v, dout, capacity);
  const options = {
    tokens,
    heads,
    kvHeads,
    d,
    capacity,
    keys,
    seen: keys,
    q: bench.upload(q),
    k: bench.upload(k),
    v: bench.upload(v),
    o: bench.upload(Float32Array.from(o)),
    lse: bench.upload(Float32Array.from(lse)),
    dout: bench.upload(dout),
    ranges: bench.upload(new Uint32Array(rangesOf(s).flat())),
    keyRanges: bench.upload(new Uint32Array(keyRangesOf(s, keys).flat())),
    stats: bench.empty(2 * tokens * heads),
    dq: bench.empty(q.length),
    dk: bench.empty(expected.dk.length),
    dv: bench.empty(expected.dv.length),
  };
  return {
    record: (program: Parameters<typeof attentionBackward>[0]) => attentionBackward(program, options),
    outputs: [
      { name: "dq", slice: options.dq, expected: expected.dq },
      { name: "dk", slice: options.dk, expected: expected.dk },
      { name: "dv", slice: options.dv, expected: expected.dv },
    ],
  };
}

const shapes: AttentionShape[] = [
  { tokens: 1, heads: 2, kvHeads: 1, d: 16 },
  { tokens: 33, heads: 8, kvHeads: 2, d: 128 },
  { tokens: 70, heads: 4, kvHeads: 2, d: 128, segments: [33, 1, 36], packed: true },
  { tokens: 40, heads: 2, kvHeads: 2, d: 32, past: 30 },
  { tokens: 100, heads: 2, kvHeads: 2, d: 64, segments: [24, 1, 75] },
  { tokens: 40, heads: 1, kvHeads: 1, d: 72, segments: [40] },
  { tokens: 12, heads: 2, kvHeads: 2, d: 12, segments: [4, 8] },
  { tokens: 35, heads: 2, kvHeads: 1, d: 32, sharp: true },
];

export const attentionBackwardCases: KernelCase[] = shapes.map((s) => {
  const pairs = rangesOf(s).reduce((sum, [lo, hi]) => sum + hi - lo, 0);
  return {
    kernel: "attention_backward",
    shape: attentionLabel(s),
    // The guide's bound for this op is 5e-5. Sharp rows put 900·√d into the exponent: f32 keeps 1e-7 of that, and dS is a difference.
    tolerance: s.sharp ? 5e-3 : 5e-5,
    // As in attention.cases.ts.
    onMatrixUnits: s.sharp ? 0.5 : 3e-3,
    flops: 16 * pairs * s.heads * s.d,
    bytes: 4 * s.d * (5 * s.tokens * s.heads + 2 * ((s.past ?? 0) + s.tokens) * (s.kvHeads + s.heads)),
    build: (bench: Bench) => build(bench, s),
  };
});
