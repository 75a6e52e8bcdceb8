import type { Bench, KernelCase } from "./case.ts";
import { type Activation, type Matrix, matmul } from "./matmul.ts";

interface Shape {
  scheme: Matrix["scheme"];
  m: number;
  n: number;
  k: number;
  bias?: boolean;
  accumulate?: boolean;
  activation?: Activation;
  blockRows?: number;
  ldx?: number;
}

/** Error function in float64. */
export function erf(x: number): number {
  // Series for small |x|, continued fraction beyond: float64 accuracy.
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; n < 200; n++) {
      term *= (-a * a) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 120; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / ((a + fraction) * Math.sqrt(Math.PI)));
}

/** What may follow a product. */
export const activations: Record<Activation, (v: number) => number> = {
  none: (v) => v,
  gelu_tanh: (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))),
  gelu_erf: (v) => 0.5 * v * (1 + erf(v / Math.SQRT2)),
};

function build(bench: Bench, s: Shape) {
  const { matrix, values } = bench.matrix(s.scheme, s.n, s.k, s.blockRows);
  const ldx = s.ldx ?? s.k;
  const x = bench.values(s.m * ldx);
  const y0 = bench.values(s.m * s.n);
  const bias = bench.values(s.n);
  const expected = new Float64Array(s.m * s.n);
  for (let i = 0; i < s.m; i++) {
    for (let j = 0; j < s.n; j++) {
      let sum = s.bias ? bias[j]! : 0;
      if (s.accumulate) sum += y0[i * s.n + j]!;
      for (let k = 0; k < s.k; k++) sum += x[i * ldx + k]! * values[j * s.k + k]!;
      expected[i * s.n + j] = activations[s.activation ?? "none"](sum);
    }
  }
  const xSlice = bench.upload(x);
  const ySlice = bench.upload(y0);
  const biasSlice = bench.upload(bias);
  return {
    record: (program: Parameters<typeof matmul>[0]) =>
      matmul(program, {
        x: xSlice,
        y: ySlice,
        m: s.m,
        weight: matrix,
        ldx,
        ...(s.bias ? { bias: biasSlice } : {}),
        ...(s.accumulate ? { accumulate: true } : {}),
        ...(s.activation ? { activation: s.activation } : {}),
      }),
    outputs: [{ name: "y", slice: ySlice, expected }],
  };
}

const shapes: Shape[] = [
  // One row: the shape of decoding, for the 4B model's narrow and wide matrices (fewer rows than the real ones: the reference is slow).
  { scheme: "q4a32", m: 1, n: 256, k: 2560 },
  { scheme: "q4a64", m: 1, n: 64, k: 9728 },
  { scheme: "bf16", m: 1, n: 200, k: 1024, bias: true },
  { scheme: "q4a32", m: 1, n: 1, k: 32 },
  { scheme: "q4a32", m: 3, n: 37, k: 4096, accumulate: true },
  { scheme: "bf16", m: 1, n: 17, k: 148 },
  { scheme: "bf16", m: 4, n: 33, k: 4, ldx: 8 },
  { scheme: "q4a64", m: 2, n: 100, k: 96 },
  { scheme: "q4a32", m: 1, n: 320, k: 64, blockRows: 128, bias: true },
  // Many rows: prefill and vision.
  { scheme: "q4a32", m: 65, n: 130, k: 256 },
  { scheme: "q4a64", m: 64, n: 64, k: 128, accumulate: true },
  { scheme: "bf16", m: 97, n: 200, k: 72, bias: true, activation: "gelu_tanh" },
  { scheme: "bf16", m: 5, n: 3, k: 20, bias: true, activation: "gelu_erf" },
  { scheme: "bf16", m: 70, n: 150, k: 148, ldx: 152 },
  { scheme: "q4a32", m: 130, n: 192, k: 100, blockRows: 64, bias: true, accumulate: true },
];

export const matmulCases: KernelCase[] = shapes.map((s) => ({
  kernel: `matmul ${s.scheme}${s.bias ? " bias" : ""}${s.accumulate ? " +=" : ""}${s.activation ? ` ${s.activation}` : ""}`,
  shape: `${s.m}×${s.k} · ${s.n}×${s.k}ᵀ${s.blockRows ? ` in blocks of ${s.blockRows}` : ""}`,
  // f32 sums of up to 9,728 products; the guide's bound for this op is 5e-6.
  tolerance: 5e-6,
  bytes: s.n * s.k * (s.scheme === "bf16" ? 2 : s.scheme === "q4a32" ? 0.625 : 0.5625) + 4 * (s.m * s.k + s.m * s.n),
  flops: 2 * s.m * s.n * s.k,
  build: (bench) => build(bench, s),
}));
