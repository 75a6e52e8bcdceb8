import { type AdamWStep, adamw, adamw8bit, adamw8bitWords } from "./adamw.ts";
import type { KernelCase } from "./case.ts";
import { randomBits } from "./dropout.cases.ts";

/** One step on one element. Returns the new value, m and v. Formula: qwen3-vl.md §9.6. */
function update(s: AdamWStep, value: number, g: number, m: number, v: number): [number, number, number] {
  const first = s.beta1 * m + (1 - s.beta1) * g;
  const second = s.beta2 * v + (1 - s.beta2) * g * g;
  const decayed = value - s.rate * s.weightDecay * value;
  const [c1, c2] = [1 - s.beta1 ** s.step, 1 - s.beta2 ** s.step];
  return [decayed - (s.rate * (first / c1)) / (Math.sqrt(second) / Math.sqrt(c2) + s.eps), first, second];
}

/** What 8 bits keep of m and v of one block of up to 256 elements, the first of them element `at` of its buffer. */
function squeeze(m: Float64Array, v: Float64Array, seed: number, at: number): void {
  const topM = Math.max(...m.map(Math.abs));
  const topV = Math.max(...v);
  for (let i = 0; i < m.length; i++) {
    const bits = randomBits(seed, 0x8b17, at + i);
    const cm = Math.floor(Math.min(127, Math.sqrt(Math.abs(m[i]!) / topM) * 127 + (bits & 0xffff) / 65536));
    const cv = Math.max(1, Math.floor(Math.min(255, (v[i]! / topV) ** 0.25 * 255 + (bits >>> 16) / 65536)));
    m[i] = topM > 0 ? Math.sign(m[i]!) * (cm / 127) ** 2 * topM : 0;
    v[i] = v[i]! > 0 ? (cv / 255) ** 4 * topV : 0;
  }
}

const common = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01 };
const RATES = [0.05, 0.1, 0.02];

const shapes: [count: number, clip: number, is8bit: boolean][] = [
  [1, 1, false],
  [40960, 0.3, false],
  [100, 0, false],
  [1, 1, true],
  [300, 0.3, true],
  [16 * 2560, 1, true],
  [257, 0, true],
];

export const adamwCases: KernelCase[] = shapes.map(([count, scale, is8bit]) => ({
  kernel: is8bit ? "adamw_8bit" : "adamw",
  shape: `${count}, three steps${scale ? `, gradients × ${scale}` : ", skipped"}`,
  // In 8 bits a code on the edge between two may fall either way in f32 and float64: one element in 10^5, by a part in 60.
  tolerance: is8bit ? 1e-4 : 1e-6,
  bytes: 3 * count * (is8bit ? 16 : 28),
  flops: 3 * count * 20,
  build(bench) {
    const values = bench.values(count);
    const gradients = RATES.map(() => bench.values(count, 0.01));
    const expected = Float64Array.from(values);
    const [m, v] = [new Float64Array(count), new Float64Array(count)];
    if (scale) {
      RATES.forEach((rate, n) => {
        for (let i = 0; i < count; i++) {
          const step = { ...common, rate, step: n + 1 };
          [expected[i], m[i], v[i]] = update(step, expected[i]!, gradients[n]![i]! * scale, m[i]!, v[i]!);
        }
        for (let at = 0; is8bit && at < count; at += 256) {
          squeeze(m.subarray(at, at + 256), v.subarray(at, at + 256), n, at);
        }
      });
    }
    const gradient = bench.empty(count);
    const buffers = {
      count,
      value: bench.upload(values),
      gradient,
      clip: bench.upload(Float32Array.of(7, scale)),
      m: bench.empty(is8bit ? adamw8bitWords(count) : count),
      v: bench.empty(is8bit ? adamw8bitWords(count) : count),
    };
    const tops = bench.empty(2 * Math.ceil(count / 256));
    const uploads = gradients.map((g) => bench.upload(g));
    return {
      record(program) {
        RATES.forEach((rate, n) => {
          program.copy(uploads[n]!, gradient, 4 * count);
          const step = { ...common, ...buffers, rate, step: n + 1 };
          if (is8bit) adamw8bit(program, { ...step, tops, seed: n });
          else adamw(program, step);
        });
      },
      outputs: [
        { name: "value", slice: buffers.value, expected },
        { name: "gradient", slice: gradient, expected: new Float64Array(count) },
        ...(is8bit ? [] : [{ name: "m", slice: buffers.m, expected: m }]),
        ...(is8bit ? [] : [{ name: "v", slice: buffers.v, expected: v }]),
      ],
    };
  },
}));
