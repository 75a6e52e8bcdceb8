import type { KernelCase } from "./case.ts";
import { gradNorm, gradNormPartials } from "./grad_norm.ts";

const shapes: [counts: number[], scale: number, limit: number][] = [
  [[1], 1, 1],
  [[4096, 5000, 64], 1, 1],
  [[40960 * 3], 1e-4, 1],
  [[300], 10, 0],
];

const finite: KernelCase[] = shapes.map(([counts, scale, limit]) => ({
  kernel: "grad_norm",
  shape: `${counts.join(" + ")}, values up to ${scale}, limit ${limit}`,
  tolerance: 1e-6,
  bytes: counts.reduce((a, b) => a + b) * 4,
  flops: counts.reduce((a, b) => a + b) * 2,
  build(bench) {
    const values = counts.map((count) => bench.values(count, scale));
    const norm = Math.sqrt(values.reduce((sum, g) => g.reduce((s, v) => s + v * v, sum), 0));
    const factor = limit ? Math.min(1, limit / (norm + 1e-6)) : 1;
    const gradients = values.map((g) => ({ slice: bench.upload(g), count: g.length }));
    const [partials, clip] = [bench.empty(gradNormPartials(counts)), bench.empty(2)];
    return {
      record: (program) => gradNorm(program, { gradients, partials, clip, limit }),
      outputs: [{ name: "clip", slice: clip, expected: Float64Array.of(norm, factor) }],
    };
  },
}));

/** A gradient that overflowed must not reach the weights. */
const overflow: KernelCase = {
  kernel: "grad_norm",
  shape: "one infinite element",
  tolerance: 0,
  bytes: 4 * 5000,
  flops: 5000,
  build(bench) {
    const g = bench.values(5000);
    g[4999] = Number.POSITIVE_INFINITY;
    const gradients = [{ slice: bench.upload(g), count: g.length }];
    const [partials, clip] = [bench.empty(gradNormPartials([5000])), bench.empty(2)];
    const scale = bench.upload(Float32Array.of(1));
    return {
      record(program) {
        gradNorm(program, { gradients, partials, clip, limit: 1 });
        // The norm itself is infinite; only the factor is compared.
        program.copy({ ...clip, offset: 4 }, scale, 4);
      },
      outputs: [{ name: "scale", slice: scale, expected: Float64Array.of(0) }],
    };
  },
};

export const gradNormCases = [...finite, overflow];
