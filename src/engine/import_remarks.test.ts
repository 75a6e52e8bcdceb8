import { expect, test } from "vitest";
import { toInt4, type WrittenTensor, writeActOrder, writeAwq, writeBnb, writeGptq } from "../../e2e/write_formats.ts";
import { BlobFileSet, exactScheme, openCheckpoint, type WeightSlot } from "../formats/index.ts";
import { writeSafetensors } from "../formats/safetensors.ts";
import { quantizedRemarks } from "./import_remarks.ts";

function dense(module: string, out: number, cols: number) {
  return { module, out, cols, values: Float32Array.from({ length: out * cols }, (_, i) => Math.sin(i * i) * 0.05) };
}

async function remarks(tensors: WrittenTensor[], slots: [string, number, number][], config: unknown = {}) {
  const parts = { "config.json": JSON.stringify(config), "model.safetensors": writeSafetensors(tensors) };
  const files = Object.entries(parts).map(([path, data]) => ({ path, file: new Blob([data]) }));
  const checkpoint = await openCheckpoint(new BlobFileSet("test", files));
  const list = slots.map(([name, rows, cols]): WeightSlot => {
    const scheme = exactScheme([checkpoint.tensors.get(name)?.dtype]) ?? "q4a32";
    return { name, sources: [{ tensor: name, rows }], rows, cols, scheme };
  });
  return await quantizedRemarks(list, checkpoint);
}

test("what is kept and what is quantized anew is told, with the error", async () => {
  const kept = { name: "norm.weight", dtype: "F32", shape: [2, 8], bytes: new Uint8Array(64) };
  const tensors = [...writeBnb(dense("a", 8, 64)).tensors, ...writeBnb(dense("b", 8, 80)).tensors, kept];
  const found = await remarks(tensors, [
    ["a.weight", 8, 64],
    ["b.weight", 8, 80],
    ["norm.weight", 2, 8],
  ]);
  expect(found).toEqual([
    "Kept exactly: 1 matrix in bitsandbytes NF4.",
    expect.stringMatching(/^Not kept exactly: 1 matrix in bitsandbytes NF4, stored as q4a32 .* error of 0\.0\d+ /),
    expect.stringMatching(/^Quantized to 4 bits: 1 matrix .*bf16/),
  ]);
});

test("a dense checkpoint has no such remark, and neither error nor remark is made up for one that is kept", async () => {
  expect(
    await remarks([{ name: "a.weight", dtype: "F32", shape: [2, 8], bytes: new Uint8Array(64) }], [["a.weight", 2, 8]]),
  ).toEqual([]);
  const q = toInt4(dense("a", 8, 64), 32);
  expect(await remarks(writeAwq(q).tensors, [["a.weight", 8, 64]])).toEqual(["Kept exactly: 1 matrix in AWQ."]);
  expect(await remarks(writeGptq(q).tensors, [["a.weight", 8, 64]])).toEqual(["Kept exactly: 1 matrix in GPTQ."]);
});

test("act-order is named", async () => {
  const config = { quantization_config: { quant_method: "gptq", desc_act: true } };
  const found = await remarks(writeActOrder(dense("a", 8, 64), 32).tensors, [["a.weight", 8, 64]], config);
  expect(found).toEqual([expect.stringMatching(/^Not kept exactly: 1 matrix in GPTQ with act-order/)]);
});
