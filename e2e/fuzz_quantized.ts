// Fuzzing of the published quantizations and of our own form: small sound checkpoints of each.
import { createHash } from "node:crypto";
import { openPacked } from "../src/engine/import_packed.ts";
import { dtypeBytes } from "../src/formats/dtype.ts";
import {
  BlobFileSet,
  MANIFEST_VERSION,
  openCheckpoint,
  PACKED_INDEX,
  type PackedIndex,
  rowFormat,
  rowLayout,
  VerifiedFiles,
} from "../src/formats/index.ts";
import { parseJson } from "../src/formats/json.ts";
import { modelShape, parametersOf } from "../src/formats/onnx/parameters.ts";
import { writeSafetensors } from "../src/formats/safetensors.ts";
import type { Files, Target } from "./fuzz_target.ts";
import { onnxExport } from "./onnx_export.ts";
import {
  type Dense,
  toActOrder,
  toInt4,
  type Written,
  writeActOrder,
  writeAwq,
  writeBnb,
  writeCompressedTensors,
  writeFp8,
  writeGptq,
  writeMlx,
} from "./write_formats.ts";

const WEIGHTS = "model.safetensors";
const LIST = "tensors.json";
const DATA = "data";
/** Bytes of one read, in place of an import's 8 MiB. */
const MOST_READ = 1 << 9;
/** Up to here the bytes follow the damaged shapes: with zeros at their end, or cut off. */
const MOST_DATA = 1 << 14;

const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value)) as Uint8Array<ArrayBuffer>;

function dense(module: string, out: number, cols: number): Dense {
  return { module, out, cols, values: Float32Array.from({ length: out * cols }, (_, i) => Math.sin(i * 1.7) / 4) };
}

/**
 * Two seeds of one form: the files as they are, and the weight file taken apart into a list of its tensors and their bytes, so that
 * names and shapes change while offsets go on fitting them.
 */
function seedsOf(config: object, written: Written[]): Files[] {
  const tensors = written.flatMap((weight) => weight.tensors);
  const list = tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
  const data = new Uint8Array(tensors.reduce((sum, { bytes }) => sum + bytes.length, 0));
  tensors.reduce((at, { bytes }) => {
    data.set(bytes, at);
    return at + bytes.length;
  }, 0);
  const shared = ["config.json", text({ model_type: "qwen3_vl", ...config })] as const;
  return [new Map([shared, [WEIGHTS, writeSafetensors(tensors)]]), new Map([shared, [LIST, text(list)], [DATA, data]])];
}

/** The weight file, put together again from its parts. */
function weightFile(files: Files): Uint8Array<ArrayBuffer> {
  const whole = files.get(WEIGHTS);
  if (whole) return whole;
  const list = parseJson(new TextDecoder().decode(files.get(LIST)), LIST);
  let end = 0;
  const header: Record<string, unknown> = {};
  for (const entry of Array.isArray(list) ? list : [list]) {
    const { name, dtype, shape } = (entry ?? {}) as Record<string, unknown>;
    const dims = Array.isArray(shape) ? shape.map(Number) : [];
    const begin = end;
    end += dims.reduce((product, n) => product * n, dtypeBytes(String(dtype)) ?? 1);
    header[String(name)] = { dtype, shape, data_offsets: [begin, end] };
  }
  const json = text(header);
  const data = files.get(DATA)!;
  const file = new Uint8Array(8 + json.length + (end >= 0 && end <= MOST_DATA ? end : data.length));
  new DataView(file.buffer).setUint32(0, json.length, true);
  file.set(json, 8);
  file.set(data.subarray(0, file.length - 8 - json.length), 8 + json.length);
  return file;
}

async function readForm(files: Files): Promise<void> {
  await readAll(
    new Map([
      ["config.json", files.get("config.json")!],
      [WEIGHTS, weightFile(files)],
    ]),
  );
}

async function readAll(files: Files): Promise<void> {
  const parts = [...files].map(([path, bytes]) => ({ path, file: new Blob([bytes]) }));
  const checkpoint = await openCheckpoint(new BlobFileSet("fuzzed", parts));
  for (const [name, { shape, dtype }] of checkpoint.tensors) {
    const [rows = 1, ...rest] = shape;
    const rowBytes = rowFormat(dtype)?.rowBytes(rest.reduce((product, n) => product * n, 1)) || MOST_READ / rows;
    // An import knows what a row comes to, and reads no more of them at once than it wants to hold.
    const step = Math.max(1, Math.floor(MOST_READ / rowBytes));
    for (let row = 0; row < rows; row += step) await checkpoint.readRows(name, row, Math.min(step, rows - row));
  }
}

const quantization = (config: object) => ({ quantization_config: config });
const q = (module: string, symmetric = false) => toInt4(dense(module, 16, 64), 32, symmetric);

const FORMS: Record<string, () => Files[]> = {
  bitsandbytes: () =>
    seedsOf(quantization({ quant_method: "bitsandbytes", load_in_4bit: true }), [
      writeBnb(dense("m", 16, 64)),
      writeBnb(dense("n", 3, 40), { blocksize: 32, nested: false, kind: "fp4", dtype: "float16" }),
    ]),
  awq: () => [
    ...seedsOf(quantization({ quant_method: "awq", bits: 4, version: "gemm", group_size: 32 }), [writeAwq(q("m"))]),
    // Groups that no scheme holds.
    ...seedsOf(quantization({ quant_method: "awq" }), [writeAwq(toInt4(dense("n", 8, 48), 16))]),
  ],
  gptq: () => [
    ...seedsOf(quantization({ quant_method: "gptq", bits: 4, group_size: 32, desc_act: false }), [writeGptq(q("m"))]),
    ...seedsOf(quantization({ quant_method: "gptq", bits: 4, group_size: 32, desc_act: true }), [
      writeActOrder(dense("m", 16, 64), 32),
    ]),
  ],
  "compressed-tensors": () => {
    const weights = (num_bits: number) => ({ weights: { num_bits, type: "int", group_size: 32, symmetric: false } });
    const bytes = toActOrder(dense("n", 6, 64), 32, 8);
    return seedsOf(
      quantization({
        ...{ quant_method: "compressed-tensors", format: "pack-quantized" },
        config_groups: { group_0: weights(4), group_1: weights(8) },
      }),
      [writeCompressedTensors(q("m")), writeCompressedTensors(bytes.q, false, { bits: 8, gIdx: bytes.gIdx })],
    );
  },
  fp8: () =>
    seedsOf(quantization({ quant_method: "fp8", weight_block_size: [64, 64] }), [
      writeFp8(dense("m", 16, 128), 64),
      writeFp8(dense("n", 70, 64), 64),
    ]),
  mlx: () => {
    const settings = { group_size: 32, bits: 4, mode: "affine", n: { bits: 8 } };
    return seedsOf({ quantization: settings }, [
      writeMlx(dense("m", 16, 64), 4, 32),
      writeMlx(dense("n", 8, 64), 8, 32),
    ]);
  },
};

/** Exports of the smallest model there is, in 4 and 8 bits with and without zero points, weights beside the graph and in it. */
function onnxSeeds(): Files[] {
  const sizes = { hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 1, num_key_value_heads: 1, head_dim: 32 };
  const config = {
    ...{ model_type: "qwen3_vl", tie_word_embeddings: true },
    text_config: { ...sizes, intermediate_size: 32 },
    vision_config: { depth: 1, deepstack_visual_indexes: [] },
  };
  const shape = modelShape(config);
  const tensors = parametersOf(shape).map(({ name }) => {
    const vector = /bias$|norm/.test(name);
    const dims = vector ? [32] : name.includes("patch_embed") ? [32, 3, 2, 2, 2] : [32, 32];
    const { values } = dense(
      name,
      1,
      dims.reduce((product, n) => product * n, 1),
    );
    return { name, shape: dims, data: values };
  });
  const { files } = onnxExport({ config, tensors });
  const bytes = (data: string | Uint8Array<ArrayBuffer>) =>
    typeof data === "string" ? (new TextEncoder().encode(data) as Uint8Array<ArrayBuffer>) : data;
  return [new Map(Object.entries(files).map(([path, data]) => [path, bytes(data)]))];
}

const SHAPES = new Map<string, readonly [number, number]>([
  ["a", [24, 64]],
  ["b", [1, 32]],
]);

function packedSeed(): Files {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  const put = (path: string, bytes: Uint8Array<ArrayBuffer>) => {
    files.set(path, bytes);
    return { path, bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
  };
  const slots = [...SHAPES].map(([name, [rows, cols]], i) => ({
    ...{ name, rows, cols, scheme: i === 0 ? ("q4a32" as const) : ("f32" as const) },
    sources: [{ tensor: name, rows }],
  }));
  const { codesBytes, metaBytes } = rowLayout("q4a32", 64);
  // 16 rows of a; the rest of it with b.
  const chunk = (slot: number, row0: number, rows: number, at: number, codes: number, meta: number) => ({
    ...{ slot, row0, rows, codesOffset: at, codesBytes: rows * codes, metaOffset: at + rows * codes },
    metaBytes: rows * meta,
  });
  const rest = 8 * (codesBytes + metaBytes);
  const index: PackedIndex = {
    ...{ format: "tabtune-model", version: MANIFEST_VERSION, name: "m", source: "some/model", sourceFingerprint: "f" },
    ...{ licence: "apache-2.0", config: { model_type: "qwen3_vl" }, scheme: "q4a32", slots, parameters: 1568 },
    shards: [
      {
        ...put("shards/00000.bin", new Uint8Array(16 * (codesBytes + metaBytes)).fill(1)),
        chunks: [chunk(0, 0, 16, 0, codesBytes, metaBytes)],
      },
      {
        ...put("shards/00001.bin", new Uint8Array(rest + 128).fill(2)),
        chunks: [chunk(0, 16, 8, 0, codesBytes, metaBytes), chunk(1, 0, 1, rest, 128, 0)],
      },
    ],
    texts: [put("texts/tokenizer.json", text({ model: {} })), put("texts/chat_template.jinja", text("{{ messages }}"))],
  };
  put(PACKED_INDEX, text(index));
  return files;
}

async function readPacked(files: Files): Promise<void> {
  const blobs = [...files].map(([path, bytes]) => ({ path, file: new Blob([bytes]) }));
  const verified = new VerifiedFiles(new BlobFileSet("fuzzed", blobs));
  const request = { files: verified, scheme: "packed", slots: [], shapes: () => SHAPES } as never;
  const { manifest, make } = await openPacked(request, verified);
  for (const i of manifest.shards.keys()) await make(i, undefined as never, () => undefined);
}

export const quantizedTargets = (): Target[] => [
  ...Object.entries(FORMS).map(([name, seeds]) => ({ name, seeds: seeds(), read: readForm })),
  { name: "onnx", seeds: onnxSeeds(), read: readAll },
  { name: "packed", seeds: [packedSeed()], read: readPacked },
];
