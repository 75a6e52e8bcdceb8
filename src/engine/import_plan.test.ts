import "fake-indexeddb/auto";
import { beforeEach, expect, test } from "vitest";
import { failure, importNow, request, slots, storedBytes } from "../../e2e/import_fixture.ts";
import { isError } from "../errors.ts";
import { BlobFileSet, type WeightSlot } from "../formats/index.ts";
import { writeSafetensors } from "../formats/safetensors.ts";
import { planImport } from "./import.ts";
import { deleteModel, listModels } from "./import_models.ts";
import { planShards, shardPieces } from "./import_plan.ts";
import { inlineEncoder, produceShard } from "./import_shard.ts";

beforeEach(async () => {
  for (const { id } of await listModels()) await deleteModel(id);
});

test("shards hold whole rows, each once, planes aligned and apart, and no shard is too large", () => {
  for (const size of [400, 1000, 4096, 1 << 20]) {
    const rows = slots.map(() => 0);
    for (const shard of planShards(slots, size)) {
      expect(shard.bytes).toBeLessThanOrEqual(size);
      let end = 0;
      for (const chunk of shard.chunks) {
        expect(chunk.row0).toBe(rows[chunk.slot]);
        rows[chunk.slot]! += chunk.rows;
        expect(chunk.codesOffset).toBeGreaterThanOrEqual(end);
        expect(chunk.metaOffset).toBeGreaterThanOrEqual(chunk.codesOffset + chunk.codesBytes);
        expect([chunk.codesOffset % 16, chunk.metaBytes && chunk.metaOffset % 16]).toEqual([0, 0]);
        end = chunk.metaOffset + chunk.metaBytes;
      }
      expect(end).toBe(shard.bytes);
    }
    expect(rows).toEqual(slots.map((slot) => slot.rows));
  }
  expect(() => planShards(slots, 50)).toThrow(/does not fit/);
});

test("a shard is the same made alone, in any order, and by an encoder that works on several parts at once", async () => {
  const manifest = await importNow();
  const stored = await storedBytes(manifest);
  const job = await planImport(request());
  for (const index of [...manifest.shards.keys()].reverse()) {
    const encoder = { ...inlineEncoder, parallel: 3 };
    const shard = manifest.shards[index]!;
    expect(await produceShard(shard, job.manifest.slots, job.checkpoint!, encoder, () => undefined)).toEqual(
      stored[index],
    );
  }
});

test("reads are as long as allowed and no longer", async () => {
  const checkpoint = (await planImport(request())).checkpoint!;
  const [whole] = planShards(slots, 1 << 20);
  const reads = shardPieces(whole!, slots, checkpoint, 400);
  // Two rows of 192 bytes at a time from q, k and v, the norm, eight conv rows of 48 bytes, the column.
  expect(reads.map((piece) => piece.rows)).toEqual([...new Array(40).fill(2), 1, 8, 2, 5]);
  expect(Math.max(...reads.map((piece) => piece.bytes))).toBe(384);
  expect(reads.reduce((sum, piece) => sum + piece.bytes, 0)).toBe(2 * (80 * 96 + 96 + 240 + 5));
});

test.each<[string, (tensors: WeightSlot[]) => WeightSlot[], RegExp]>([
  [
    "a missing tensor",
    (s) => [...s, { ...s[1]!, name: "n2", sources: [{ tensor: "absent", rows: 1 }] }],
    /absent: expected a tensor \[96\], found none/,
  ],
  ["a wrong width", (s) => [{ ...s[2]!, cols: 25 }], /conv: expected \[10, 25\], found \[10, 3, 2, 4\].*another size/],
  [
    "a wrong height",
    (s) => [{ ...s[2]!, rows: 12, cols: 20, sources: [{ tensor: "conv", rows: 12 }] }],
    /expected \[12, 20\]/,
  ],
])("%s is refused before anything is written", async (_, change, message) => {
  const error = await failure(planImport(request({ slots: () => change(slots) })));
  expect(isError(error, "BadCheckpoint")).toBe(true);
  expect(error.message).toMatch(message);
  expect(await listModels()).toEqual([]);
});

test("integer weights are refused by name", async () => {
  const tensors = [{ name: "norm", dtype: "U8", shape: [96], bytes: new Uint8Array(96) }];
  const set = new BlobFileSet("quantized", [
    { path: "config.json", file: new Blob(["{}"]) },
    { path: "tokenizer.json", file: new Blob(["{}"]) },
    { path: "model.safetensors", file: new Blob([writeSafetensors(tensors)]) },
  ]);
  const error = await failure(planImport(request({ files: set, slots: () => [slots[1]!] })));
  expect(error.message).toMatch(/norm: expected BF16, F16 or F32, found U8/);
});
