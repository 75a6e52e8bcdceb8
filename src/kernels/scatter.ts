import scatterShader from "../../shaders/scatter.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import { compose, type Slice } from "./source.ts";

export interface ScatterOptions {
  /** [.., c] f32; rows from `first` on are taken. */
  x: Slice;
  first: number;
  /** [rows] u32: where each row goes. */
  at: Slice;
  /** [.., c] f32. */
  y: Slice;
  rows: number;
  c: number;
  /** Add instead of overwrite. */
  add: boolean;
}

/** Records y[at[i]] = x[first + i], or +=. */
export function scatter(program: Program, o: ScatterOptions): void {
  const kernel = program.gpu.kernel("scatter", compose({ ADD: o.add }, scatterShader), "rrw");
  program.dispatch(kernel, {
    params: [o.rows, o.c, o.first],
    buffers: [o.x, o.at, o.y],
    grid: [o.rows],
    work: o.rows * o.c * 4,
  });
}
