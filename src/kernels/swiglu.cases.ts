import type { KernelCase } from "./case.ts";
import { swiglu } from "./swiglu.ts";

const shapes: [rows: number, n: number, scale: number][] = [
  [1, 4, 1],
  [1, 9728, 3],
  [33, 192, 3],
  [3, 352, 200],
];

export const swigluCases: KernelCase[] = shapes.map(([rows, n, scale]) => ({
  kernel: "swiglu",
  shape: `${rows}×${n}, inputs up to ${scale}`,
  tolerance: 2e-6,
  bytes: rows * n * 12,
  flops: rows * n * 6,
  build(bench) {
    const gu = bench.values(rows * 2 * n, scale);
    const expected = new Float64Array(rows * n);
    for (let r = 0; r < rows; r++) {
      for (let i = 0; i < n; i++) {
        const gate = gu[r * 2 * n + i]!;
        expected[r * n + i] = (gate / (1 + Math.exp(-gate))) * gu[r * 2 * n + n + i]!;
      }
    }
    const [gs, ys] = [bench.upload(gu), bench.empty(rows * n)];
    return {
      record: (program) => swiglu(program, gs, ys, { rows, n }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));
