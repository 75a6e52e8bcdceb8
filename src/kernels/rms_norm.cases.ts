import type { KernelCase } from "./case.ts";
import { rmsNorm, rmsNormBackward } from "./rms_norm.ts";

/** w ⊙ x / rms(x) of each row. */
export function rmsNormReference(x: ArrayLike<number>, w: ArrayLike<number>, c: number, eps: number): Float64Array {
  const y = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += c) {
    let sum = 0;
    for (let i = 0; i < c; i++) sum += x[at + i]! ** 2;
    for (let i = 0; i < c; i++) y[at + i] = (w[i]! * x[at + i]!) / Math.sqrt(sum / c + eps);
  }
  return y;
}

/** The gradient of Σ dy ⊙ y by x. */
export function rmsNormBackwardReference(
  x: ArrayLike<number>,
  w: ArrayLike<number>,
  dy: ArrayLike<number>,
  c: number,
  eps: number,
): Float64Array {
  const dx = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += c) {
    let squares = 0;
    let products = 0;
    for (let i = 0; i < c; i++) {
      squares += x[at + i]! ** 2;
      products += dy[at + i]! * w[i]! * x[at + i]!;
    }
    const r = 1 / Math.sqrt(squares / c + eps);
    for (let i = 0; i < c; i++) dx[at + i] = r * dy[at + i]! * w[i]! - (r ** 3 * x[at + i]! * products) / c;
  }
  return dx;
}

const shapes: [rows: number, c: number][] = [
  [1, 4],
  [3, 2560],
  [70, 96],
  [1, 4096],
  [2, 100],
  [66000, 4],
];

const forward: KernelCase[] = shapes.map(([rows, c]) => ({
  kernel: "rms_norm",
  shape: `${rows}×${c}`,
  tolerance: 2e-6,
  bytes: rows * c * 8,
  flops: rows * c * 4,
  build(bench) {
    const eps = 1e-6;
    const x = bench.values(rows * c, 3);
    const w = bench.values(c);
    const expected = rmsNormReference(x, w, c, eps);
    const [xs, ws, ys] = [bench.upload(x), bench.upload(w), bench.empty(rows * c)];
    return {
      record: (program) => rmsNorm(program, xs, ws, ys, { rows, c, eps }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));

const backwardShapes: [rows: number, c: number, accumulate: boolean][] = [
  [1, 4, false],
  [3, 2560, true],
  [70, 96, false],
  [2, 100, true],
  [66000, 4, false],
];

const backward: KernelCase[] = backwardShapes.map(([rows, c, accumulate]) => ({
  kernel: `rms_norm_backward${accumulate ? " +=" : ""}`,
  shape: `${rows}×${c}`,
  // Two terms that nearly cancel where x is parallel to dy ⊙ w; the guide's bound for this op is 5e-6.
  tolerance: 5e-6,
  bytes: rows * c * 12,
  flops: rows * c * 9,
  build(bench) {
    const eps = 1e-6;
    const [x, w, dy, dx] = [bench.values(rows * c, 3), bench.values(c), bench.values(rows * c), bench.values(rows * c)];
    const expected = rmsNormBackwardReference(x, w, dy, c, eps);
    if (accumulate) for (let i = 0; i < dx.length; i++) expected[i]! += dx[i]!;
    const buffers = { x: bench.upload(x), w: bench.upload(w), dy: bench.upload(dy), dx: bench.upload(dx) };
    return {
      record: (program) => rmsNormBackward(program, { ...buffers, rows, c, eps, accumulate }),
      outputs: [{ name: "dx", slice: buffers.dx, expected }],
    };
  },
}));

export const rmsNormCases = [...forward, ...backward];
