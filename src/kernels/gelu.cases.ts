import type { KernelCase } from "./case.ts";
import { type Gelu, gelu, geluBackward } from "./gelu.ts";
import { activations, erf } from "./matmul.cases.ts";

/** gelu(z), element by element. */
export function geluReference(z: ArrayLike<number>, act: Gelu): Float64Array {
  return Float64Array.from(z, (v) => activations[act](v));
}

/** dy ⊙ gelu'(z). */
export function geluBackwardReference(z: ArrayLike<number>, dy: ArrayLike<number>, act: Gelu): Float64Array {
  return Float64Array.from(z, (v, i) => {
    if (act === "gelu_erf") {
      return dy[i]! * (0.5 * (1 + erf(v / Math.SQRT2)) + (v * Math.exp((-v * v) / 2)) / Math.sqrt(2 * Math.PI));
    }
    const c = Math.sqrt(2 / Math.PI);
    const t = Math.tanh(c * (v + 0.044715 * v ** 3));
    return dy[i]! * (0.5 * (1 + t) + 0.5 * v * (1 - t * t) * c * (1 + 3 * 0.044715 * v * v));
  });
}

const shapes: [act: Gelu, count: number, scale: number][] = [
  ["gelu_tanh", 4, 1],
  ["gelu_tanh", 10000, 4],
  ["gelu_tanh", 260, 300],
  ["gelu_erf", 4096, 4],
  ["gelu_erf", 132, 300],
];

export const geluCases: KernelCase[] = shapes.flatMap(([act, count, scale]) => {
  const shape = `${count}, inputs up to ${scale}`;
  const forward: KernelCase = {
    kernel: act,
    shape,
    // erf's polynomial is right to 1.5e-7.
    tolerance: 2e-6,
    bytes: count * 8,
    flops: count * 12,
    build(bench) {
      const z = bench.values(count, scale);
      const [zs, ys] = [bench.upload(z), bench.empty(count)];
      return {
        record: (program) => gelu(program, zs, ys, { act, count }),
        outputs: [{ name: "y", slice: ys, expected: geluReference(z, act) }],
      };
    },
  };
  const backward: KernelCase = {
    kernel: `${act}_backward`,
    shape,
    tolerance: 5e-6,
    bytes: count * 12,
    flops: count * 20,
    build(bench) {
      const [z, dy] = [bench.values(count, scale), bench.values(count)];
      const [zs, dys] = [bench.upload(z), bench.upload(dy)];
      return {
        record: (program) => geluBackward(program, zs, dys, { act, count }),
        outputs: [{ name: "dz", slice: dys, expected: geluBackwardReference(z, dy, act) }],
      };
    },
  };
  return [forward, backward];
});
