import type { KernelCase } from "./case.ts";
import { crossEntropy } from "./cross_entropy.ts";

/** log Σ exp(z) − z_label of each row. */
export function crossEntropyReference(z: ArrayLike<number>, labels: ArrayLike<number>, vocab: number): Float64Array {
  return Float64Array.from(labels, (label, r) => {
    let top = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < vocab; i++) top = Math.max(top, z[r * vocab + i]!);
    let sum = 0;
    for (let i = 0; i < vocab; i++) sum += Math.exp(z[r * vocab + i]! - top);
    return top + Math.log(sum) - z[r * vocab + label]!;
  });
}

/** The gradient of Σ weight · loss by the logits. */
export function crossEntropyBackwardReference(
  z: ArrayLike<number>,
  labels: ArrayLike<number>,
  weights: ArrayLike<number>,
  vocab: number,
): Float64Array {
  const dz = new Float64Array(labels.length * vocab);
  for (let r = 0; r < labels.length; r++) {
    let top = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < vocab; i++) top = Math.max(top, z[r * vocab + i]!);
    let sum = 0;
    for (let i = 0; i < vocab; i++) sum += Math.exp(z[r * vocab + i]! - top);
    for (let i = 0; i < vocab; i++) {
      dz[r * vocab + i] = weights[r]! * (Math.exp(z[r * vocab + i]! - top) / sum - (i === labels[r] ? 1 : 0));
    }
  }
  return dz;
}

const shapes: [rows: number, vocab: number, scale: number, gradient: boolean][] = [
  [1, 1, 1, true],
  [3, 4032, 5, true],
  [2, 151936, 4, true],
  [5, 1001, 40, true],
  [4, 700, 3, false],
];

export const crossEntropyCases: KernelCase[] = shapes.map(([rows, vocab, scale, gradient]) => ({
  kernel: `cross_entropy${gradient ? "" : " loss only"}`,
  shape: `${rows}×${vocab}, logits up to ${scale}`,
  tolerance: 1e-5,
  bytes: rows * vocab * (gradient ? 8 : 4),
  flops: rows * vocab * 8,
  build(bench) {
    const [z, weights] = [bench.values(rows * vocab, scale), bench.values(rows)];
    // The first row's label is its largest logit, the others' are any.
    const labels = Uint32Array.from({ length: rows }, (_, r) => {
      const row = z.subarray(0, vocab);
      return r === 0 ? row.indexOf(row.reduce((a, b) => Math.max(a, b))) : Math.floor(bench.random() * vocab);
    });
    const losses = crossEntropyReference(z, labels, vocab);
    const results = new Float64Array(2 * rows);
    losses.forEach((loss, r) => {
      const row = z.subarray(r * vocab, (r + 1) * vocab);
      results[2 * r] = loss;
      results[2 * r + 1] = row.every((v) => v <= row[labels[r]!]!) ? 1 : 0;
    });
    const expected = gradient ? crossEntropyBackwardReference(z, labels, weights, vocab) : Float64Array.from(z);
    const buffers = {
      logits: bench.upload(z),
      labels: bench.upload(labels),
      weights: bench.upload(weights),
      results: bench.empty(2 * rows),
    };
    return {
      record: (program) => crossEntropy(program, { ...buffers, rows, vocab, gradient }),
      outputs: [
        { name: "results", slice: buffers.results, expected: results },
        { name: "dz", slice: buffers.logits, expected },
      ],
    };
  },
}));
