import type { KernelCase } from "./case.ts";
import { rmsNorm } from "./rms_norm.ts";

const shapes: [rows: number, c: number][] = [
  [1, 4],
  [3, 2560],
  [70, 96],
  [1, 4096],
  [2, 100],
  [66000, 4],
];

export const rmsNormCases: KernelCase[] = shapes.map(([rows, c]) => ({
  kernel: "rms_norm",
  shape: `${rows}×${c}`,
  tolerance: 2e-6,
  bytes: rows * c * 8,
  flops: rows * c * 4,
  build(bench) {
    const eps = 1e-6;
    const x = bench.values(rows * c, 3);
    const w = bench.values(c);
    const expected = new Float64Array(rows * c);
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let i = 0; i < c; i++) sum += x[r * c + i]! ** 2;
      for (let i = 0; i < c; i++) expected[r * c + i] = (w[i]! * x[r * c + i]!) / Math.sqrt(sum / c + eps);
    }
    const [xs, ws, ys] = [bench.upload(x), bench.upload(w), bench.empty(rows * c)];
    return {
      record: (program) => rmsNorm(program, xs, ws, ys, { rows, c, eps }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));
