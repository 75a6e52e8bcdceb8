import type { KernelCase } from "./case.ts";
import { layerNorm } from "./layer_norm.ts";

const shapes: [rows: number, c: number, mean: number][] = [
  [1, 8, 0],
  [5, 1024, 0],
  [196, 64, 10],
  [3, 4608, 2],
  [2, 72, 0],
];

export const layerNormCases: KernelCase[] = shapes.map(([rows, c, mean]) => ({
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
    const expected = new Float64Array(rows * c);
    for (let r = 0; r < rows; r++) {
      const row = x.subarray(r * c, (r + 1) * c);
      const mu = row.reduce((s, v) => s + v, 0) / c;
      const variance = row.reduce((s, v) => s + (v - mu) ** 2, 0) / c;
      for (let i = 0; i < c; i++) expected[r * c + i] = ((row[i]! - mu) / Math.sqrt(variance + eps)) * w[i]! + b[i]!;
    }
    const [xs, ws, bs, ys] = [bench.upload(x), bench.upload(w), bench.upload(b), bench.empty(rows * c)];
    return {
      record: (program) => layerNorm(program, xs, ws, bs, ys, { rows, c, eps }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));
