import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { BlobFileSet, openCheckpoint, rowFormat } from "../src/formats/index.ts";
import { PRESETS, tensorList } from "./checkpoint_shapes.ts";
import { bytesOfType } from "./gguf_file.ts";
import { writeRandomFolder } from "./random_folder.ts";
import { FORMS, planGguf } from "./random_forms.ts";

const folder = mkdtempSync(join(tmpdir(), "tabtune-random-"));
afterAll(() => rmSync(folder, { recursive: true }));

// Numbers of tensors and bytes of the published checkpoints (../shared/spec/qwen3-vl.md §1.3).
test.each([
  ["2b", 625, 4_255_064_064],
  ["4b", 713, 8_875_631_616],
  ["8b", 750, 17_534_247_392],
  ["32b", 1058, 66_714_780_128],
])("%s has as many tensors and bytes as the real one", (preset, tensors, bytes) => {
  const list = tensorList(PRESETS[preset as keyof typeof PRESETS]);
  expect(new Set(list.map(([name]) => name)).size).toBe(tensors);
  expect(list.reduce((sum, [, shape]) => sum + 2 * shape.reduce((a, b) => a * b), 0)).toBe(bytes);
});

const FEW = { seed: 1, sampleRows: 128 };
const TOKENIZER = {
  added_tokens: [{ id: 151645, content: "<|im_end|>", special: true }],
  model: { vocab: {}, merges: [] },
};

// Bytes of the files that Qwen publishes (../shared/spec/checkpoint-formats.md §9), less those of the metadata: a vocabulary takes 5.95 MB.
test.each([
  ["2b", 1_107_409_952, undefined],
  ["4b", 2_497_281_664, 836_180_256],
  ["8b", 5_027_784_800, undefined],
] as const)("%s in Q4_K_M has as many bytes as the real one", (preset, language, vision) => {
  const plan = planGguf(PRESETS[preset], { tokenizer: TOKENIZER, template: "" }, FEW);
  const size = ({ tensors }: (typeof plan)["vision"]) => tensors.reduce((sum, tensor) => sum + bytesOfType(tensor), 0);
  const head = language - size(plan.language);
  expect(head).toBeGreaterThan(5_900_000);
  expect(head).toBeLessThan(6_000_000);
  if (vision === undefined) return;
  expect(vision - size(plan.vision)).toBeGreaterThan(0);
  expect(vision - size(plan.vision)).toBeLessThan(40_000);
});

test.each(FORMS)("a tiny one in %s is a checkpoint with plausible weights", async (form) => {
  const out = join(folder, form);
  const more = form === "bf16" ? { shardBytes: 400_000 } : {};
  await writeRandomFolder({ preset: "tiny", form, tokenizer: "public/models/demo", out, ...FEW, ...more });
  const parts = readdirSync(out).map((path) => ({ path, file: new Blob([readFileSync(join(out, path))]) }));
  if (form === "bf16") {
    expect(parts.filter(({ path }) => /^model-0000\d-of-0000\d\.safetensors$/.test(path)).length).toBeGreaterThan(2);
  }
  const checkpoint = await openCheckpoint(new BlobFileSet("random", parts));
  expect([...checkpoint.tensors.keys()].sort()).toEqual(
    tensorList(PRESETS.tiny)
      .map(([name]) => name)
      .sort(),
  );
  expect(checkpoint.tensors.get("model.visual.patch_embed.proj.weight")?.shape).toEqual([64, 3, 2, 16, 16]);
  const statistics = async (name: string) => {
    const { shape, dtype } = checkpoint.tensors.get(name)!;
    const rows = Math.min(shape[0]!, 64);
    const cols = shape.length === 1 ? 1 : shape.slice(1).reduce((a, b) => a * b);
    const raw = await checkpoint.readRows(name, 0, rows);
    const { rowBytes, decode } = rowFormat(dtype)!;
    const values: number[] = [];
    const row = new Float32Array(cols);
    for (let r = 0; r < rows; r++) {
      expect(decode(raw.subarray(r * rowBytes(cols), (r + 1) * rowBytes(cols)), cols, row)).toBe(-1);
      values.push(...row);
    }
    const mean = values.reduce((a, b) => a + b) / values.length;
    return { mean, deviation: Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length), values };
  };
  for (const [name, shape, centre] of tensorList(PRESETS.tiny)) {
    const { mean, deviation } = await statistics(name);
    expect(Math.abs(mean - centre), name).toBeLessThan(shape.length === 1 ? 0.02 : 0.005);
    expect(deviation, name).toBeGreaterThan(0.012);
    expect(deviation, name).toBeLessThan(0.028);
  }
  const [q, k] = await Promise.all(
    ["q", "k"].map((letter) => statistics(`model.language_model.layers.1.self_attn.${letter}_proj.weight`)),
  );
  expect(q!.values.slice(0, 8)).not.toEqual(k!.values.slice(0, 8));
});
