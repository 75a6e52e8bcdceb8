import { type KernelCase, matrixBytes, PUBLISHED_KINDS } from "./case.ts";
import { choose, tileCase } from "./matmul.cases.ts";
import { matmulBackward } from "./matmul_backward.ts";
import { TILE_SHAPES, tileChoice } from "./matmul_tile.ts";
import type { Matrix } from "./matrix.ts";

interface Shape {
  scheme: Matrix["scheme"];
  m: number;
  n: number;
  k: number;
  accumulate?: boolean;
  blockRows?: number;
  /** One of TILE_SHAPES; the default is the device's. */
  choice?: number;
}

/** dX [m, k] = dY [m, n] · W [n, k]. */
export function matmulBackwardReference(
  dy: ArrayLike<number>,
  w: ArrayLike<number>,
  { m, n, k }: { m: number; n: number; k: number },
): Float64Array {
  const dx = new Float64Array(m * k);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let e = 0; e < k; e++) dx[i * k + e]! += dy[i * n + j]! * w[j * k + e]!;
    }
  }
  return dx;
}

const shapes: Shape[] = [
  // The 4B model's rows, fewer tokens and outputs than the real ones: the reference is slow.
  { scheme: "q4a32", m: 3, n: 96, k: 2560 },
  { scheme: "q4a64", m: 70, n: 130, k: 192, accumulate: true },
  { scheme: "bf16", m: 65, n: 100, k: 148 },
  { scheme: "bf16", m: 1, n: 1, k: 4 },
  { scheme: "q4a32", m: 1, n: 300, k: 100 },
  { scheme: "q4a32", m: 20, n: 1, k: 64 },
  { scheme: "q4a32", m: 66, n: 200, k: 100, blockRows: 64 },
  { scheme: "bf16", m: 9, n: 130, k: 36, blockRows: 64, accumulate: true },
  // Every shape that a device may choose, with whole and with odd rows of dY.
  ...TILE_SHAPES.map((_, choice): Shape => ({ scheme: "q4a32", m: 150, n: 108, k: 140, accumulate: true, choice })),
  { scheme: "bf16", m: 70, n: 67, k: 68, choice: 0 },
  ...PUBLISHED_KINDS.map((scheme): Shape => ({ scheme, m: 5, n: 37, k: 228 })),
];

export const matmulBackwardCases: KernelCase[] = shapes.map((s) => ({
  kernel: `matmul_backward ${s.scheme}${s.accumulate ? " +=" : ""}`,
  shape: `${s.m}×${s.n} · ${s.n}×${s.k}${s.blockRows ? ` in blocks of ${s.blockRows}` : ""}${s.choice === undefined ? "" : `, choice ${s.choice}`}`,
  tolerance: 5e-6,
  ...tileCase(s.choice),
  bytes: matrixBytes(s.scheme, s.n, s.k) + 4 * (s.m * s.k + s.m * s.n),
  flops: 2 * s.m * s.n * s.k,
  build(bench) {
    const { matrix, values } = bench.matrix(s.scheme, s.n, s.k, s.blockRows);
    const dy = bench.values(s.m * s.n);
    const dx = bench.values(s.m * s.k);
    const expected = matmulBackwardReference(dy, values, s);
    if (s.accumulate)
      dx.forEach((v, i) => {
        expected[i]! += v;
      });
    const [dys, dxs] = [bench.upload(dy), bench.upload(dx)];
    return {
      record: (program) => {
        const unset = choose(bench.gpu, tileChoice(matrix, s.m, true), s.choice);
        matmulBackward(program, {
          dy: dys,
          dx: dxs,
          m: s.m,
          weight: matrix,
          ...(s.accumulate ? { accumulate: true } : {}),
        });
        unset();
      },
      outputs: [{ name: "dx", slice: dxs, expected }],
    };
  },
}));
