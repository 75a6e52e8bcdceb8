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
  /** Rows take a multiple of this many elements. */
  pitch?: number;
  /** First element, if other than the margin. */
  start?: number;
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
  const { m, n, k, margin = 0, pitch = 1, start = margin } = s;
  /** A matrix of random numbers with a margin all around, and its inner part. No operand may be touched by what lies beside it. */
  const operand = (rows: number, cols: number, transposed: boolean, around?: number) => {
    const [r, c] = transposed ? [cols, rows] : [rows, cols];
    const stride = Math.ceil((c + margin) / pitch) * pitch;
    const all = bench.values(r * stride + start + margin);
    const at = (i: number) => start + Math.floor(i / c) * stride + (i % c);
    const inner = Float32Array.from({ length: r * c }, (_, i) => all[at(i)]!);
    if (around !== undefined) {
      all.fill(around);
      inner.forEach((value, i) => {
        all[at(i)] = value;
      });
    }
    const place: Operand = { slice: bench.upload(all), stride, offset: start, transposed };
    return { all, inner, at, place };
  };
  const a = operand(m, k, s.form[0] === "t", Number.NaN);
  const b = operand(k, n, s.form[1] === "t", Number.NaN);
  const c = operand(m, n, false);
  const product = gemmReference(a.inner, b.inner, s);
  const expected = Float64Array.from(c.all);
  product.forEach((value, i) => {
    expected[c.at(i)] = value + (s.accumulate ? c.all[c.at(i)]! : 0);
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
  { m: 50, n: 70, k: 45, form: "tt", scale: 0.5, margin: 3 },
  // The same products where all rows are whole groups of 4; the last slices are short.
  { m: 20, n: 16, k: 9728, form: "nt", split: true, margin: 4 },
  { m: 65, n: 132, k: 16, form: "nt", scale: 2, accumulate: true, margin: 8 },
  { m: 33, n: 16, k: 1028, form: "nn", scale: 0.5, split: true, margin: 4 },
  { m: 520, n: 16, k: 261, form: "tn", scale: 2, accumulate: true, split: true, margin: 4 },
  { m: 48, n: 132, k: 326, form: "tn", accumulate: true, split: true, margin: 4 },
  { m: 70, n: 132, k: 48, form: "nn", accumulate: true, margin: 4 },
  { m: 36, n: 52, k: 68, form: "tt", accumulate: true, margin: 12 },
  // One thing alone is no multiple of 4: n, k of A, k of B, m, first elements, strides.
  { m: 37, n: 130, k: 24, form: "nt", pitch: 4 },
  { m: 40, n: 20, k: 70, form: "nn", pitch: 4 },
  { m: 40, n: 20, k: 70, form: "tt", pitch: 4 },
  { m: 30, n: 20, k: 72, form: "tn", pitch: 4 },
  { m: 40, n: 20, k: 72, form: "nt", start: 2 },
  { m: 40, n: 20, k: 72, form: "nt", start: 4, margin: 1 },
  // A decoded token.
  { m: 1, n: 48, k: 2560, form: "nt" },
  { m: 1, n: 1000, k: 16, form: "nt", scale: 1.5, accumulate: true, margin: 9 },
  { m: 3, n: 9, k: 100, form: "nt" },
];

export const gemmCases: KernelCase[] = shapes.map((s) => ({
  kernel: `gemm ${s.form}${s.accumulate ? " +=" : ""}${s.split ? " split" : ""}`,
  shape: [
    `${s.m}×${s.k} · ${s.k}×${s.n}`,
    ...(s.margin ? ["inside wider rows"] : []),
    ...(s.pitch ? [`rows in steps of ${s.pitch}`] : []),
    ...(s.start ? [`from ${s.start}`] : []),
  ].join(", "),
  tolerance: 5e-6,
  bytes: 4 * (s.m * s.k + s.k * s.n + s.m * s.n),
  flops: 2 * s.m * s.n * s.k,
  build: (bench) => build(bench, s),
}));
