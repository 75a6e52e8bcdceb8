import "fake-indexeddb/auto";
import { afterAll, beforeEach, expect, test } from "vitest";
import { ggufPair, pairSource } from "../../e2e/gguf_pair.ts";
import { assemble, storedBytes } from "../../e2e/import_fixture.ts";
import { RandomCheckpoint } from "../../e2e/random_checkpoint.ts";
import { BlobFileSet, type Checkpoint, type FileSet } from "../formats/index.ts";
import { dequantizeRows } from "../formats/quant/planes.ts";
import { parseConfig, weightSlots } from "../models/index.ts";
import { ChatFormat } from "./chat_format.ts";
import { importModel, planImport } from "./import.ts";
import { deleteModel, listModels } from "./import_models.ts";
import { readShards } from "./read_shards.ts";

const random = new RandomCheckpoint({
  ...{ layers: 2, hidden: 64, heads: 2, kvHeads: 1, headDim: 32, ffn: 96, tied: true, vocabulary: 283 },
  vision: { depth: 3, hidden: 32, heads: 2, ffn: 68, taps: [0, 2], positions: 16 },
});
afterAll(() => random.remove());
beforeEach(async () => {
  for (const { id } of await listModels()) await deleteModel(id);
});

const request = (files: FileSet) => ({
  files,
  scheme: "bf16",
  slots: (checkpoint: Checkpoint) => weightSlots(parseConfig(checkpoint.config), checkpoint, "bf16"),
});

test("a pair in BF16 is stored as the same shards as the checkpoint it was made from, and talks as it does", async () => {
  const pair = ggufPair(await pairSource(random.files), () => "BF16");
  const files = new BlobFileSet("pair", [
    { path: "a.gguf", file: new Blob([pair.language]) },
    { path: "mmproj-a.gguf", file: new Blob([pair.vision]) },
  ]);
  const job = await planImport(request(files));
  expect(job.manifest).toMatchObject({ name: "pair", licence: "apache-2.0", source: "folder “pair”" });
  const stored = await storedBytes(await importModel(job));
  const original = await planImport(request(random.files));
  expect(job.id).not.toBe(original.id);
  expect(stored).toEqual(await storedBytes(await importModel(original)));
  const { texts, config } = job.manifest;
  const [chat, own] = [texts, random.texts].map((from) => ChatFormat.from(from, parseConfig(config)));
  const messages = [{ role: "user", content: [{ type: "image" }, { type: "text", text: "Wie hoch? <|im_end|>" }] }];
  expect(chat!.render(messages)).toBe(own!.render(messages));
  expect(chat!.ends).toEqual(own!.ends);
});

test("a mix of block types is kept exactly, whatever is asked for; what is not quantized becomes what is asked for", async () => {
  const wide = new RandomCheckpoint({
    ...{ layers: 1, hidden: 256, heads: 2, kvHeads: 1, headDim: 64, ffn: 96, tied: true, vocabulary: 283 },
    vision: { depth: 1, hidden: 32, heads: 2, ffn: 68, taps: [0], positions: 16 },
  });
  // As Q4_K_M mixes types; with other widths, Q5_0 and Q8_0 take the place of some.
  const pair = ggufPair(await pairSource(wide.files), (name) =>
    name.includes("visual") ? "Q8_0" : /v_proj|down|embed/.test(name) ? "Q6_K" : "Q4_K",
  );
  wide.remove();
  const files = new BlobFileSet("mix", [
    { path: "a.gguf", file: new Blob([pair.language]) },
    { path: "mmproj-a.gguf", file: new Blob([pair.vision]) },
  ]);
  const manifest = await importModel(await planImport(request(files)));
  const schemes = Object.fromEntries(manifest.slots.map(({ name, scheme }) => [name, scheme]));
  expect(schemes).toMatchObject({
    "language.embed": "q8s16",
    "language.layers.0.qkv": "q8p16",
    "language.layers.0.gate_up": "q4p32",
    "language.layers.0.down": "q8s32",
    "language.norm": "f32",
    "vision.patch": "bf16",
    "vision.blocks.0.qkv": "q8s32",
    "vision.blocks.0.fc2": "bf16",
  });
  const shards = [];
  for await (const shard of readShards(manifest)) shards.push(shard);
  const planes = assemble(manifest, shards);
  for (const [i, { name, scheme, rows, cols, sources }] of manifest.slots.entries()) {
    if (scheme === "bf16") continue;
    const expected = sources.flatMap(({ tensor }) => [...pair.values.get(tensor)!]);
    expect([...dequantizeRows(scheme, planes[i]!, rows, cols)], name).toEqual(expected);
  }
});
