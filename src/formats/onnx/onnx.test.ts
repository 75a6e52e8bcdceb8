import { describe, expect, test } from "vitest";
import { blocks, floats, integers, type OnnxTensor, onnxExport, writeModel } from "../../../e2e/onnx_export.ts";
import { type Initializer, Message, type Node, writeOnnx } from "../../../e2e/onnx_writer.ts";
import { configJson, tinyWeights } from "../../../e2e/tiny_model.ts";
import { parseConfig, weightSlots } from "../../models/index.ts";
import { parseGenerationConfig, parseProcessorConfig } from "../../models/qwen3_vl/processor_config.ts";
import { BlobFileSet } from "../blob_files.ts";
import { openCheckpoint } from "../open_checkpoint.ts";
import { RecentReads } from "../recent_reads.ts";
import { rowFormat } from "../row_format.ts";
import { readOnnxGraph } from "./graph.ts";
import { type WeightRows, weightRows } from "./rows.ts";
import { findWeights } from "./weights.ts";

type Files = Record<string, BlobPart>;
const folder = (files: Files) =>
  new BlobFileSet(
    "export",
    Object.entries(files).map(([path, data]) => ({ path, file: new Blob([data]) })),
  );

const weightsOfTiny = tinyWeights();
const source = {
  config: configJson as unknown as Record<string, unknown>,
  tensors: [...weightsOfTiny].map(([name, { shape, data }]) => ({ name, shape: [...shape], data })),
};
/** Widths of the tiny model are multiples of 16 at least, in the decoder. */
const tiny = onnxExport(source, 16);

/** All rows in two reads, the second from an odd row on. */
async function valuesOf({ info, readRows }: Pick<WeightRows, "info" | "readRows">): Promise<Float32Array> {
  const { shape, dtype } = info;
  const cols = shape.slice(1).reduce((a, b) => a * b, 1);
  const { rowBytes, decode } = rowFormat(dtype)!;
  const out = new Float32Array(shape[0]! * cols);
  const cut = Math.min(shape[0]!, 3);
  for (const [row0, rows] of [
    [0, cut],
    [cut, shape[0]! - cut],
  ] as const) {
    const raw = await readRows(row0, rows);
    expect(raw.length).toBe(rows * rowBytes(cols));
    for (let r = 0; r < rows; r++) {
      expect(decode(raw.subarray(r * rowBytes(cols)), cols, out.subarray((row0 + r) * cols))).toBe(-1);
    }
  }
  return out;
}

/** A node; of most nobody asks what becomes of their output. */
type Sketch = Omit<Node, "outputs"> & { outputs?: string[] };
const drawn = (sketch: Sketch): Node => ({ outputs: ["y"], ...sketch });

/** The weights of one graph, by the names that they are found under. */
async function found(nodes: readonly Sketch[], tensors: readonly OnnxTensor[]) {
  const files = folder({ "m.onnx": writeModel(nodes.map(drawn), tensors).model });
  const { weights, strange } = findWeights([await readOnnxGraph(files, "m.onnx")]);
  const recent = new RecentReads<Uint8Array<ArrayBuffer>>();
  const read = (name: string) =>
    weightRows(
      name,
      weights.get(name)!,
      ({ file, offset, bytes }, from = 0, length = bytes - from) => files.read(file, offset + from, length),
      recent,
    );
  return { names: [...weights.keys()], strange, read };
}

const near = (values: ArrayLike<number>, wanted: ArrayLike<number>, name: string) => {
  expect(values.length, name).toBe(wanted.length);
  // An offset in f32 is rounded once.
  const largest = Array.from(wanted).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const off = Array.from(values).findIndex((value, i) => !(Math.abs(value - wanted[i]!) <= largest * 2 ** -22));
  expect(off, name).toBe(-1);
};
const bf16 = (data: ArrayLike<number>) => {
  const { data: bytes } = floats("", "bf16", [data.length], data);
  return new Float32Array(Uint32Array.from(new Uint16Array(bytes.slice().buffer), (half) => half << 16).buffer);
};

describe("a whole export", () => {
  test("has every weight of the model with the values that were written", async () => {
    const checkpoint = await openCheckpoint(folder(tiny.files));
    expect([...checkpoint.tensors.keys()].sort()).toEqual([...weightsOfTiny.keys()].sort());
    for (const [name, info] of checkpoint.tensors) {
      const values = await valuesOf({ info, readRows: (row0, rows) => checkpoint.readRows(name, row0, rows) });
      const { shape, data } = weightsOfTiny.get(name)!;
      const size = (s: readonly number[]) => s.reduce((a, b) => a * b, 1);
      expect([info.shape[0], size(info.shape)], name).toEqual([shape[0], size(shape)]);
      near(values, tiny.values.get(name) ?? (shape.length === 1 ? data : bf16(data)), name);
    }
    const slots = weightSlots(parseConfig(checkpoint.config), checkpoint, "bf16");
    expect(slots.find(({ name }) => name === "language.embed")).toMatchObject({ rows: 64, cols: 32 });
    expect(checkpoint.notes).toEqual([]);
  });

  test("keeps a head of its own, and goes without DeepStack where the export has none", async () => {
    const tensors = source.tensors.filter(({ name }) => !name.includes("deepstack"));
    const { files } = onnxExport({ ...source, tensors }, 16);
    const head = blocks("lm_head.MatMul.weight", [64, 32], source.tensors[0]!.data, 32);
    const node = { op: "MatMulNBits", name: "/lm_head/MatMul_Q4", inputs: ["x", ...head.tensors.map((t) => t.name)] };
    // Fields of one message may come in pieces: a second graph goes on with the first.
    const more = writeModel([drawn({ ...node, attributes: head.attributes })], head.tensors).model;
    const text = new Blob([files["text.onnx"]!, more]);
    const checkpoint = await openCheckpoint(folder({ ...files, "text.onnx": text }));
    const { text: t, vision } = parseConfig(checkpoint.config);
    expect([t.tieWordEmbeddings, vision.deepstackVisualIndexes]).toEqual([false, []]);
    expect(checkpoint.notes).toEqual([
      expect.stringMatching(/head and the embedding apart/),
      expect.stringMatching(/DeepStack/),
    ]);
    const rows = {
      info: checkpoint.tensors.get("lm_head.weight")!,
      readRows: (a: number, b: number) => checkpoint.readRows("lm_head.weight", a, b),
    };
    expect(rows.info.dtype).toBe("q4z64");
    near(await valuesOf(rows), head.values, "head");
  });

  test("in a folder of its own reads the small files there", async () => {
    const files = Object.fromEntries(Object.entries(tiny.files).map(([path, data]) => [`cpu/${path}`, data]));
    const checkpoint = await openCheckpoint(folder({ ...files, "cpu/tokenizer.json": "{}" }));
    expect(checkpoint.tensors.size).toBe(weightsOfTiny.size);
    expect(await checkpoint.files.text("tokenizer.json")).toBe("{}");
  });

  test("takes onnxruntime-genai's word for pictures and the end of an answer, but the model's own before", async () => {
    const resize = { operation: { type: "Resize", attrs: { min_pixels: 3136, max_pixels: 12845056, patch_size: 4 } } };
    const genai = {
      "processor_config.json": JSON.stringify({ processor: { transforms: [resize] } }),
      "genai_config.json": JSON.stringify({
        model: { eos_token_id: [62, 57] },
        search: { do_sample: true, top_k: 50 },
      }),
    };
    const read = async (files: Files) => {
      const { files: set, config } = await openCheckpoint(folder({ ...tiny.files, ...files }));
      const paths = ["preprocessor_config.json", "processor_config.json", "generation_config.json"];
      const texts: Record<string, string> = {};
      for (const path of paths) if (await set.has(path)) texts[path] = await set.text(path);
      const { patchSize, minPixels, maxPixels } = parseProcessorConfig(texts, parseConfig(config));
      const { endTokenIds, sampling } = parseGenerationConfig(texts["generation_config.json"]);
      return { patchSize, minPixels, maxPixels, endTokenIds, topK: sampling.topK };
    };
    const pictures = { patchSize: 4, minPixels: 3136, maxPixels: 12845056 };
    expect(await read(genai)).toEqual({ ...pictures, endTokenIds: [62, 57], topK: 50 });
    expect(await read({})).toMatchObject({ minPixels: 65536, maxPixels: 16777216, endTokenIds: [] });
    const own = {
      "preprocessor_config.json": '{"size":{"shortest_edge":64,"longest_edge":128}}',
      "generation_config.json": '{"eos_token_id":1}',
    };
    expect(await read({ ...genai, ...own })).toMatchObject({ minPixels: 64, maxPixels: 128, endTokenIds: [1] });
  });

  const without = (path: string) => Object.fromEntries(Object.entries(tiny.files).filter(([name]) => name !== path));
  const config = (change: (json: typeof configJson) => unknown) => JSON.stringify(change(structuredClone(configJson)));
  test.each<[string, Files, RegExp]>([
    ["without the vision tower", without("vision.onnx"), /model\.visual\.patch_embed\.proj\.weight was not found/],
    ["without its data", without("text.onnx.data"), /lies in text\.onnx\.data, which is missing/],
    ["with less data", { ...tiny.files, "text.onnx.data": "x" }, /ends at byte \d+, but the file has 1/],
    ["without a config", without("config.json"), /expected config\.json of the model beside text\.onnx/],
    [
      "of fewer layers",
      {
        ...tiny.files,
        "config.json": config((c) => ({ ...c, text_config: { ...c.text_config, num_hidden_layers: 2 } })),
      },
      /layers\.2\..* is not a weight that the model of config\.json has/,
    ],
    [
      "of more layers",
      {
        ...tiny.files,
        "config.json": config((c) => ({ ...c, text_config: { ...c.text_config, num_hidden_layers: 5 } })),
      },
      /layers\.4\.self_attn\.q_proj\.weight was not found/,
    ],
    [
      "of other heads",
      { ...tiny.files, "config.json": config((c) => ({ ...c, text_config: { ...c.text_config, head_dim: 32 } })) },
      /qkv_proj\.weight: expected 256 rows, found \[128, 32\]/,
    ],
    [
      "cut off",
      { ...tiny.files, "vision.onnx": (tiny.files["vision.onnx"] as Uint8Array<ArrayBuffer>).slice(0, 999) },
      /damaged/,
    ],
    ["that is a pointer", { ...tiny.files, "text.onnx": "version https://git-lfs" }, /text\.onnx: expected/],
    ["twice", { ...tiny.files, "embedding.onnx": tiny.files["text.onnx"]! }, /is there twice/],
  ])("%s is refused by name", async (_, files, message) => {
    await expect(openCheckpoint(folder(files))).rejects.toThrow(message);
  });
});

describe("weights through the graph", () => {
  const matrix = Float32Array.from({ length: 12 }, (_, i) => i / 4 - 1);
  const Q = "model.language_model.layers.0.self_attn.q_proj";

  test("by the exporter's note of the scope, turned round", async () => {
    const node = { op: "MatMul", name: "node_linear", inputs: ["x", "val_191"], scope: Q };
    const { names, read } = await found([node], [floats("val_191", "f16", [3, 4], matrix, true)]);
    expect(names).toEqual([`${Q}.weight`]);
    const rows = read(`${Q}.weight`);
    expect(rows.info).toMatchObject({ shape: [3, 4], dtype: "F16" });
    expect([...(await valuesOf(rows))]).toEqual([...matrix]);
  });

  test("one tensor as embedding and head, behind a Transpose", async () => {
    const nodes = [
      { op: "Transpose", inputs: ["lm_head.MatMul.weight"], outputs: ["t"], attributes: { perm: { ints: [1, 0] } } },
      { op: "Gather", name: "/model/embed_tokens/Gather", inputs: ["t", "ids"] },
      { op: "MatMul", name: "/lm_head/MatMul", inputs: ["x", "lm_head.MatMul.weight"] },
    ];
    const { names, read } = await found(nodes, [floats("lm_head.MatMul.weight", "f32", [3, 4], matrix, true)]);
    expect(names).toEqual(["lm_head.weight"]);
    expect([...(await valuesOf(read("lm_head.weight")))]).toEqual([...matrix]);
  });

  test("in the branches of an If, and in a constant", async () => {
    const gemm = drawn({ op: "Gemm", name: "/model/layers.0/attn/q_proj/Gemm", inputs: ["x", "w"] });
    const tensor = floats("w", "f32", [3, 4], matrix, true);
    const branches = { then_branch: { nodes: [gemm] }, else_branch: { nodes: [gemm] } };
    const nodes = [
      { op: "Constant", inputs: [], outputs: ["w"], attributes: { value: { tensor } } },
      { op: "If", inputs: ["c"], attributes: branches },
    ];
    const { names, read } = await found(nodes, []);
    expect(names).toEqual([`${Q}.weight`]);
    expect([...(await valuesOf(read(`${Q}.weight`)))]).toEqual([...matrix]);
  });

  test("graphs inside of graphs without end are refused", async () => {
    let node = drawn({ op: "MatMul", inputs: ["x", "w"] });
    for (let i = 0; i < 20; i++) node = drawn({ op: "If", inputs: [], attributes: { body: { nodes: [node] } } });
    const files = folder({ "m.onnx": writeModel([node], []).model });
    await expect(readOnnxGraph(files, "m.onnx")).rejects.toThrow(/at most 8 deep/);
  });

  test("names that disagree are refused, and two tensors for one weight", async () => {
    const tensors = [floats(`${Q}.weight`, "f32", [3, 4], matrix), floats("other", "f32", [3, 4], matrix)];
    const node = { op: "MatMul", name: "/model/layers.1/attn/q_proj/MatMul", inputs: ["x", `${Q}.weight`] };
    await expect(found([node], tensors)).rejects.toThrow(/layers\.0\.self_attn\.q_proj or .*layers\.1.*disagree/);
    const twice = ["other", `${Q}.weight`].map((w) => ({
      op: "MatMul",
      name: "/model/layers.0/attn/q_proj/MatMul",
      inputs: ["x", w],
    }));
    await expect(found(twice, tensors)).rejects.toThrow(/is there twice/);
  });

  test("weights in the graph are passed over", async () => {
    const big = floats("w", "f32", [1024, 1024], new Float32Array(1 << 20));
    const { model } = writeModel([drawn({ op: "MatMul", inputs: ["x", "w"] })], [big, floats("z", "f32", [1], [1])]);
    const files = folder({ "m.onnx": model });
    let read = 0;
    const counted = Object.assign(Object.create(files), {
      read: (path: string, offset: number, length: number) => {
        read += length;
        return files.read(path, offset, length);
      },
    });
    const { tensors } = await readOnnxGraph(counted, "m.onnx");
    expect([...tensors.keys()]).toEqual(["w", "z"]);
    expect(read).toBeLessThan(300_000);
  });
});

describe("blocks", () => {
  const values = (out: number, cols: number) =>
    Float32Array.from({ length: out * cols }, (_, i) => Math.sin(i * 1.7) / 4);
  const name = "model.language_model.layers.0.mlp.down_proj.weight";
  const node = (q: ReturnType<typeof blocks>, more: Record<string, number> = {}): Sketch => ({
    op: "MatMulNBits",
    name: "/model/layers.0/mlp/down_proj/MatMul_Q4",
    inputs: ["x", ...q.tensors.map((t) => t.name)],
    attributes: { ...q.attributes, ...integers(more) },
  });

  test.each([
    ["q4z32", 32, { bits: 4 }],
    ["q4z64", 64, { bits: 4, symmetric: true }],
    ["q4z64", 192, { bits: 4 }],
    ["q4p32", 32, { bits: 4, scales: "f32" }],
    ["F32", 16, { bits: 4 }],
    ["q8s32", 64, { bits: 8, symmetric: true }],
    ["q8s16", 16, { bits: 8, symmetric: true, scales: "f32" }],
    ["q8p32", 32, { bits: 8 }],
    ["q8p16", 16, { bits: 8 }],
  ] as const)("are kept as %s: blocks of %i, %o", async (scheme, block, options) => {
    // Three blocks in a row: packed zero points of a row end inside a byte.
    const [out, cols] = [7, block === 192 ? 192 : 3 * block];
    // 192 is no power of two: a single block is longer than the row.
    const q = blocks("model.layers.0.mlp.down_proj.MatMul.weight", [out, cols], values(out, cols), block, options);
    const padded = block === 192 ? { ...q, tensors: q.tensors.map((t, i) => (i === 0 ? widened(t, out, 128) : t)) } : q;
    const { names, read } = await found([node(padded, block === 192 ? { block_size: 256 } : {})], padded.tensors);
    expect(names).toEqual([name]);
    const rows = read(name);
    expect(rows.info).toMatchObject({ dtype: scheme, shape: [out, cols], format: `ONNX ${options.bits}-bit` });
    near(await valuesOf(rows), q.values, scheme);
  });

  /** Rows of codes that are padded to the block. */
  function widened(tensor: OnnxTensor, out: number, rowBytes: number): OnnxTensor {
    const bytes = new Uint8Array(out * rowBytes).fill(0x77);
    const own = tensor.data.length / out;
    for (let r = 0; r < out; r++) bytes.set(tensor.data.subarray(r * own, (r + 1) * own), r * rowBytes);
    return { ...tensor, shape: [out, 1, rowBytes], data: bytes };
  }

  test("with zero points that are floats", async () => {
    const q = blocks("w", [4, 64], values(4, 64), 32, { symmetric: true, scales: "f32" });
    const zeros = floats("zp", "f32", [4, 2], [7.5, 8, 8.25, 8, 8, 8, 8, 6]);
    const { read } = await found([node({ ...q, tensors: [...q.tensors, zeros] })], [...q.tensors, zeros]);
    const rows = read(name);
    expect(rows.info.dtype).toBe("q4p32");
    const scales = new Float32Array(q.tensors[1]!.data.slice().buffer);
    const zero = new Float32Array(zeros.data.slice().buffer);
    const wanted = q.values.map((value, i) => value + (8 - zero[i >> 5]!) * scales[i >> 5]!);
    near(await valuesOf(rows), wanted, "float zeros");
  });

  const q = blocks("w", [4, 64], values(4, 64), 32);
  const [codes, scales, zeros] = q.tensors as [OnnxTensor, OnnxTensor, OnnxTensor];
  test.each<[string, Sketch, OnnxTensor[], RegExp]>([
    [
      "g_idx",
      { ...node(q), inputs: ["x", ...q.tensors.map((t) => t.name), "g"] },
      q.tensors,
      /columns in another order \(g_idx\)/,
    ],
    ["prepacked", node(q, { weight_prepacked: 1 }), q.tensors, /an order made for one kind of GPU/],
    ["2 bits", node(q, { bits: 2 }), q.tensors, /expected codes of 4 or 8 bits.*found U8, 2 bits/],
    ["blocks of 24", node(q, { block_size: 24 }), q.tensors, /blocks of 24/],
    ["other sizes", node(q, { N: 5 }), q.tensors, /codes and scales of 5 rows of 2 blocks/],
    [
      "zeros too short",
      node(q),
      [codes, scales, { ...zeros, shape: [4], data: zeros.data.slice(0, 3) }],
      /expected 4 bytes of data, found 3 bytes/,
    ],
    ["scales in whole numbers", node(q), [codes, { ...scales, type: "u8", shape: [4, 4] }, zeros], /codes and scales/],
    [
      "another axis",
      {
        op: "GatherBlockQuantized",
        name: "/model/layers.0/mlp/down_proj/G",
        inputs: [codes.name, "i", scales.name],
        attributes: integers({ bits: 4, block_size: 32, quantize_axis: 0 }),
      },
      [codes, scales],
      /another axis/,
    ],
  ])("%s is refused by name", async (_, written, tensors, message) => {
    const { read } = await found([written], tensors);
    expect(() => read(name)).toThrow(message);
  });

  test("data elsewhere stays in the folder, and a list of numbers is refused", async () => {
    const gemm = drawn({ op: "Gemm", name: "/lm_head/Gemm", inputs: ["x", "w"] });
    const place = (file: string): Initializer => {
      return { name: "w", type: "f32", shape: [2, 2], data: { file, offset: 0, bytes: 16 } };
    };
    const read = async (model: Uint8Array) => {
      const files = folder({ "a/m.onnx": model as Uint8Array<ArrayBuffer> });
      return (await readOnnxGraph(files, "a/m.onnx")).tensors.get("w");
    };
    const fault = (tensor: Initializer) =>
      read(writeOnnx({ nodes: [gemm], initializers: [tensor], inputs: [], outputs: [] }));
    expect(await fault(place("./m.data"))).toMatchObject({ file: "a/m.data", bytes: 16 });
    for (const bad of ["../m.data", "/etc/m", "c:m", ""])
      expect((await fault(place(bad)))?.fault).toMatch(/in a file beside it/);
    // 1.0 as int32_data, and f16 by its type.
    const typed = new Message().int(1, 1).int(2, 10).int(5, 15360).add(8, "w");
    expect((await read(new Message().add(7, new Message().add(5, typed)).bytes))?.fault).toMatch(
      /a list of numbers; save the model again/,
    );
  });
});
