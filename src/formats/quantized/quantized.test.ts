import { expect, test } from "vitest";
import {
  type Dense,
  dynamicMap,
  hashOf,
  int4Values,
  toActOrder,
  toInt4,
  type Written,
  type WrittenTensor,
  writeActOrder,
  writeAwq,
  writeBnb,
  writeCompressedTensors,
  writeFp8,
  writeGptq,
  writeMlx,
} from "../../../e2e/write_formats.ts";
import { BlobFileSet } from "../blob_files.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { bf16ToF32, encodeFloats, f32ToBf16 } from "../dtype.ts";
import { openCheckpoint } from "../open_checkpoint.ts";
import { rowFormat } from "../row_format.ts";
import { writeSafetensors } from "../safetensors.ts";

async function open(tensors: WrittenTensor[], config: unknown = {}): Promise<Checkpoint> {
  const parts: Record<string, BlobPart> = {
    "config.json": JSON.stringify(config),
    "model.safetensors": writeSafetensors(tensors),
  };
  const files = Object.entries(parts).map(([path, data]) => ({ path, file: new Blob([data]) }));
  return await openCheckpoint(new BlobFileSet("test", files));
}

/** Rows as the directory describes them, opened with the dtype that it names. */
async function valuesOf(checkpoint: Checkpoint, name: string, row0 = 0, rows?: number): Promise<Float32Array> {
  const { shape, dtype } = checkpoint.tensors.get(name)!;
  const cols = shape[1]!;
  const count = rows ?? shape[0]! - row0;
  const raw = await checkpoint.readRows(name, row0, count);
  const format = rowFormat(dtype)!;
  const rowBytes = format.rowBytes(cols);
  expect(raw.length).toBe(count * rowBytes);
  const out = new Float32Array(count * cols);
  for (let r = 0; r < count; r++) {
    expect(format.decode(raw.subarray(r * rowBytes, (r + 1) * rowBytes), cols, out.subarray(r * cols))).toBe(-1);
  }
  return out;
}

function dense(out: number, cols: number, seed = 1, module = "m"): Dense {
  let state = seed;
  const values = Float32Array.from({ length: out * cols }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * 0.05;
  });
  return { module, out, cols, values };
}

/** Opened whole and from the middle, a written weight is worth what its writer says, in this format of rows. */
async function expectWritten(written: Written, dtype: string, config: unknown = {}, out = 16): Promise<Checkpoint> {
  const checkpoint = await open(written.tensors, config);
  expect([...checkpoint.tensors.keys()]).toEqual(["m.weight"]);
  expect(checkpoint.tensors.get("m.weight")).toMatchObject({ dtype, shape: [out, written.values.length / out] });
  expect(await valuesOf(checkpoint, "m.weight")).toEqual(written.values);
  const cols = written.values.length / out;
  expect(await valuesOf(checkpoint, "m.weight", 3, 6)).toEqual(written.values.subarray(3 * cols, 9 * cols));
  return checkpoint;
}

const hex = (text: string) => Uint8Array.from(text.split(" "), (byte) => Number.parseInt(byte, 16));
const wordBytes = (...words: number[]) => new Uint8Array(Uint32Array.from(words).buffer);

// checkpoint-formats.md §2.5
const EXAMPLE: Dense = {
  module: "m",
  out: 2,
  cols: 64,
  values: Float32Array.from({ length: 128 }, (_, i) => {
    return [0.5, -0.25, 0.1, -0.5][i] ?? (i < 64 ? 0 : ([0.02, 0.01, -0.02][i - 64] ?? 0));
  }),
};

test("bitsandbytes: the worked example, nested and not, byte for byte and value for value", async () => {
  const nested = writeBnb(EXAMPLE, { dtype: "float32" });
  const by = (tensors: WrittenTensor[], suffix: string) =>
    tensors.find(({ name }) => name === `m.weight${suffix}`)!.bytes;
  expect([...by(nested.tensors, "").subarray(0, 3)]).toEqual([...hex("f2 90 77")]);
  expect([...by(nested.tensors, "").subarray(32, 35)]).toEqual([...hex("fc 07 77")]);
  expect([...by(nested.tensors, ".absmax")]).toEqual([255, 0]);
  expect(new TextDecoder().decode(by(nested.tensors, ".quant_state.bitsandbytes__nf4"))).toBe(
    '{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [2, 64], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.25999999046325684}',
  );
  expect(hashOf(dynamicMap())).toBe("e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c");
  const found = await valuesOf(await open(nested.tensors), "m.weight");
  const rows = [
    [0.5, -0.26253653, 0.0804651, -0.5, 0],
    [0.02168748, 0.00955788, -0.02168748, 0, 0],
  ];
  rows.forEach((values, r) => {
    values.forEach((value, k) => {
      expect(found[r * 64 + k]).toBeCloseTo(value, 7);
    });
  });
  const plain = await open(writeBnb(EXAMPLE, { nested: false }).tensors);
  expect(plain.tensors.get("m.weight")).toMatchObject({ dtype: "nf4g64", format: "bitsandbytes NF4" });
  const opened = await valuesOf(plain, "m.weight", 1, 1);
  [0.02, 0.0088142, -0.02, 0].forEach((value, k) => {
    expect(opened[k]).toBeCloseTo(value, 7);
  });
  // The image on the GPU: codes 15, 2, 9, 0, 7, 7, 7, 7 with element j low and element j + 4 high in byte j; then 0.5 as f32.
  const image = new Uint32Array((await plain.readRows("m.weight", 0, 1)).buffer);
  expect([image[0], image[1], image[8]]).toEqual([0x7079727f, 0x77777777, 0x3f000000]);
});

test.each([
  [32, "nf4", "nf4g32"],
  [64, "nf4", "nf4g64"],
  [128, "nf4", "nf4g64"],
  [64, "fp4", "fp4g64"],
] as const)("bitsandbytes: blocks of %i in %s are kept as %s", async (blocksize, kind, scheme) => {
  for (const nested of [true, false])
    await expectWritten(writeBnb(dense(16, 384), { blocksize, kind, nested }), scheme);
});

test.each([
  ["bfloat16", "BF16", (v: number) => bf16ToF32(f32ToBf16(v))],
  ["float32", "F32", (v: number) => v],
] as const)("bitsandbytes: blocks that cross rows are dequantized to %s", async (dtype, rows, round) => {
  for (const [out, cols] of [
    [16, 80],
    [9, 5],
  ] as const) {
    const written = writeBnb(dense(out, cols), { dtype });
    await expectWritten({ ...written, values: written.values.map(round) }, rows, {}, out);
  }
});

test("bitsandbytes: the tensors decide which module is quantized, not the config's list", async () => {
  const kept = { name: "kept.weight", dtype: "BF16", shape: [2, 4], bytes: encodeFloats("BF16", new Float32Array(8)) };
  const checkpoint = await open([...writeBnb(dense(16, 64)).tensors, kept], {
    quantization_config: { quant_method: "bitsandbytes", load_in_4bit: true, llm_int8_skip_modules: ["m"] },
  });
  expect(checkpoint.tensors.get("m.weight")!.dtype).toBe("nf4g64");
  expect(checkpoint.tensors.get("kept.weight")!.dtype).toBe("BF16");
});

test("bitsandbytes: bytes stored as another dtype are the same bytes", async () => {
  const { tensors, values } = writeBnb(dense(16, 64));
  const wide = tensors.map((t) =>
    t.name === "m.weight" ? { ...t, dtype: "BF16", shape: [t.bytes.length / 2, 1] } : t,
  );
  await expectWritten({ tensors: wide, values }, "nf4g64");
});

test("the words of the format descriptions", async () => {
  const cols = 32;
  const base = {
    module: "m",
    out: 8,
    cols,
    group: 32,
    zeros: new Uint8Array(8).fill(8),
    scales: new Float32Array(8).fill(1),
  };
  const bytesOf = ({ tensors }: Written, suffix: string) => [
    ...tensors.find(({ name }) => name === `m${suffix}`)!.bytes.subarray(0, 4),
  ];
  const signed = [-8, -7, -1, 0, 1, 2, 7, 3];
  const row = { ...base, codes: Uint8Array.from({ length: 8 * cols }, (_, e) => (signed[e % cols] ?? 0) + 8) };
  expect(bytesOf(writeCompressedTensors(row), ".weight_packed")).toEqual([...hex("10 87 a9 bf")]);
  const zeros = Uint8Array.from([-8, -1, 0, 7, 1, 2, 3, 4], (z) => z + 8);
  expect(bytesOf(writeCompressedTensors({ ...row, zeros }), ".weight_zero_point")).toEqual([...wordBytes(0xcba9f870)]);
  const columns = { ...base, codes: Uint8Array.from({ length: 8 * cols }, (_, e) => 1 + Math.floor(e / cols)) };
  expect(bytesOf(writeAwq(columns), ".qweight")).toEqual([...hex("31 75 42 86")]);
  const down = { ...base, codes: Uint8Array.from({ length: 8 * cols }, (_, e) => 1 + (e % 8)) };
  expect(bytesOf(writeGptq(down), ".qweight")).toEqual([...hex("21 43 65 87")]);
  expect(bytesOf(writeGptq(down), ".qzeros")).toEqual([...wordBytes(0x77777777)]);
  expect(bytesOf(writeGptq(down, { version: 2 }), ".qzeros")).toEqual([...wordBytes(0x88888888)]);
  expect(await valuesOf(await open(writeCompressedTensors({ ...row, zeros }).tensors), "m.weight")).toEqual(
    int4Values({ ...row, zeros }),
  );
});

const AWQ = { quantization_config: { quant_method: "awq", bits: 4, version: "gemm", zero_point: true } };
const gptq = (more: object) => ({ quantization_config: { quant_method: "gptq", bits: 4, ...more } });

test.each([32, 64, 128])(
  "AWQ, GPTQ v1 and v2 and compressed-tensors of one matrix give one image, groups of %i",
  async (group) => {
    const q = toInt4(dense(16, 128, group), group);
    const scheme = group === 32 ? "q4z32" : "q4z64";
    const written: [Written, unknown][] = [
      [writeCompressedTensors(q), {}],
      [writeAwq(q), AWQ],
      [writeGptq(q), gptq({ desc_act: false })],
      [writeGptq(q, { version: 2 }), gptq({ checkpoint_format: "gptq_v2" })],
    ];
    const images = [];
    for (const [form, config] of written) {
      images.push(await (await expectWritten(form, scheme, config)).readRows("m.weight", 0, 16));
    }
    for (const image of images) expect(image).toEqual(images[0]);
  },
);

test.each([
  [96, 32, "q4z32"],
  [36, 12, "F32"],
])("AWQ of more rows than are turned at once, of %i columns, read from anywhere", async (cols, group, dtype) => {
  const q = toInt4(dense(272, cols), group);
  const { tensors, values } = writeAwq(q);
  const checkpoint = await open(tensors, AWQ);
  expect(checkpoint.tensors.get("m.weight")!.dtype).toBe(dtype);
  for (const [row0, rows] of [
    [0, 272],
    [5, 3],
    [13, 200],
  ] as const) {
    expect(await valuesOf(checkpoint, "m.weight", row0, rows)).toEqual(values.slice(row0 * cols, (row0 + rows) * cols));
  }
});

test("compressed-tensors: symmetric weights have no zero points; rows need not come in eights", async () => {
  const q = toInt4(dense(13, 96), 32, true);
  await expectWritten(writeCompressedTensors(q, true), "q4z32", {}, 13);
  await expectWritten(writeCompressedTensors(toInt4(dense(13, 96), 32)), "q4z32", {}, 13);
  // One scale a row.
  await expectWritten(writeCompressedTensors(toInt4(dense(13, 96), 96)), "q4z64", {}, 13);
  // Groups that no scheme of ours has.
  await expectWritten(writeCompressedTensors(toInt4(dense(13, 96), 16)), "F32", {}, 13);
});

test("compressed-tensors in 8 bits: signed codes with a scale, or an offset where there are zero points", async () => {
  const W8 = { quantization_config: { config_groups: { a: { weights: { num_bits: 8 } } } } };
  const write = (group: number, symmetric: boolean, cols = 96) =>
    writeCompressedTensors(toInt4(dense(13, cols), group, symmetric, 8), symmetric, { bits: 8 });
  await expectWritten(write(32, true), "q8s32", W8, 13);
  await expectWritten(write(32, false), "q8p32", W8, 13);
  await expectWritten(write(16, false), "q8p16", W8, 13);
  await expectWritten(write(96, true), "q8s32", W8, 13);
  await expectWritten(write(12, true), "F32", W8, 13);
  // The spec's: a signed byte plus 128.
  const codes = Uint8Array.from([0, 127, 128, 255, ...new Uint8Array(28).fill(128)]);
  const q = {
    module: "m",
    out: 1,
    cols: 32,
    group: 32,
    codes,
    zeros: Uint8Array.of(128),
    scales: Float32Array.of(0.5),
  };
  const found = await valuesOf(await open(writeCompressedTensors(q, true, { bits: 8 }).tensors, W8), "m.weight");
  expect([...found.slice(0, 5)]).toEqual([-64, -0.5, 0, 63.5, 0]);
});

test("compressed-tensors: where the config names 4 and 8 bits, each weight's shape decides", async () => {
  const config = {
    quantization_config: { config_groups: { a: { weights: { num_bits: 8 } }, b: { weights: { num_bits: 4 } } } },
  };
  await expectWritten(writeCompressedTensors(toInt4(dense(16, 96), 32)), "q4z32", config);
  const bytes = writeCompressedTensors(toInt4(dense(16, 96), 32, false, 8), false, { bits: 8 });
  await expectWritten(bytes, "q8p32", config);
  await expect(open(without(bytes, "m.weight_shape"), config)).rejects.toThrow(
    /m\.weight_shape: expected a tensor \[2\]/,
  );
});

test.each([4, 8] as const)("compressed-tensors with act-order in %i bits is dequantized", async (bits) => {
  const config = { quantization_config: { config_groups: { a: { weights: { num_bits: bits, actorder: "group" } } } } };
  const { q, gIdx } = toActOrder(dense(16, 128), 32, bits);
  const written = writeCompressedTensors(q, false, { bits, gIdx });
  const checkpoint = await expectWritten(written, "F32", config);
  expect(checkpoint.tensors.get("m.weight")!.format).toMatch(/with act-order$/);
  // An order that was not set: every column in the group of its place.
  const unset = writeCompressedTensors(q, false, { bits, gIdx: gIdx.map(() => -1) });
  await expectWritten({ ...unset, values: int4Values(q) }, "F32", config);
  const wrong = writeCompressedTensors(q, false, { bits, gIdx: gIdx.map((g, k) => (k === 5 ? 4 : g)) });
  await expect((await open(wrong.tensors, config)).readRows("m.weight", 0, 1)).rejects.toThrow(
    /weight_g_idx: expected groups 0 to 3, found 4 at column 5/,
  );
});

test("scales of f32 are kept too", async () => {
  const q = toInt4(dense(16, 64), 32);
  const scales = q.scales.map((scale) => Math.fround(scale * 1.0001));
  const { tensors } = writeCompressedTensors(q);
  const wide = tensors.map((t) =>
    t.name === "m.weight_scale" ? { ...t, dtype: "F32", bytes: new Uint8Array(scales.buffer) } : t,
  );
  const found = await valuesOf(await open(wide), "m.weight");
  int4Values({ ...q, scales }).forEach((value, e) => {
    expect(found[e]).toBeCloseTo(value, 8);
  });
});

test("GPTQ with act-order is dequantized, columns where they belong", async () => {
  await expectWritten(writeActOrder(dense(16, 128), 32), "F32", gptq({ desc_act: true }));
  const error = await open(writeActOrder(dense(16, 128), 32).tensors, gptq({ desc_act: false })).then((checkpoint) =>
    checkpoint.readRows("m.weight", 0, 1).then(
      () => undefined,
      (e: unknown) => e as Error,
    ),
  );
  expect(error?.message).toMatch(/m\.g_idx: expected column 5 in group 0.*found group 1/);
});

test("FP8: a code times the factor of its block of 128 × 128", async () => {
  const written = writeFp8(dense(200, 192), 128);
  await expectWritten(written, "f8s64", { quantization_config: { weight_block_size: [128, 128] } }, 200);
  const one = [
    { name: "m.weight", dtype: "F8_E4M3", shape: [1, 4], bytes: hex("38 b8 01 7e") },
    { name: "m.weight_scale_inv", dtype: "F32", shape: [1, 1], bytes: new Uint8Array(Float32Array.of(2).buffer) },
  ];
  expect([...(await valuesOf(await open(one), "m.weight"))]).toEqual([2, -2, 2 ** -8, 896]);
});

test.each([
  [4, 32, "q4b32"],
  [4, 64, "q4b64"],
  [4, 128, "q4b64"],
  [8, 64, "q8p32"],
] as const)("MLX in %i bits, groups of %i", async (bits, group, scheme) => {
  const config = { quantization: { group_size: group, bits } };
  const written = writeMlx(dense(16, 256), bits, group);
  await expectWritten(written, scheme, config);
  // What the config says of a module goes before the rest; "biases" are no "bias".
  await expectWritten(written, scheme, { quantization: { group_size: 32, bits: 4, m: { group_size: group, bits } } });
});

test("MLX: the worked word, and channels of the patch embedding brought to their place", async () => {
  const word = [
    { name: "m.weight", dtype: "U32", shape: [1, 4], bytes: wordBytes(0xf6543210, 0, 0, 0) },
    { name: "m.scales", dtype: "BF16", shape: [1, 1], bytes: hex("00 3e") },
    { name: "m.biases", dtype: "BF16", shape: [1, 1], bytes: hex("80 bf") },
  ];
  const found = await valuesOf(await open(word), "m.weight");
  expect([...found.subarray(0, 8)]).toEqual([-1, -0.875, -0.75, -0.625, -0.5, -0.375, -0.25, 0.875]);
  const shape = [2, 2, 4, 4, 3];
  const bytes = encodeFloats(
    "BF16",
    Float32Array.from({ length: 192 }, (_, i) => i),
  );
  const checkpoint = await open([{ name: "vision_tower.patch_embed.proj.weight", dtype: "BF16", shape, bytes }]);
  const [name] = checkpoint.tensors.keys();
  expect(checkpoint.tensors.get(name!)!.shape).toEqual([2, 3, 2, 4, 4]);
  const raw = await checkpoint.readRows(name!, 1, 1);
  const moved = Array.from(new Uint16Array(raw.buffer), bf16ToF32);
  // Channel 2 of place 5 of the second row.
  expect(moved[2 * 32 + 5]).toBe(96 + 5 * 3 + 2);
});

const without = ({ tensors }: Written, name: string) => tensors.filter((t) => t.name !== name);
const q32 = toInt4(dense(16, 64), 32);

test.each<[string, WrittenTensor[], unknown, RegExp]>([
  [
    "bitsandbytes in 8 bits",
    [{ name: "m.SCB", dtype: "F32", shape: [1], bytes: new Uint8Array(4) }],
    {},
    /m\.SCB.*bitsandbytes in 8 bits.*Choose/,
  ],
  [
    "an unknown method",
    [{ name: "m.weight", dtype: "U8", shape: [4], bytes: new Uint8Array(4) }],
    { quantization_config: { quant_method: "eetq" } },
    /"eetq".*cannot be read/,
  ],
  [
    "a lost absmax",
    without(writeBnb(dense(16, 64)), "m.weight.absmax"),
    {},
    /m\.weight\.absmax: expected a tensor \[16\]/,
  ],
  [
    "lost nested tables",
    without(writeBnb(dense(16, 64)), "m.weight.nested_quant_map"),
    {},
    /nested_quant_map: expected/,
  ],
  ["lost scales", without(writeAwq(q32), "m.scales"), AWQ, /m\.scales: expected/],
  [
    "lost zero points",
    without(writeCompressedTensors(q32), "m.weight_zero_point"),
    { quantization_config: { config_groups: { a: { weights: { num_bits: 4, symmetric: false } } } } },
    /weight_zero_point: expected zero points/,
  ],
  [
    "another packing",
    writeCompressedTensors(q32).tensors,
    { quantization_config: { format: "marlin-24" } },
    /pack-quantized.*marlin-24/,
  ],
  ["AWQ for gemv", writeAwq(q32).tensors, { quantization_config: { version: "gemv" } }, /gemv/],
  [
    "AWQ of a version that is no text",
    writeAwq(q32).tensors,
    { quantization_config: { version: 5 } },
    /expected AutoAWQ/,
  ],
  ["GPTQ for marlin", writeGptq(q32).tensors, gptq({ checkpoint_format: "marlin" }), /marlin/],
  ["MLX in 3 bits", writeMlx(dense(16, 64), 4).tensors, { quantization: { bits: 3, group_size: 64 } }, /3 bits/],
  ["FP8 without factors", without(writeFp8(dense(16, 64)), "m.weight_scale_inv"), {}, /weight_scale_inv/],
])("%s is refused by name", async (_, tensors, config, message) => {
  await expect(open(tensors, config)).rejects.toThrow(message);
});

test("a row that would take more memory than the whole weight is refused", async () => {
  const wide = (rows: number) => writeBnb(dense(rows, 20_000), { dtype: "float32" }).tensors;
  await expect(open(wide(1))).rejects.toThrow(
    /m\.weight: .* \[1, 20000\], of which one row takes 80000 bytes where 1\d{4} hold all/,
  );
  expect((await open(wide(8))).tensors.get("m.weight")?.shape).toEqual([8, 20_000]);
});

test("a folder of another format is refused by that format's name", async () => {
  const bare = [{ path: "cpu/text.onnx.data", file: new Blob(["x"]) }];
  await expect(openCheckpoint(new BlobFileSet("test", bare))).rejects.toThrow(
    /found weights of an ONNX export without its .onnx files/,
  );
  for (const [path, format] of [
    ["onnx/model_q4.onnx_data", /found weights of an ONNX export/],
    ["pytorch_model.bin", /found PyTorch files/],
    ["model.mnn", /build for one kind of device \(model\.mnn\)/],
  ] as const) {
    const files = ["config.json", path].map((name) => ({ path: name, file: new Blob(["{}"]) }));
    await expect(openCheckpoint(new BlobFileSet("test", files))).rejects.toThrow(format);
  }
});
