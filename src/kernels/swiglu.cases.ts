import type { KernelCase } from "./case.ts";
import { swiglu, swigluBackward } from "./swiglu.ts";

/** silu(gate) ⊙ up of rows [gate, up]. */
export function swigluReference(gu: ArrayLike<number>, n: number): Float64Array {
  return Float64Array.from({ length: gu.length / 2 }, (_, i) => {
    const at = Math.floor(i / n) * 2 * n + (i % n);
    return (gu[at]! / (1 + Math.exp(-gu[at]!))) * gu[at + n]!;
  });
}

/** The gradient of Σ dy ⊙ y by gate and up, laid out as they are. */
export function swigluBackwardReference(gu: ArrayLike<number>, dy: ArrayLike<number>, n: number): Float64Array {
  const out = new Float64Array(gu.length);
  for (let i = 0; i < dy.length; i++) {
    const at = Math.floor(i / n) * 2 * n + (i % n);
    const [gate, up] = [gu[at]!, gu[at + n]!];
    const sigma = 1 / (1 + Math.exp(-gate));
    out[at] = dy[i]! * up * sigma * (1 + gate * (1 - sigma));
    out[at + n] = dy[i]! * gate * sigma;
  }
  return out;
}

const shapes: [rows: number, n: number, scale: number][] = [
  [1, 4, 1],
  [1, 9728, 3],
  [33, 192, 3],
  [3, 352, 200],
];

const forward: KernelCase[] = shapes.map(([rows, n, scale]) => ({
  kernel: "swiglu",
  shape: `${rows}×${n}, inputs up to ${scale}`,
  tolerance: 2e-6,
  bytes: rows * n * 12,
  flops: rows * n * 6,
  build(bench) {
    const gu = bench.values(rows * 2 * n, scale);
    const expected = swigluReference(gu, n);
    const [gs, ys] = [bench.upload(gu), bench.empty(rows * n)];
    return {
      record: (program) => swiglu(program, gs, ys, { rows, n }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));

const backward: KernelCase[] = shapes.map(([rows, n, scale]) => ({
  kernel: "swiglu_backward",
  shape: `${rows}×${n}, inputs up to ${scale}`,
  tolerance: 5e-6,
  bytes: rows * n * 20,
  flops: rows * n * 12,
  build(bench) {
    const [gu, dy] = [bench.values(rows * 2 * n, scale), bench.values(rows * n)];
    const expected = swigluBackwardReference(gu, dy, n);
    const [gus, dys] = [bench.upload(gu), bench.upload(dy)];
    return {
      record: (program) => swigluBackward(program, dys, gus, { rows, n }),
      outputs: [{ name: "dgu", slice: gus, expected }],
    };
  },
}));

export const swigluCases = [...forward, ...backward];
