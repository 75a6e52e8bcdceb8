import backwardShader from "../../shaders/matmul_backward.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import type { Matrix } from "./matmul.ts";
import { compose, type Slice, sliceFrom } from "./source.ts";
import { weightLibrary } from "./weight_library.ts";

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

/** Records dX = dY · W, the gradient of Y = X · Wᵀ. `weight.cols` is a multiple of 4. Source: qwen3-vl.md §9.7. */
export function matmulBackward(program: Program, o: MatmulBackwardOptions): void {
  const { weight, m } = o;
  if (weight.cols % 4 !== 0) throw new Error(`${weight.label}: ${weight.cols} columns are not a multiple of 4`);
  const { constants, weight: lib } = weightLibrary(weight.scheme);
  weight.blocks.forEach((block, index) => {
    // Every block of rows adds its share.
    const flags = { ...constants, ACCUMULATE: index > 0 || (o.accumulate ?? false) };
    const code = compose(flags, lib, backwardShader);
    const kernel = program.gpu.kernel(`matmul_backward ${weight.scheme}`, code, "rrrw");
    const workPerRow = 2 * block.rows * weight.cols;
    const step = Math.ceil(program.gpu.governor.rows(workPerRow, 64, m) / 64) * 64;
    for (let row = 0; row < m; row += step) {
      const here = Math.min(step, m - row);
      program.dispatch(kernel, {
        params: [here, block.rows, weight.cols, weight.rowWords, weight.rows, block.row0],
        buffers: [
          block.codes,
          block.scales,
          // `row` is a multiple of 64, so the offsets are multiples of 256 bytes.
          sliceFrom(o.dy, row * weight.rows * 4),
          sliceFrom(o.dx, row * weight.cols * 4),
        ],
        grid: [Math.ceil(weight.cols / 64), Math.ceil(here / 64)],
        work: workPerRow * here,
      });
    }
  });
}
