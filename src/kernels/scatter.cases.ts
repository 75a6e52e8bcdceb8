import type { KernelCase } from "./case.ts";
import { scatter } from "./scatter.ts";

const shapes: [rows: number, c: number, first: number, add: boolean][] = [
  [5, 96, 2, false],
  [64, 256, 0, true],
  [1, 2560, 7, true],
];

export const scatterCases: KernelCase[] = shapes.map(([rows, c, first, add]) => ({
  kernel: `scatter${add ? " +=" : ""}`,
  shape: `${rows}×${c} from ${first}`,
  tolerance: 1e-6,
  bytes: rows * c * 12,
  flops: rows * c,
  build(bench) {
    const x = bench.values((rows + first) * c);
    const total = rows * 2 + 3;
    const y = bench.values(total * c);
    // Every second row, last one first: no target twice.
    const at = Uint32Array.from({ length: rows }, (_, i) => 2 * (rows - 1 - i) + 1);
    const expected = Float64Array.from(y);
    at.forEach((to, i) => {
      for (let k = 0; k < c; k++) expected[to * c + k] = x[(first + i) * c + k]! + (add ? y[to * c + k]! : 0);
    });
    const [xs, ats, ys] = [bench.upload(x), bench.upload(at), bench.upload(y)];
    // The timing runs repeat an addition; the first run is the one that is compared.
    return {
      record: (program) => scatter(program, { x: xs, first, at: ats, y: ys, rows, c, add }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));
