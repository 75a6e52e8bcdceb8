// A tiny checkpoint of every kind of slot, for the tests of the import pipeline.
import { expect } from "vitest";
import { type ImportOptions, importModel, planImport } from "../src/engine/import.ts";
import type { ImportRequest } from "../src/engine/import_types.ts";
import type { LoadedShard } from "../src/engine/read_shards.ts";
import { f32ToBf16 } from "../src/formats/dtype.ts";
import { BlobFileSet, type ModelManifest, rowLayout, type WeightSlot } from "../src/formats/index.ts";
import { writeSafetensors } from "../src/formats/safetensors.ts";
import { getShard } from "../src/storage/index.ts";

export const SHARD_BYTES = 1024;

function noise(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const value = (state / 2 ** 32 - 0.5) * 0.1;
    return new Float32Array(new Uint32Array([f32ToBf16(value) << 16]).buffer)[0]!;
  });
}
const bf16 = (values: Float32Array) => new Uint8Array(Uint16Array.from(values, f32ToBf16).buffer);

export const shapes: Record<string, number[]> = {
  q: [48, 96],
  k: [16, 96],
  v: [16, 96],
  norm: [96],
  conv: [10, 3, 2, 4],
  column: [5],
};
export const weights: Record<string, Float32Array> = Object.fromEntries(
  Object.entries(shapes).map(([name, shape], i) => [
    name,
    noise(
      shape.reduce((a, b) => a * b),
      i + 1,
    ),
  ]),
);
export const slots: WeightSlot[] = [
  {
    name: "qkv",
    sources: [
      { tensor: "q", rows: 48 },
      { tensor: "k", rows: 16 },
      { tensor: "v", rows: 16 },
    ],
    rows: 80,
    cols: 96,
    scheme: "q4a32",
  },
  { name: "norm", sources: [{ tensor: "norm", rows: 1 }], rows: 1, cols: 96, scheme: "f32" },
  { name: "conv", sources: [{ tensor: "conv", rows: 10 }], rows: 10, cols: 24, scheme: "bf16" },
  { name: "column", sources: [{ tensor: "column", rows: 5 }], rows: 5, cols: 1, scheme: "f32" },
];
/** The reference: a slot's rows from the numbers above. */
export const slotValues = (slot: WeightSlot) => slot.sources.flatMap(({ tensor }) => [...weights[tensor]!]);

export function files(
  change: (tensors: Record<string, Uint8Array>) => void = () => undefined,
  name = "test",
): BlobFileSet {
  const bytes = Object.fromEntries(Object.entries(weights).map(([key, values]) => [key, bf16(values)]));
  change(bytes);
  const tensors = Object.entries(bytes).map(([key, raw]) => ({
    ...{ name: key, dtype: "BF16", shape: shapes[key]!, bytes: raw },
  }));
  const parts: Record<string, BlobPart> = {
    "config.json": '{"model_type":"test"}',
    "tokenizer.json": '{"hello":"é"}',
    "README.md": "---\nlicense: apache-2.0\n---\n# Test",
    "model.safetensors": writeSafetensors(tensors),
  };
  return new BlobFileSet(
    name,
    Object.entries(parts).map(([path, data]) => ({ path, file: new Blob([data]) })),
  );
}
export const request = (more: Partial<ImportRequest> = {}): ImportRequest => ({
  ...{ files: files(), scheme: "q4a32", slots: () => slots, shardBytes: SHARD_BYTES },
  ...more,
});
export const importNow = async (more: Partial<ImportRequest> = {}, options: ImportOptions = {}) =>
  await importModel(await planImport(request(more)), options);
export async function storedBytes(manifest: ModelManifest): Promise<(Uint8Array | undefined)[]> {
  return await Promise.all(manifest.shards.map((_, index) => getShard(manifest.id, index)));
}
export const failure = async (promise: Promise<unknown>) => {
  const error: unknown = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(Error);
  return error as Error;
};
/** Puts the chunks of all shards where the GPU buffers would have them. */
export function assemble(manifest: ModelManifest, shards: LoadedShard[]): { codes: Uint8Array; meta: Uint8Array }[] {
  const planes = manifest.slots.map(({ scheme, rows, cols }) => {
    const layout = rowLayout(scheme, cols);
    return { codes: new Uint8Array(rows * layout.codesBytes), meta: new Uint8Array(rows * layout.metaBytes) };
  });
  for (const { bytes, chunks } of shards) {
    for (const chunk of chunks) {
      const { scheme, cols } = manifest.slots[chunk.slot]!;
      const layout = rowLayout(scheme, cols);
      const codes = bytes.subarray(chunk.codesOffset, chunk.codesOffset + chunk.codesBytes);
      const meta = bytes.subarray(chunk.metaOffset, chunk.metaOffset + chunk.metaBytes);
      planes[chunk.slot]!.codes.set(codes, chunk.row0 * layout.codesBytes);
      planes[chunk.slot]!.meta.set(meta, chunk.row0 * layout.metaBytes);
    }
  }
  return planes;
}
