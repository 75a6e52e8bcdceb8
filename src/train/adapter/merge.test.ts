import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { BlobFileSet, openCheckpoint } from "../../formats/index.ts";
import { readSafetensors, writeSafetensors } from "../../formats/safetensors.ts";
import { type MergedFile, mergedFiles, mergeRows } from "./merge.ts";
import { readPeft } from "./peft.ts";

const floats = (...values: number[]) => new Uint8Array(new Float32Array(values).buffer);
const pair = { module: "m", r: 1, alpha: 1, a: new Float32Array([1, 2, 4]), b: new Float32Array([1, -0.5]) };

describe("rows", () => {
  test("W + s·B·A, from any row on", () => {
    const whole = mergeRows("F32", floats(10, 10, 10, 20, 20, 20), 0, pair, 2);
    expect([...new Float32Array(whole.buffer)]).toEqual([12, 14, 18, 19, 18, 16]);
    expect([...new Float32Array(mergeRows("F32", floats(20, 20, 20), 1, pair, 2).buffer)]).toEqual([19, 18, 16]);
  });

  test("bf16 and f16 are rounded to nearest even", () => {
    // 1 + 2^-8 lies halfway between two bf16 numbers (1 and 1 + 2^-7), 1 + 3·2^-8 too: the even ones are 1 and 1 + 2^-6.
    const half = { ...pair, a: new Float32Array([2 ** -8, 3 * 2 ** -8, 0]), b: new Float32Array([1]) };
    const one = new Uint8Array(new Uint16Array([0x3f80, 0x3f80, 0x3f80]).buffer);
    expect([...new Uint16Array(mergeRows("BF16", one, 0, half, 1).buffer)]).toEqual([0x3f80, 0x3f82, 0x3f80]);
    const one16 = new Uint8Array(new Uint16Array([0x3c00, 0x3c00, 0x3c00]).buffer);
    const tiny = { ...half, a: new Float32Array([2 ** -11, 3 * 2 ** -11, 0]) };
    expect([...new Uint16Array(mergeRows("F16", one16, 0, tiny, 1).buffer)]).toEqual([0x3c00, 0x3c02, 0x3c00]);
  });

  test("NaN in the weights is found", () => {
    expect(() => mergeRows("F32", floats(1, 1, 1, 1, Number.NaN, 1), 5, pair, 1)).toThrow(
      /m\.weight, row 6: found NaN/,
    );
  });
});

const REFERENCE = "../shared/reference/s-0";
describe.skipIf(!existsSync(REFERENCE))("a whole checkpoint", () => {
  const folder = (extra: Record<string, Blob> = {}) => {
    const names = ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"];
    const files = names.map((path) => ({ path, file: new Blob([readFileSync(`${REFERENCE}/checkpoint/${path}`)]) }));
    return new BlobFileSet("checkpoint", [...files, ...Object.entries(extra).map(([path, file]) => ({ path, file }))]);
  };
  const adapterOf = () =>
    readPeft(
      readFileSync(`${REFERENCE}/adapter/adapter_config.json`, "utf8"),
      readFileSync(`${REFERENCE}/adapter/adapter_model.safetensors`),
    ).adapter;
  const isSame = (x: Float32Array<ArrayBuffer>, y: Float32Array<ArrayBuffer>) =>
    Buffer.from(x.buffer).equals(Buffer.from(y.buffer));
  const bytesOf = async (file: MergedFile) => {
    const parts: Uint8Array[] = [];
    for await (const chunk of file.chunks()) parts.push(chunk);
    return new Uint8Array(Buffer.concat(parts));
  };

  test("adapted layers change by s·B·A, every other byte stays", async () => {
    const adapter = adapterOf();
    const files = await mergedFiles(await openCheckpoint(folder({ "pytorch_model.bin": new Blob(["x"]) })), adapter);
    expect(files.map((f) => f.path).sort()).toEqual([
      "chat_template.jinja",
      "config.json",
      "model.safetensors",
      "tokenizer.json",
    ]);
    const before = new Uint8Array(readFileSync(`${REFERENCE}/checkpoint/model.safetensors`));
    const after = await bytesOf(files.find((f) => f.path === "model.safetensors")!);
    expect(after.length).toBe(before.length);
    const old = new Map(readSafetensors("old", before).map((t) => [t.name, t]));
    const pairs = new Map(adapter.pairs.map((p) => [`${p.module}.weight`, p]));
    let changed = 0;
    for (const { name, shape, values } of readSafetensors("new", after)) {
      const base = old.get(name)!.values;
      const found = pairs.get(name);
      if (!found) {
        expect(isSame(values, base)).toBe(true);
        continue;
      }
      changed++;
      const [rows, cols] = [shape[0]!, shape[1]!];
      let worst = 0;
      for (let o = 0; o < rows; o++) {
        for (let c = 0; c < cols; c++) {
          let delta = 0;
          for (let k = 0; k < found.r; k++) delta += found.b[o * found.r + k]! * found.a[k * cols + c]!;
          const expected = base[o * cols + c]! + (found.alpha / found.r) * delta;
          // bf16 keeps eight bits: half a step is 2^-9 of the value.
          worst = Math.max(worst, Math.abs(values[o * cols + c]! - expected) / (Math.abs(expected) + 1e-6));
        }
      }
      expect(worst).toBeLessThan(2 ** -8);
      expect(isSame(values, base)).toBe(false);
    }
    expect(changed).toBe(28);
  });

  test("an adapter of another model and quantized weights are refused", async () => {
    const adapter = adapterOf();
    const wrong = {
      ...adapter,
      pairs: adapter.pairs.map((p) => ({ ...p, module: p.module.replace("layers.3", "layers.9") })),
    };
    await expect(mergedFiles(await openCheckpoint(folder()), wrong)).rejects.toThrow(/does not have/);
    const name = adapter.pairs[0]!.module;
    const codes = writeSafetensors([{ name: `${name}.weight`, dtype: "U8", shape: [4, 4], bytes: new Uint8Array(16) }]);
    const packed = folder({ "model.safetensors": new Blob([codes]) });
    await expect(mergedFiles(await openCheckpoint(packed), { ...adapter, pairs: [adapter.pairs[0]!] })).rejects.toThrow(
      /stored as U8/,
    );
    await expect(mergedFiles(await openCheckpoint(packed), { ...adapter, pairs: [adapter.pairs[1]!] })).rejects.toThrow(
      /has no tensor/,
    );
  });
});
