import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { openReference } from "../../../e2e/reference.ts";
import { BlobFileSet } from "../../formats/index.ts";
import { parseSafetensorsHeader, writeSafetensors } from "../../formats/safetensors.ts";
import { type Adapter, checkAdapter, scaleOf } from "./adapter.ts";
import { readGgufLora, writeGgufLora } from "./gguf.ts";
import { CONFIG_FILE, readPeft, WEIGHTS_FILE, writePeft } from "./peft.ts";

const Q = "model.language_model.layers.0.self_attn.q_proj";
const UP = "model.language_model.layers.1.mlp.up_proj";
const VISION = "model.visual.blocks.0.attn.proj";
const count = (n: number, from = 0) => Float32Array.from({ length: n }, (_, i) => from + i / 8);
const pair = (module: string, r: number, inputs: number, outputs: number, alpha = 16) => ({
  module,
  r,
  alpha,
  a: count(r * inputs, 1),
  b: count(outputs * r, -3),
});
const adapter = (...pairs: Adapter["pairs"]): Adapter => ({
  base: "Qwen/Qwen3-VL-4B-Instruct",
  r: 2,
  alpha: 16,
  rslora: false,
  dropout: 0.05,
  pairs,
});
const both = (a: Adapter) => {
  const files = writePeft(a);
  return readPeft(files[CONFIG_FILE], files[WEIGHTS_FILE]);
};

describe("what PEFT wrote", () => {
  const folders = ["s-0", "m-0"].map((name) => `../shared/reference/${name}`).filter((path) => existsSync(path));
  test.skipIf(folders.length === 0).each(folders)(
    "%s loads and fits, and what we write has the same names",
    (folder) => {
      const file = readFileSync(`${folder}/adapter/${WEIGHTS_FILE}`);
      const text = readFileSync(`${folder}/adapter/${CONFIG_FILE}`, "utf8");
      const { adapter: read, warnings } = readPeft(text, file);
      expect(warnings).toEqual([]);
      const { train } = JSON.parse(readFileSync(`${folder}/cases.json`, "utf8"));
      const size = read.pairs.reduce((sum, { a, b }) => sum + a.length + b.length, 0);
      expect([read.r, read.alpha, size]).toEqual([train.r, train.alpha, train.trainable_parameters]);
      const config = JSON.parse(readFileSync(`${folder}/checkpoint/config.json`, "utf8"));
      expect(checkAdapter(read, { name: "checkpoint", config })).toEqual([]);

      const { array } = openReference(folder);
      for (const { module, a, b } of read.pairs) {
        expect(a).toEqual(array(`lora_final.${module.slice(6)}.lora_A.weight`).data);
        expect(b).toEqual(array(`lora_final.${module.slice(6)}.lora_B.weight`).data);
      }
      const names = (bytes: Uint8Array) => {
        const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
        const tensors = parseSafetensorsHeader("f", bytes.subarray(8, 8 + length), bytes.length);
        return tensors.map(({ name, shape }) => [name, shape]);
      };
      const written = writePeft(read);
      expect(names(written[WEIGHTS_FILE])).toEqual(names(file));
      expect(JSON.parse(written[CONFIG_FILE]).target_modules.sort()).toEqual(
        ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"].sort(),
      );
    },
  );
});

describe("writing and reading again", () => {
  test("gives every number back, rsLoRA, dropout, ranks and alphas of single layers included", () => {
    const odd = { ...adapter(pair(Q, 2, 3, 4), pair(UP, 4, 3, 5, 8)), rslora: true };
    expect(both(odd).adapter).toEqual(odd);
    expect(both(odd).warnings).toEqual([]);
  });

  test("metadata and f32, so that PEFT takes it for its own", () => {
    const file = writePeft(adapter(pair(Q, 2, 3, 4)))[WEIGHTS_FILE];
    const header = JSON.parse(
      new TextDecoder().decode(file.subarray(8, 8 + Number(new DataView(file.buffer).getBigUint64(0, true)))),
    );
    expect(header.__metadata__).toEqual({ format: "pt" });
    expect(header[`base_model.model.${Q}.lora_A.weight`]).toMatchObject({ dtype: "F32", shape: [2, 3] });
    expect(header[`base_model.model.${Q}.lora_B.weight`]).toMatchObject({ dtype: "F32", shape: [4, 2] });
  });

  /** What PEFT does with target_modules: a list matches the end of a path, a text the whole of it. */
  const matches = (targets: string[] | string, module: string) =>
    Array.isArray(targets)
      ? targets.some((t) => module.endsWith(`.${t}`))
      : new RegExp(`^(?:${targets})$`).test(module);

  test.each<[string, string[], string[]]>([
    [
      "language layers, all alike",
      ["model.language_model.layers.0.mlp.up_proj", UP],
      [VISION, "model.visual.patch_embed.proj"],
    ],
    ["with the tower", [Q, VISION], ["model.visual.patch_embed.proj", "model.visual.blocks.0.attn.qkv", UP]],
    ["single layers", [UP], ["model.language_model.layers.0.mlp.up_proj"]],
    [
      "mergers",
      ["model.visual.merger.linear_fc1", "model.visual.deepstack_merger_list.0.linear_fc1"],
      [VISION, "model.visual.blocks.0.mlp.linear_fc1"],
    ],
  ])("target_modules name what is adapted and nothing else: %s", (_, modules, others) => {
    const { target_modules: targets } = JSON.parse(
      writePeft(adapter(...modules.map((m) => pair(m, 2, 3, 3))))[CONFIG_FILE],
    );
    expect(modules.filter((m) => !matches(targets, m))).toEqual([]);
    expect(others.filter((m) => matches(targets, m))).toEqual([]);
  });
});

describe("import", () => {
  const file = (...tensors: [name: string, shape: number[]][]) =>
    writeSafetensors(
      tensors.map(([name, shape]) => ({ name, dtype: "F32", shape, bytes: new Uint8Array(4 * shape[0]! * shape[1]!) })),
    );
  const good = file([`base_model.model.${Q}.lora_A.weight`, [2, 3]], [`base_model.model.${Q}.lora_B.weight`, [4, 2]]);
  const config = (more: object = {}) =>
    JSON.stringify({ peft_type: "LORA", r: 2, lora_alpha: 4.0, target_modules: ["q_proj"], ...more });

  test("only what is needed is needed; older names and an adapter's own name are understood", () => {
    expect(readPeft(config(), good).adapter).toMatchObject({ base: "", r: 2, alpha: 4, rslora: false, dropout: 0 });
    for (const old of ["model.layers.0.self_attn.q_proj", "language_model.model.layers.0.self_attn.q_proj"]) {
      const weights = file(
        [`base_model.model.${old}.lora_A.default.weight`, [2, 3]],
        [`base_model.model.${old}.lora_B.default.weight`, [4, 2]],
      );
      expect(readPeft(config(), weights).adapter.pairs[0]!.module).toBe(Q);
    }
    const vision = file(
      ["base_model.model.visual.blocks.0.attn.proj.lora_A.weight", [2, 3]],
      ["base_model.model.visual.blocks.0.attn.proj.lora_B.weight", [3, 2]],
    );
    expect(readPeft(config({ target_modules: "visual.*|.*proj" }), vision).adapter.pairs[0]!.module).toBe(VISION);
  });

  test("a layer that target_modules leave out is a warning", () => {
    expect(readPeft(config({ target_modules: ["k_proj"] }), good).warnings[0]).toMatch(/do not name 1 of its layers/);
    expect(readPeft(config({ target_modules: ".*\\.v_proj" }), good).warnings.length).toBe(1);
    expect(readPeft(config({ target_modules: "all-linear" }), good).warnings).toEqual([]);
  });

  test.each<[object, RegExp]>([
    [{ peft_type: "IA3" }, /peft_type: expected "LORA", found "IA3"/],
    [{ use_dora: true }, /use_dora is true: DoRA/],
    [{ bias: "all" }, /bias is "all"/],
    [{ modules_to_save: ["lm_head"] }, /modules_to_save/],
    [{ init_lora_weights: "pissa_niter_4" }, /pissa/],
    [{ target_parameters: ["x"] }, /target_parameters/],
    [{ lora_bias: true }, /lora_bias/],
    [{ r: 0 }, /r: expected a whole number/],
    [{ lora_alpha: "16" }, /lora_alpha: expected a number, found "16"/],
    [{ r: 4 }, /has rank 2, and adapter_config.json says 4/],
    [{ rank_pattern: { q_proj: 3 } }, /says 3/],
    [{ target_modules: "(" }, /not a pattern/],
  ])("%o is refused with the reason", (more, message) => {
    expect(() => readPeft(config(more), good)).toThrow(message);
  });

  test("harmless ways of starting and fields that are null are taken", () => {
    const more = {
      init_lora_weights: "gaussian",
      modules_to_save: null,
      layer_replication: null,
      alora_invocation_tokens: null,
      use_qalora: false,
    };
    expect(readPeft(config(more), good).adapter.pairs.length).toBe(1);
  });

  test("patterns change the rank and the scale of single layers, the first one that fits", () => {
    const { adapter: read } = readPeft(
      config({ alpha_pattern: { "layers\\.0\\.self_attn.q_proj": 32, q_proj: 1 } }),
      good,
    );
    expect(read.pairs[0]!.alpha).toBe(32);
  });

  const A = `base_model.model.${Q}.lora_A.weight`;
  const B = `base_model.model.${Q}.lora_B.weight`;
  test.each<[string, [string, number[]][], RegExp]>([
    ["a half", [[A, [2, 3]]], /q_proj has only its lora_A/],
    [
      "other ranks",
      [
        [A, [2, 3]],
        [B, [4, 3]],
      ],
      /lora_A has rank 2 and lora_B has rank 3/,
    ],
    [
      "DoRA's magnitudes",
      [
        [A, [2, 3]],
        [B, [4, 2]],
        [`base_model.model.${Q}.lora_magnitude_vector`, [4, 1]],
      ],
      /no LoRA pairs: .*magnitude/,
    ],
    ["nothing", [], /no LoRA tensors at all/],
  ])("tensors: %s", (_, tensors, message) => {
    expect(() => readPeft(config(), file(...tensors))).toThrow(message);
  });

  test("NaN, another file, broken JSON", () => {
    const nan = writeSafetensors([
      { name: A, dtype: "F32", shape: [1, 1], bytes: new Uint8Array(new Float32Array([Number.NaN]).buffer) },
    ]);
    expect(() => readPeft(config(), nan)).toThrow(/lora_A.weight": element 0 is NaN/);
    expect(() => readPeft(config(), new Uint8Array([1, 2, 3]))).toThrow(/found only 3 bytes/);
    expect(() => readPeft("[]", good)).toThrow(/not a JSON object/);
  });
});

const SMALL = {
  model_type: "qwen3_vl",
  text_config: {
    hidden_size: 8,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
    intermediate_size: 12,
    vocab_size: 200_000,
    rope_parameters: { mrope_section: [2, 1, 1] },
  },
  vision_config: {
    depth: 1,
    hidden_size: 8,
    num_heads: 1,
    intermediate_size: 16,
    out_hidden_size: 8,
    num_position_embeddings: 4,
    deepstack_visual_indexes: [0],
  },
};

test("a model is compared layer by layer, and a mismatch explained", () => {
  const model = { name: "Qwen3-VL-4B-Instruct-4bit", config: SMALL };
  const fits = adapter(pair(Q, 2, 8, 16), pair(UP, 2, 8, 12), pair(VISION, 2, 8, 8));
  expect(checkAdapter(fits, model)).toEqual([]);
  expect(checkAdapter(fits, { ...model, name: "other" })[0]).toMatch(
    /names “Qwen\/Qwen3-VL-4B-Instruct”.*“other” is loaded/,
  );
  expect(checkAdapter({ ...fits, base: "" }, { ...model, name: "other" })).toEqual([]);
  expect(() => checkAdapter(adapter(pair(Q, 2, 9, 16)), model)).toThrow(
    /q_proj: expected lora_A \[2, 8\] and lora_B \[16, 2\] for “Qwen3-VL-4B-Instruct-4bit”, found \[2, 9\] and \[16, 2\]. It was trained for a model of another size/,
  );
  expect(() => checkAdapter(adapter(pair("model.language_model.layers.2.mlp.up_proj", 2, 8, 12)), model)).toThrow(
    /changes 1 layers that .* does not have: model.language_model.layers.2.mlp.up_proj/,
  );
});

describe("GGUF", () => {
  /** A reader of just what the writer writes. */
  function parse(file: Uint8Array) {
    const view = new DataView(file.buffer);
    let at = 0;
    const skip = (n: number) => {
      at += n;
      return at - n;
    };
    const u32 = () => view.getUint32(skip(4), true);
    const u64 = () => Number(view.getBigUint64(skip(8), true));
    const text = () => {
      const n = u64();
      return new TextDecoder().decode(file.slice(skip(n), at));
    };
    expect([u32(), u32()]).toEqual([0x46554747, 3]);
    const [tensorCount, kvCount] = [u64(), u64()];
    const metadata = Object.fromEntries(
      Array.from({ length: kvCount }, () => {
        const [key, type] = [text(), u32()];
        if (type === 8) return [key, text()];
        return [key, type === 6 ? view.getFloat32(skip(4), true) : u32()];
      }),
    );
    const infos = Array.from({ length: tensorCount }, () => {
      const name = text();
      const ne = Array.from({ length: u32() }, u64);
      return { name, ne, type: u32(), offset: u64() };
    });
    const start = Math.ceil(at / 32) * 32;
    const tensors = infos.map((info) => {
      const n = info.ne.reduce((a, b) => a * b, 1);
      return { ...info, values: new Float32Array(file.slice(start + info.offset, start + info.offset + 4 * n).buffer) };
    });
    return { metadata, tensors, bytes: file.length, start };
  }

  test("names, order, shapes, values and padding as llama.cpp wants them", () => {
    const source = adapter(pair(Q, 2, 3, 4), pair(UP, 2, 3, 5));
    const { metadata, tensors, bytes, start } = parse(writeGgufLora(source, "charts"));
    expect(metadata).toEqual({
      "general.type": "adapter",
      "general.architecture": "qwen3vl",
      "general.name": "charts",
      "adapter.type": "lora",
      "adapter.lora.alpha": 16,
    });
    expect(tensors.map(({ name, ne, type, offset }) => [name, ne, type, offset])).toEqual([
      ["blk.0.attn_q.weight.lora_a", [3, 2], 0, 0],
      ["blk.0.attn_q.weight.lora_b", [2, 4], 0, 32],
      ["blk.1.ffn_up.weight.lora_a", [3, 2], 0, 64],
      ["blk.1.ffn_up.weight.lora_b", [2, 5], 0, 96],
    ]);
    expect(bytes).toBe(start + 96 + 64);
    tensors.forEach(({ values }, i) => {
      const { a, b } = source.pairs[i >> 1]!;
      expect(values).toEqual(i % 2 === 0 ? a : b);
    });
  });

  test("the scale that llama.cpp computes, alpha / r, is the adapter's own: rsLoRA, and layers with another rank or alpha", () => {
    const source = { ...adapter(pair(Q, 4, 3, 4), pair(UP, 2, 3, 5, 8)), rslora: true };
    const { metadata, tensors } = parse(writeGgufLora(source, "x"));
    const alpha = metadata["adapter.lora.alpha"] as number;
    expect(alpha).toBe(16 * Math.sqrt(4));
    source.pairs.forEach(({ r, alpha: own, b }, i) => {
      const effective = tensors[2 * i + 1]!.values.map((value) => (value * alpha) / r);
      effective.forEach((value, k) => {
        expect(value).toBeCloseTo((b[k]! * own) / Math.sqrt(r), 5);
      });
    });
  });

  const readAgain = (bytes: Uint8Array<ArrayBuffer>) =>
    readGgufLora(new BlobFileSet("x", [{ path: "a.gguf", file: new Blob([bytes]) }]), "a.gguf");

  test("reads back as pairs that change the model as much, whatever their ranks and alphas", async () => {
    const source = { ...adapter(pair(Q, 4, 3, 4), pair(UP, 2, 3, 5, 8)), rslora: true };
    const again = await readAgain(writeGgufLora(source, "x"));
    expect(again.pairs.map(({ module, r }) => [module, r])).toEqual([
      [Q, 4],
      [UP, 2],
    ]);
    again.pairs.forEach((pair, i) => {
      const before = source.pairs[i]!;
      expect(pair.a).toEqual(before.a);
      pair.b.forEach((value, k) => {
        expect(value * scaleOf(pair, false)).toBeCloseTo(before.b[k]! * scaleOf(before, true), 5);
      });
    });
    const file = writeGgufLora(source, "x");
    const at = new TextDecoder("latin1").decode(file).indexOf("attn_q.weight.lora_a");
    file.set(new TextEncoder().encode("attn_x"), at);
    await expect(readAgain(file)).rejects.toThrow(/found blk.0.attn_x.weight.lora_a/);
  });

  test("an adapter on the tower is refused with the ways out, an empty one too", () => {
    expect(() => writeGgufLora(adapter(pair(Q, 2, 3, 4), pair(VISION, 2, 3, 3)), "x")).toThrow(
      /language layers only.*attn\.proj.*PEFT form/,
    );
    expect(() => writeGgufLora(adapter(), "x")).toThrow(/empty/);
  });
});

test("what is nested too deeply in a config is no module's name", () => {
  const files = writePeft(adapter(pair(Q, 2, 3, 4)));
  const nested = `${"[".repeat(20_000)}${"]".repeat(20_000)}`;
  const config = files[CONFIG_FILE].replace(/"target_modules": ("[^"]*"|\[[^\]]*\])/, `"target_modules": [${nested}]`);
  expect(config).toContain(nested);
  expect(readPeft(config, files[WEIGHTS_FILE]).adapter.pairs).toHaveLength(1);
});
