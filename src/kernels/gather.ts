import gatherShader from "../../shaders/gather.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import type { ScatterOptions } from "./scatter.ts";
import { compose } from "./source.ts";

/** Records y[first + i] = x[at[i]], or +=: the mirror image of `scatter`, and its gradient. */
export function gather(program: Program, o: ScatterOptions): void {
  program.dispatch(program.gpu.kernel("gather", compose({ ADD: o.add }, gatherShader), "rrw"), {
    params: [o.rows, o.c, o.first],
    buffers: [o.x, o.at, o.y],
    grid: [o.rows],
    work: o.rows * o.c * 4,
  });
}
