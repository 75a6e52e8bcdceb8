import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { bf16ToF32 } from "../src/formats/dtype.ts";
import { BlobFileSet, openCheckpoint } from "../src/formats/index.ts";
import { PRESETS, tensorList } from "./write_random_checkpoint.mjs";

const folder = mkdtempSync(join(tmpdir(), "tabtune-random-"));
afterAll(() => rmSync(folder, { recursive: true }));

// Numbers of tensors and bytes of the published checkpoints (../shared/spec/qwen3-vl.md §1.3).
test.each([
  ["2b", 625, 4_255_064_064],
  ["4b", 713, 8_875_631_616],
  ["8b", 750, 17_534_247_392],
  ["32b", 1058, 66_714_780_128],
])("%s has as many tensors and bytes as the real one", (preset, tensors, bytes) => {
  const list: [string, number[]][] = tensorList(PRESETS[preset as keyof typeof PRESETS]) as never;
  expect(new Set(list.map(([name]) => name)).size).toBe(tensors);
  expect(list.reduce((sum, [, shape]) => sum + 2 * shape.reduce((a, b) => a * b), 0)).toBe(bytes);
});

test("a tiny one in several files is a checkpoint with plausible weights", async () => {
  writeFileSync(join(folder, "tokenizer.json"), "{}");
  const out = join(folder, "out");
  const script = join(import.meta.dirname, "write_random_checkpoint.mjs");
  execFileSync(process.execPath, [
    script,
    "--preset",
    "tiny",
    "--tokenizer",
    folder,
    "--out",
    out,
    "--shard-bytes",
    "400000",
  ]);
  const parts = readdirSync(out).map((path) => ({ path, file: new Blob([readFileSync(join(out, path))]) }));
  expect(parts.filter(({ path }) => /^model-0000\d-of-0000\d\.safetensors$/.test(path)).length).toBeGreaterThan(2);
  const checkpoint = await openCheckpoint(new BlobFileSet("random", parts));
  expect(checkpoint.tensors.size).toBe(tensorList(PRESETS.tiny).length);
  expect(checkpoint.tensors.get("model.visual.patch_embed.proj.weight")?.shape).toEqual([64, 3, 2, 16, 16]);
  const statistics = async (name: string) => {
    const raw = await checkpoint.readRows(name, 0, checkpoint.tensors.get(name)!.shape[0]!);
    const values = Array.from(new Uint16Array(raw.buffer), bf16ToF32);
    const mean = values.reduce((a, b) => a + b) / values.length;
    const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
    return { mean, deviation, first: values.slice(0, 8) };
  };
  const q = await statistics("model.language_model.layers.0.self_attn.q_proj.weight");
  const k = await statistics("model.language_model.layers.0.self_attn.k_proj.weight");
  expect(Math.abs(q.mean)).toBeLessThan(0.001);
  expect(q.deviation).toBeCloseTo(0.02, 3);
  expect(q.first).not.toEqual(k.first);
  expect((await statistics("model.language_model.norm.weight")).mean).toBeCloseTo(1, 1);
});
