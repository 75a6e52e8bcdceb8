import type { Bench, KernelCase } from "./case.ts";
import { gemm, gemmScratchBytes, type Operand } from "./gemm.ts";

interface Shape {
  m: number;
  n: number;
  k: number;
  /** "n" as stored, "t" transposed, for A and B. */
  form: "nn" | "nt" | "tn" | "tt";
  scale?: number;
  accumulate?: boolean;
  split?: boolean;
  /** Elements beyond each row's end, and before the first: parts of wider matrices. */
  margin?: number;
}

/** scale · op(A) · op(B) of tightly packed matrices: A [m, k] or [k, m], B [k, n] or [n, k]. */
export function gemmReference(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  { m, n, k, form, scale = 1 }: Pick<Shape, "m" | "n" | "k" | "form" | "scale">,
): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let e = 0; e < k; e++) {
        sum += a[form[0] === "t" ? e * m + i : i * k + e]! * b[form[1] === "t" ? j * k + e : e * n + j]!;
      }
      c[i * n + j] = scale * sum;
    }
  }
  return c;
}

function build(bench: Bench, s: Shape) {
  const { m, n, k, margin = 0 } = s;
  /** A matrix of random numbers with a margin all around, and its inner part. */
  const operand = (rows: number, cols: number, transposed: boolean) => {
    const [r, c] = transposed ? [cols, rows] : [rows, cols];
    const stride = c + margin;
    const all = bench.values(r * stride + 2 * margin);
    const inner = Float32Array.from({ length: r * c }, (_, i) => all[margin + Math.floor(i / c) * stride + (i % c)]!);
    const place: Operand = { slice: bench.upload(all), stride, offset: margin, transposed };
    return { all, inner, place };
  };
  const a = operand(m, k, s.form[0] === "t");
  const b = operand(k, n, s.form[1] === "t");
  const c = operand(m, n, false);
  const product = gemmReference(a.inner, b.inner, s);
  const expected = Float64Array.from(c.all);
  product.forEach((value, i) => {
    const at = margin + Math.floor(i / n) * c.place.stride + (i % n);
    expected[at] = value + (s.accumulate ? c.all[at]! : 0);
  });
  const partial = s.split ? bench.empty(gemmScratchBytes(m, n, k) / 4) : undefined;
  return {
    record: (program: Parameters<typeof gemm>[0]) =>
      gemm(program, {
        a: a.place,
        b: b.place,
        c: c.place,
        m,
        n,
        k,
        ...(s.scale ? { scale: s.scale } : {}),
        ...(s.accumulate ? { accumulate: true } : {}),
        ...(partial ? { partial } : {}),
      }),
    outputs: [{ name: "c", slice: c.place.slice, expected }],
  };
}

const shapes: Shape[] = [
  // u = x Aᵀ for three projections at once; y += s u Bᵀ into a column range.
  { m: 70, n: 48, k: 2560, form: "nt", split: true },
  { m: 65, n: 130, k: 16, form: "nt", scale: 2, accumulate: true, margin: 7 },
  // du = s dY B; dB += s dYᵀ u; dA += duᵀ x; dX += du A.
  { m: 33, n: 16, k: 1030, form: "nn", scale: 0.5, split: true, margin: 3 },
  { m: 200, n: 8, k: 33, form: "tn", scale: 2, accumulate: true, margin: 5 },
  { m: 16, n: 300, k: 70, form: "tn", accumulate: true },
  { m: 40, n: 100, k: 4, form: "nn", accumulate: true },
  { m: 5, n: 3, k: 700, form: "tt", accumulate: true, split: true },
  { m: 1, n: 1, k: 1, form: "nn" },
  // A decoded token.
  { m: 1, n: 48, k: 2560, form: "nt" },
  { m: 1, n: 1000, k: 16, form: "nt", scale: 1.5, accumulate: true, margin: 9 },
  { m: 3, n: 9, k: 100, form: "nt" },
];

export const gemmCases: KernelCase[] = shapes.map((s) => ({
  kernel: `gemm ${s.form}${s.accumulate ? " +=" : ""}${s.split ? " split" : ""}`,
  shape: `${s.m}×${s.k} · ${s.k}×${s.n}${s.margin ? ", inside wider rows" : ""}`,
  tolerance: 5e-6,
  bytes: 4 * (s.m * s.k + s.k * s.n + s.m * s.n),
  flops: 2 * s.m * s.n * s.k,
  build: (bench) => build(bench, s),
}));
