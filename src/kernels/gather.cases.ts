import type { KernelCase } from "./case.ts";
import { gather } from "./gather.ts";

const shapes: [rows: number, c: number, first: number, add: boolean][] = [
  [5, 96, 2, false],
  [64, 256, 0, true],
  [1, 2560, 7, true],
  [1, 4, 0, false],
];

export const gatherCases: KernelCase[] = shapes.map(([rows, c, first, add]) => ({
  kernel: `gather${add ? " +=" : ""}`,
  shape: `${rows}×${c} to ${first}`,
  tolerance: 1e-6,
  bytes: rows * c * 12,
  flops: rows * c,
  build(bench) {
    const total = rows * 2 + 3;
    const [x, y] = [bench.values(total * c), bench.values((rows + first) * c)];
    // Any order, rows may be taken twice.
    const at = Uint32Array.from({ length: rows }, () => Math.floor(bench.random() * total));
    const expected = Float64Array.from(y);
    at.forEach((from, i) => {
      for (let k = 0; k < c; k++) {
        const to = (first + i) * c + k;
        expected[to] = x[from * c + k]! + (add ? y[to]! : 0);
      }
    });
    const [xs, ats, ys] = [bench.upload(x), bench.upload(at), bench.upload(y)];
    return {
      record: (program) => gather(program, { x: xs, first, at: ats, y: ys, rows, c, add }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));
