import interpolateShader from "../../shaders/interpolate.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import { compose, fold, type Slice } from "./source.ts";

/**
 * Records y[i] += Σ weight[i][k] · table[index[i][k]], the bilinear position embedding of the vision tower.
 * table [.., c] f32, index [rows, 4] u32, weight [rows, 4] f32, y [rows, c] f32. Source: qwen3-vl.md §5.2.
 */
export function interpolate(
  program: Program,
  table: Slice,
  index: Slice,
  weight: Slice,
  y: Slice,
  { rows, c }: { rows: number; c: number },
): void {
  const kernel = program.gpu.kernel("interpolate", compose({}, interpolateShader), "rrrw");
  program.dispatch(kernel, {
    params: [rows, c],
    buffers: [table, index, weight, y],
    grid: fold(rows),
    work: rows * c * 12,
  });
}
