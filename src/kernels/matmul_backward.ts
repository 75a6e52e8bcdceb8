import type { Program } from "../gpu/index.ts";
import { matmulTiles } from "./matmul_tile.ts";
import type { Matrix } from "./matrix.ts";
import type { Slice } from "./source.ts";

export interface MatmulBackwardOptions {
  /** [m, weight.rows] f32. */
  dy: Slice;
  /** [m, weight.cols] f32. */
  dx: Slice;
  m: number;
  weight: Matrix;
  /** dX += … instead of dX = …. */
  accumulate?: boolean;
}

/**
 * Records dX = dY · W, the gradient of Y = X · Wᵀ, from the same packed rows: nothing is transposed in memory.
 * `weight.cols` is a multiple of 4. Source: qwen3-vl.md §9.7.
 */
export function matmulBackward(program: Program, { dy, dx, ...o }: MatmulBackwardOptions): void {
  const { label, cols } = o.weight;
  if (cols % 4 !== 0) throw new Error(`${label}: ${cols} columns are not a multiple of 4`);
  matmulTiles(program, { ...o, x: dy, y: dx, backward: true });
}
