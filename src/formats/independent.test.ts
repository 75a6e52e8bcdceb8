import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseConfig, weightSlots } from "../models/index.ts";
import { BlobFileSet } from "./blob_files.ts";
import type { TensorInfo } from "./checkpoint.ts";
import { GGML_TYPES } from "./gguf/blocks.ts";
import { readGgufFile } from "./gguf/container.ts";
import { openCheckpoint } from "./open_checkpoint.ts";
import { dequantizeRows } from "./quant/planes.ts";
import { encodeRows } from "./quant/rows.ts";
import { rowFormat } from "./row_format.ts";
import { readSafetensors } from "./safetensors.ts";

/*
 * Files written by gguf, torch and the safetensors library, with the values that these libraries give them: scripts/fixtures/independent.py.
 * Everything is compared bit by bit; a zero may have either sign.
 */
const at = (name: string) => readFileSync(`${import.meta.dirname}/testdata/independent/${name}`);
const files = (...names: string[]) =>
  new BlobFileSet(
    "independent",
    names.map((path) => ({ path, file: new Blob([at(path)]) })),
  );
const expected = new Map(readSafetensors("expected.safetensors", at("expected.safetensors")).map((t) => [t.name, t]));

/** Whole rows of a tensor as numbers. */
function decode({ dtype, shape }: Pick<TensorInfo, "dtype" | "shape">, raw: Uint8Array): Float32Array {
  const cols = shape.slice(1).reduce((a, b) => a * b, 1);
  const { rowBytes, decode } = rowFormat(dtype)!;
  const rows = raw.length / rowBytes(cols);
  const out = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    expect(decode(raw.subarray(r * rowBytes(cols), (r + 1) * rowBytes(cols)), cols, out.subarray(r * cols))).toBe(-1);
  }
  return out;
}

const plus = (values: ArrayLike<number>) => Array.from(values, (value) => value + 0);

test("gguf's blocks of every type are opened to its own values, and kept so by every scheme that claims to", async () => {
  const set = files("blocks.gguf");
  const { tensors, metadata } = await readGgufFile(set, "blocks.gguf");
  expect(tensors.map(({ dtype }) => dtype).sort()).toEqual([...GGML_TYPES.values()].map(({ name }) => name).sort());
  for (const tensor of tensors) {
    const { values, shape } = expected.get(`blocks.${tensor.name}`)!;
    expect(tensor).toMatchObject({ dtype: tensor.name, shape });
    const raw = await set.read("blocks.gguf", tensor.offset, tensor.bytes);
    expect(plus(decode(tensor, raw)), tensor.name).toEqual(plus(values));
    const [rows, cols] = shape as [number, number];
    for (const { scheme } of rowFormat(tensor.dtype)!.exact ?? []) {
      const planes = encodeRows({ scheme, dtype: tensor.dtype, raw, rows, cols, tensor: tensor.name, row0: 0 });
      expect(plus(dequantizeRows(scheme, planes, rows, cols)), `${tensor.name} as ${scheme}`).toEqual(plus(values));
    }
  }
  expect(Object.fromEntries(metadata)).toMatchObject({
    "general.architecture": "blocks",
    "general.alignment": 64,
    "test.bool": true,
    "test.int8": -3,
    "test.uint64": 2 ** 40,
    "test.float64": 0.1,
    "test.strings": ["", "naïve", "Ġthe"],
    "test.numbers": [24, 20, 20, 0],
  });
});

test("a pair with gguf's keys and names is a whole Qwen3-VL with the values that went in", async () => {
  const checkpoint = await openCheckpoint(files("language.gguf", "mmproj.gguf"));
  const config = parseConfig(checkpoint.config);
  expect(config).toMatchObject({
    text: {
      ...{ hiddenSize: 32, intermediateSize: 64, numHiddenLayers: 1, numAttentionHeads: 2, numKeyValueHeads: 1 },
      ...{ headDim: 16, vocabSize: 272, rmsNormEps: 1e-6, ropeTheta: 5e6, mropeSection: [4, 2, 2] },
      ...{ maxPositionEmbeddings: 4096, tieWordEmbeddings: false },
    },
    vision: {
      ...{ hiddenSize: 16, intermediateSize: 32, depth: 1, numHeads: 2, patchSize: 4, temporalPatchSize: 2 },
      ...{ spatialMergeSize: 2, numPositionEmbeddings: 16, outHiddenSize: 32, deepstackVisualIndexes: [0] },
    },
    imageTokenId: 261,
  });
  // Every tensor that the model wants is there, and there is no other.
  const wanted = weightSlots(config, checkpoint, "bf16").flatMap(({ sources }) => sources.map(({ tensor }) => tensor));
  expect([...checkpoint.tensors.keys()].sort()).toEqual([...new Set(wanted)].sort());
  const lm = "model.language_model.";
  const vt = "model.visual.";
  const both = (name: string) => [`${vt}${name}.weight`, `${vt}${name}.bias`];
  const merger = (name: string) => [`${name}.norm`, `${name}.linear_fc1`, `${name}.linear_fc2`].flatMap(both);
  /** In the order in which they were written; the patch embedding went in as two. */
  const order = [
    ...[`${lm}embed_tokens`, `${lm}norm`, "lm_head"].map((name) => `${name}.weight`),
    ...["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
      .concat("self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm")
      .concat("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
      .map((name) => `${lm}layers.0.${name}.weight`),
    `${vt}patch_embed.proj.weight`,
    "",
    `${vt}patch_embed.proj.bias`,
    `${vt}pos_embed.weight`,
    ...["attn.qkv", "attn.proj", "norm1", "norm2", "mlp.linear_fc1", "mlp.linear_fc2"].flatMap((name) =>
      both(`blocks.0.${name}`),
    ),
    ...merger("merger"),
    ...merger("deepstack_merger_list.0"),
  ];
  const written = (place: number, i: number) => (((7 * place + 3 * i) % 61) - 30) / 64;
  expect(order.filter(Boolean).sort()).toEqual([...checkpoint.tensors.keys()].sort());
  for (const [name, tensor] of checkpoint.tensors) {
    const values = decode(tensor, await checkpoint.readRows(name, 0, tensor.shape[0]!));
    const place = order.indexOf(name);
    const isPatch = name.endsWith("patch_embed.proj.weight");
    // Of [out, channels, times, area] each time is a tensor [out, channels, area] of its own.
    const value = (i: number) => {
      if (!isPatch) return written(place, i);
      const [area, time] = [16, Math.floor(i / 16) % 2];
      return written(place + time, Math.floor(i / (2 * area)) * area + (i % area));
    };
    expect(plus(values), name).toEqual(Array.from(values, (_, i) => value(i)));
  }
  const tokenizer = JSON.parse(await checkpoint.files.text("tokenizer.json"));
  expect(tokenizer.model).toMatchObject({ merges: [["t", "h"]], vocab: { th: 256, Ġ: 32 } });
  expect(tokenizer.added_tokens.map(({ content }: { content: string }) => content)).toContain("<|image_pad|>");
  expect(await checkpoint.files.text("chat_template.jinja")).toBe("{{ messages[0].content }}");
  expect(checkpoint.files.licence).toBe("mit");
});

test("torch's floats and block-scaled FP8 in the safetensors library's file", async () => {
  const config = { quantization_config: { quant_method: "fp8", weight_block_size: [128, 128] } };
  const set = new BlobFileSet("torch", [
    { path: "config.json", file: new Blob([JSON.stringify(config)]) },
    { path: "model.safetensors", file: new Blob([at("model.safetensors")]) },
  ]);
  const checkpoint = await openCheckpoint(set);
  const names = [...expected.keys()].filter((name) => !name.startsWith("blocks."));
  expect([...checkpoint.tensors.keys()].sort()).toEqual(names.sort());
  const dtypes = Object.fromEntries([...checkpoint.tensors].map(([name, { dtype }]) => [name, dtype]));
  expect(dtypes).toEqual({
    "bf16.weight": "BF16",
    "f16.weight": "F16",
    "f32.weight": "F32",
    "wide.weight": "f8s64",
    "tall.weight": "f8s64",
  });
  for (const name of names) {
    const { values, shape } = expected.get(name)!;
    const tensor = checkpoint.tensors.get(name)!;
    expect(tensor.shape).toEqual(shape);
    expect(plus(decode(tensor, await checkpoint.readRows(name, 0, shape[0]!))), name).toEqual(plus(values));
  }
});
