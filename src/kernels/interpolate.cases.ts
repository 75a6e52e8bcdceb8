import type { KernelCase } from "./case.ts";
import { interpolate } from "./interpolate.ts";

const shapes: [rows: number, c: number, table: number][] = [
  [24, 64, 64],
  [784, 128, 2304],
  [1, 1152, 4],
];

export const interpolateCases: KernelCase[] = shapes.map(([rows, c, size]) => ({
  kernel: "interpolate",
  shape: `${rows}×${c} from ${size}`,
  tolerance: 1e-6,
  bytes: rows * c * 24,
  flops: rows * c * 8,
  build(bench) {
    const table = bench.values(size * c);
    const index = Uint32Array.from({ length: rows * 4 }, () => Math.floor(bench.random() * size));
    const weight = bench.values(rows * 4).map(Math.abs);
    const y = bench.values(rows * c);
    const expected = Float64Array.from(y);
    for (let r = 0; r < rows; r++) {
      for (let k = 0; k < 4; k++) {
        for (let i = 0; i < c; i++) expected[r * c + i]! += weight[4 * r + k]! * table[index[4 * r + k]! * c + i]!;
      }
    }
    const [ts, is, ws, ys] = [bench.upload(table), bench.upload(index), bench.upload(weight), bench.upload(y)];
    return {
      record: (program) => interpolate(program, ts, is, ws, ys, { rows, c }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));
