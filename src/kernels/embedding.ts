import embeddingShader from "../../shaders/embedding.wgsl?raw";
import type { Program } from "../gpu/index.ts";
import type { Matrix } from "./matrix.ts";
import { compose, type Slice } from "./source.ts";
import { weightLibrary } from "./weight_library.ts";

/** Records y[t] = table[ids[t]]. ids [tokens] u32, table [vocab, c], y [tokens, c] f32. */
export function embedding(program: Program, ids: Slice, table: Matrix, y: Slice, tokens: number): void {
  const { constants, weight: lib } = weightLibrary(table.scheme);
  const kernel = program.gpu.kernel(`embedding ${table.scheme}`, compose(constants, lib, embeddingShader), "rrrw");
  for (const block of table.blocks) {
    program.dispatch(kernel, {
      params: [tokens, table.cols, table.rowWords, block.row0, block.rows],
      buffers: [block.codes, block.scales, ids, y],
      grid: [tokens],
      work: tokens * table.cols * 4,
    });
  }
}
