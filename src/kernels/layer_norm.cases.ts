import type { KernelCase } from "./case.ts";
import { layerNorm, layerNormBackward } from "./layer_norm.ts";

/** (x − mean) / σ ⊙ w + b of each row. */
export function layerNormReference(
  x: ArrayLike<number>,
  w: ArrayLike<number>,
  b: ArrayLike<number>,
  c: number,
  eps: number,
): Float64Array {
  const y = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += c) {
    const row = Array.from({ length: c }, (_, i) => x[at + i]!);
    const mu = row.reduce((s, v) => s + v, 0) / c;
    const variance = row.reduce((s, v) => s + (v - mu) ** 2, 0) / c;
    for (let i = 0; i < c; i++) y[at + i] = ((row[i]! - mu) / Math.sqrt(variance + eps)) * w[i]! + b[i]!;
  }
  return y;
}

/** The gradient of Σ dy ⊙ y by x. */
export function layerNormBackwardReference(
  x: ArrayLike<number>,
  w: ArrayLike<number>,
  dy: ArrayLike<number>,
  c: number,
  eps: number,
): Float64Array {
  const dx = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += c) {
    const row = Array.from({ length: c }, (_, i) => x[at + i]!);
    const h = Array.from({ length: c }, (_, i) => dy[at + i]! * w[i]!);
    const mu = row.reduce((s, v) => s + v, 0) / c;
    const sigma = Math.sqrt(row.reduce((s, v) => s + (v - mu) ** 2, 0) / c + eps);
    const meanH = h.reduce((s, v) => s + v, 0) / c;
    const meanHx = h.reduce((s, v, i) => s + (v * (row[i]! - mu)) / sigma, 0) / c;
    for (let i = 0; i < c; i++) dx[at + i] = (h[i]! - meanH - ((row[i]! - mu) / sigma) * meanHx) / sigma;
  }
  return dx;
}

const shapes: [rows: number, c: number, mean: number][] = [
  [1, 8, 0],
  [5, 1024, 0],
  [196, 64, 10],
  [3, 4608, 2],
  [2, 72, 0],
];

const forward: KernelCase[] = shapes.map(([rows, c, mean]) => ({
  kernel: "layer_norm",
  shape: `${rows}×${c}${mean ? `, mean ${mean}` : ""}`,
  // A mean of 10 times the spread costs a digit in f32, in x itself.
  tolerance: mean ? 5e-6 : 2e-6,
  bytes: rows * c * 8,
  flops: rows * c * 8,
  build(bench) {
    const eps = 1e-6;
    const x = bench.values(rows * c, 2).map((v) => v + mean);
    const [w, b] = [bench.values(c), bench.values(c)];
    const expected = layerNormReference(x, w, b, c, eps);
    const [xs, ws, bs, ys] = [bench.upload(x), bench.upload(w), bench.upload(b), bench.empty(rows * c)];
    return {
      record: (program) => layerNorm(program, xs, ws, bs, ys, { rows, c, eps }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));

const backwardShapes: [rows: number, c: number, accumulate: boolean][] = [
  [1, 8, false],
  [5, 1024, true],
  [70, 72, false],
  [3, 4608, true],
  [65, 4, false],
];

const backward: KernelCase[] = backwardShapes.map(([rows, c, accumulate]) => ({
  kernel: `layer_norm_backward${accumulate ? " +=" : ""}`,
  shape: `${rows}×${c}`,
  // Differences of means; the guide's bound for this op is 5e-6.
  tolerance: 5e-6,
  bytes: rows * c * 12,
  flops: rows * c * 14,
  build(bench) {
    const eps = 1e-6;
    const x = bench.values(rows * c, 2);
    const [w, dy, dx] = [bench.values(c), bench.values(rows * c), bench.values(rows * c)];
    const expected = layerNormBackwardReference(x, w, dy, c, eps);
    if (accumulate) for (let i = 0; i < dx.length; i++) expected[i]! += dx[i]!;
    const buffers = { x: bench.upload(x), w: bench.upload(w), dy: bench.upload(dy), dx: bench.upload(dx) };
    return {
      record: (program) => layerNormBackward(program, { ...buffers, rows, c, eps, accumulate }),
      outputs: [{ name: "dx", slice: buffers.dx, expected }],
    };
  },
}));

export const layerNormCases = [...forward, ...backward];
