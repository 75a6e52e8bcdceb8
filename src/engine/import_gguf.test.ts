import "fake-indexeddb/auto";
import { afterAll, beforeEach, expect, test } from "vitest";
import { ggufPair, pairSource } from "../../e2e/gguf_pair.ts";
import { storedBytes } from "../../e2e/import_fixture.ts";
import { RandomCheckpoint } from "../../e2e/random_checkpoint.ts";
import { BlobFileSet, type Checkpoint, type FileSet } from "../formats/index.ts";
import { parseConfig, weightSlots } from "../models/index.ts";
import { ChatFormat } from "./chat_format.ts";
import { importModel, planImport } from "./import.ts";
import { deleteModel, listModels } from "./import_models.ts";

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
