import { expect, it } from "vitest";
import type { Program, Slice } from "../gpu/index.ts";
import { gemm, gemmScratchBytes } from "./gemm.ts";

/** Bytes of the slices of a product: workgroups along z, if more than one. */
function partialBytes(m: number, n: number, k: number, transposed: boolean): number {
  const grids: (readonly number[])[] = [];
  const gpu = { kernel: () => undefined };
  const program = { gpu, dispatch: (_: unknown, o: { grid: readonly number[] }) => grids.push(o.grid) };
  const slice = {} as Slice;
  gemm(program as unknown as Program, {
    a: { slice, stride: transposed ? m : k, transposed },
    b: { slice, stride: n },
    c: { slice, stride: n },
    m,
    n,
    k,
    partial: slice,
  });
  const slices = grids[0]![2]!;
  return slices > 1 ? 4 * slices * m * n : 0;
}

it("the scratch of a product holds the slices of every product with fewer rows", () => {
  for (const n of [1, 16, 17, 48, 49, 300, 2560]) {
    for (const k of [16, 326, 1026, 9728]) {
      let most = 0;
      for (let m = 5; m < 1200; m += 13) {
        for (const transposed of [false, true]) most = Math.max(most, partialBytes(m, n, k, transposed));
        expect(gemmScratchBytes(m, n, k)).toBeGreaterThanOrEqual(most);
      }
    }
  }
});
