import type { KernelCase } from "./case.ts";
import { dropout } from "./dropout.ts";

/** PCG's output function on 32 bits. */
function pcg(v: number): number {
  const s = (Math.imul(v, 747796405) + 2891336453) >>> 0;
  const w = Math.imul((s >>> ((s >>> 28) + 4)) ^ s, 277803737) >>> 0;
  return ((w >>> 22) ^ w) >>> 0;
}

/** The random bits that shaders take from shaders/lib/random.wgsl. */
export function randomBits(seed: number, stream: number, counter: number): number {
  return pcg((counter + pcg((stream + pcg(seed)) >>> 0)) >>> 0);
}

const shapes: [count: number, rate: number, seed: number, stream: number, add: boolean][] = [
  [1, 0.5, 1, 0, false],
  [3 * 2560, 0.05, 3407, 5, false],
  [70 * 96, 0.1, 0xffffffff, 77, true],
  [1000, 0, 9, 1, false],
];

export const dropoutCases: KernelCase[] = shapes.map(([count, rate, seed, stream, add]) => ({
  kernel: `dropout${add ? " +=" : ""}`,
  shape: `${count}, rate ${rate}`,
  tolerance: 1e-6,
  bytes: count * 8,
  flops: count,
  build(bench) {
    const [x, y] = [bench.values(count), bench.values(count)];
    const expected = Float64Array.from(x, (v, i) => {
      const kept = randomBits(seed, stream, i) >= rate * 2 ** 32;
      return (kept ? v / (1 - rate) : 0) + (add ? y[i]! : 0);
    });
    const [xs, ys, seeds] = [bench.upload(x), bench.upload(y), bench.upload(Uint32Array.of(seed))];
    return {
      record: (program) => dropout(program, { x: xs, y: ys, count, rate, seed: seeds, stream, add }),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));
