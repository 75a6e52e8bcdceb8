import { type Bench, type KernelCase, matrixBytes, PUBLISHED_KINDS, PUBLISHED_SCHEMES } from "./case.ts";
import { handoverBytes, type MatmulOptions, type MatmulPair, matmul, VEC_SHAPES, vecChoice } from "./matmul.ts";
import { type Activation, TILE_SHAPES, tileChoice } from "./matmul_tile.ts";
import type { Matrix } from "./matrix.ts";
import type { Gpu } from "./source.ts";

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
  norm?: boolean;
  glu?: boolean;
  /** Rows that each LoRA pair owns, in turn from row 0 on; ranks are 4, 5, 6, or all `ranks`. */
  pairs?: number[];
  ranks?: number;
  /** How often u is asked for; 0: every workgroup makes it itself. */
  patience?: number;
  /** Products with another x that go before, through the same handover. */
  before?: number;
  /** One of VEC_SHAPES or TILE_SHAPES, as if this device had found it best. */
  choice?: number;
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
  const outputs = s.glu ? s.n / 2 : s.n;
  const y0 = bench.values(s.m * outputs);
  const bias = bench.values(s.n);
  const gain = bench.values(s.k);
  const eps = 1e-6;
  const pairs: MatmulPair[] = [];
  let rank = 0;
  let lowWords = 0;
  for (const [i, rows] of (s.pairs ?? []).entries()) {
    const row0 = pairs.reduce((sum, pair) => sum + pair.rows, 0);
    const r = s.ranks ?? 4 + i;
    pairs.push({ row0, rows, r, scale: 0.5 + i, aRow: rank, b: lowWords + (s.ranks ? 4 : 3) });
    rank += r;
    lowWords += rows * r;
  }
  const low = bench.values(4 * Math.ceil((rank * s.k + lowWords + 4) / 4));
  for (const pair of pairs) pair.b += rank * s.k;
  // Made when it is read: tests that only compile need no reference.
  const reference = () => {
    const expected = new Float64Array(s.m * outputs);
    for (let i = 0; i < s.m; i++) {
      const row = Float64Array.from(x.subarray(i * ldx, i * ldx + s.k));
      if (s.norm) {
        const r = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / s.k + eps);
        row.forEach((v, k) => {
          row[k] = v * r * gain[k]!;
        });
      }
      const product = (j: number) => {
        let sum = 0;
        for (const { row0, rows, r, scale, aRow, b } of pairs) {
          if (j < row0 || j >= row0 + rows) continue;
          for (let n = 0; n < r; n++) {
            let u = 0;
            for (let k = 0; k < s.k; k++) u += row[k]! * low[(aRow + n) * s.k + k]!;
            sum += scale * u * low[b + (j - row0) * r + n]!;
          }
        }
        for (let k = 0; k < s.k; k++) sum += row[k]! * values[j * s.k + k]!;
        return sum;
      };
      for (let j = 0; j < outputs; j++) {
        let sum = product(j);
        if (s.glu) sum = (sum / (1 + Math.exp(-sum))) * product(j + outputs);
        if (s.bias) sum += bias[j]!;
        if (s.accumulate) sum += y0[i * outputs + j]!;
        expected[i * outputs + j] = activations[s.activation ?? "none"](sum);
      }
    }
    return expected;
  };
  const xSlice = bench.upload(x);
  const ySlice = bench.upload(y0);
  const biasSlice = bench.upload(bias);
  const gainSlice = bench.upload(gain);
  const handover = bench.empty(handoverBytes(rank) / 4);
  const patience = s.patience === undefined ? {} : { patience: s.patience };
  const lora = s.pairs ? { lora: { values: bench.upload(low), rank, pairs, handover, ...patience } } : {};
  return {
    record: (program: Parameters<typeof matmul>[0]) => {
      const name = s.m > 4 ? tileChoice(matrix, s.m) : vecChoice(matrix, s.glu);
      const unset = choose(bench.gpu, name, s.choice);
      const options: MatmulOptions = {
        x: xSlice,
        y: ySlice,
        m: s.m,
        weight: matrix,
        ldx,
        ...(s.bias ? { bias: biasSlice } : {}),
        ...(s.accumulate ? { accumulate: true } : {}),
        ...(s.activation ? { activation: s.activation } : {}),
        ...(s.norm ? { norm: { gain: gainSlice, eps } } : {}),
        ...(s.glu ? { glu: true } : {}),
        ...lora,
      };
      for (let i = 0; i < (s.before ?? 0); i++) matmul(program, { ...options, x: gainSlice });
      matmul(program, options);
      unset();
    },
    outputs: [
      {
        name: "y",
        slice: ySlice,
        get expected() {
          return reference();
        },
      },
    ],
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
  { scheme: "q4a32", m: 1, n: 70, k: 2560, norm: true },
  { scheme: "q4a32", m: 1, n: 5000, k: 64, norm: true, glu: true },
  { scheme: "bf16", m: 2, n: 38, k: 148, norm: true, glu: true },
  { scheme: "q4a64", m: 1, n: 2, k: 68, glu: true, accumulate: true },
  // LoRA pairs on parts of the rows, with and without a norm in front and a gated unit.
  { scheme: "q4a32", m: 1, n: 100, k: 256, norm: true, pairs: [50, 30, 20] },
  { scheme: "bf16", m: 1, n: 40, k: 148, pairs: [17], accumulate: true },
  { scheme: "q4a64", m: 1, n: 44, k: 128, norm: true, glu: true, pairs: [22, 22] },
  { scheme: "q4a32", m: 1, n: 200, k: 64, blockRows: 128, pairs: [100, 100] },
  // Each half of the handover has been used by a product of another x.
  { scheme: "q4a32", m: 1, n: 48, k: 256, pairs: [28, 20], before: 2 },
  { scheme: "q4a32", m: 1, n: 70, k: 2560, norm: true, pairs: [30, 20, 20], patience: 0 },
  { scheme: "q4a32", m: 1, n: 90, k: 4096, norm: true, pairs: [30, 30, 20], ranks: 16, accumulate: true },
  { scheme: "q4a32", m: 1, n: 20, k: 9728, pairs: [20], ranks: 40 },
  { scheme: "bf16", m: 1, n: 44, k: 1036, glu: true, pairs: [22, 22], patience: 0 },
  ...VEC_SHAPES.map((_, choice): Shape => ({ scheme: "q4a32", m: 1, n: 34, k: 100, pairs: [17, 17], choice })),
  // Every shape that a device may choose; 21 rows leave a part of a workgroup without any.
  ...VEC_SHAPES.map((_, choice): Shape => ({ scheme: "q4a32", m: 1, n: 21, k: 9728, norm: true, choice })),
  ...VEC_SHAPES.map((_, choice): Shape => ({ scheme: "bf16", m: 2, n: 26, k: 1036, glu: true, choice })),
  // A shape that an earlier version offered.
  { scheme: "q4a32", m: 1, n: 21, k: 64, choice: 11 },
  ...PUBLISHED_SCHEMES.map((scheme): Shape => ({ scheme, m: 2, n: 21, k: 228, norm: true })),
  // Many rows: prefill and vision.
  { scheme: "q4a32", m: 65, n: 130, k: 256 },
  { scheme: "q4a64", m: 64, n: 64, k: 128, accumulate: true },
  { scheme: "bf16", m: 97, n: 200, k: 72, bias: true, activation: "gelu_tanh" },
  { scheme: "bf16", m: 5, n: 3, k: 20, bias: true, activation: "gelu_erf" },
  { scheme: "bf16", m: 70, n: 150, k: 148, ldx: 152 },
  { scheme: "q4a32", m: 130, n: 192, k: 100, blockRows: 64, bias: true, accumulate: true },
  { scheme: "q4a32", m: 150, n: 140, k: 104, accumulate: true },
  ...TILE_SHAPES.map((_, choice): Shape => ({ scheme: "q4a32", m: 150, n: 140, k: 104, accumulate: true, choice })),
  ...PUBLISHED_KINDS.map((scheme): Shape => ({ scheme, m: 9, n: 70, k: 228 })),
  ...TILE_SHAPES.map((_, choice): Shape => ({ scheme: "bf16", m: 70, n: 131, k: 68, bias: true, choice })),
];

/** As if the device had found a choice best, and had what it computes in, until the function that it returns is called. */
export function choose({ choices, variants }: Gpu, name: string, choice = -1): () => void {
  const { half } = variants;
  choices.set(name, choice);
  variants.half ||= TILE_SHAPES[choice]?.half ?? false;
  return () => {
    choices.delete(name);
    variants.half = half;
  };
}

/** Of a case of a many-row product: each factor is rounded to 11 bits on matrix units, in f16 each sum of a step as well. */
export function tileCase(choice: number | undefined): Pick<KernelCase, "onMatrixUnits" | "inHalf" | "needs"> {
  if (choice === undefined) return { onMatrixUnits: 1e-3, inHalf: 3e-3 };
  const { subgroups, half } = TILE_SHAPES[choice]!;
  if (subgroups) return { onMatrixUnits: 1e-3, needs: "matrix" };
  return half ? { inHalf: 3e-3, needs: "half" } : {};
}

export const matmulCases: KernelCase[] = shapes.map((s) => ({
  kernel: `matmul ${s.scheme}${s.bias ? " bias" : ""}${s.accumulate ? " +=" : ""}${s.activation ? ` ${s.activation}` : ""}${s.norm ? " norm" : ""}${s.glu ? " glu" : ""}${s.pairs ? " lora" : ""}`,
  shape: `${s.m}×${s.k} · ${s.n}×${s.k}ᵀ${s.blockRows ? ` in blocks of ${s.blockRows}` : ""}${s.choice === undefined ? "" : `, choice ${s.choice}`}`,
  // f32 sums of up to 9,728 products; the guide's bound for this op is 5e-6.
  tolerance: 5e-6,
  ...(s.m > 4 ? tileCase(s.choice) : {}),
  bytes: matrixBytes(s.scheme, s.n, s.k) + 4 * (s.m * s.k + s.m * s.n),
  flops: 2 * s.m * s.n * s.k,
  build: (bench) => build(bench, s),
}));
