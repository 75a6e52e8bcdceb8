import { type KernelCase, PUBLISHED_KINDS } from "./case.ts";
import { embedding } from "./embedding.ts";
import type { Matrix } from "./matrix.ts";

type Shape = [scheme: Matrix["scheme"], vocab: number, c: number, tokens: number, blockRows: number];
const shapes: Shape[] = [
  ["q4a32", 300, 256, 40, 128],
  ["q4a64", 64, 2560, 3, 64],
  ["bf16", 200, 96, 17, 64],
  ["bf16", 10, 36, 1, 10],
  ...PUBLISHED_KINDS.map((scheme): Shape => [scheme, 100, 228, 5, 64]),
];

export const embeddingCases: KernelCase[] = shapes.map(([scheme, vocab, c, tokens, blockRows]) => ({
  kernel: `embedding ${scheme}`,
  shape: `${tokens} of ${vocab}×${c}, blocks of ${blockRows}`,
  tolerance: 5e-7,
  bytes: tokens * c * 5,
  flops: tokens * c * 2,
  build(bench) {
    const { matrix, values } = bench.matrix(scheme, vocab, c, blockRows);
    const ids = Uint32Array.from({ length: tokens }, (_, i) =>
      i === 0 ? vocab - 1 : Math.floor(bench.random() * vocab),
    );
    const expected = new Float64Array(tokens * c);
    ids.forEach((id, t) => {
      expected.set(values.subarray(id * c, (id + 1) * c), t * c);
    });
    const [idSlice, ys] = [bench.upload(ids), bench.empty(tokens * c)];
    return {
      record: (program) => embedding(program, idSlice, matrix, ys, tokens),
      outputs: [{ name: "y", slice: ys, expected }],
    };
  },
}));
