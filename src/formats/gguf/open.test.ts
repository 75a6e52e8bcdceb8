import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { configOf, PRESETS } from "../../../e2e/checkpoint_shapes.ts";
import { ggufFile } from "../../../e2e/gguf_file.ts";
import { type GgufPairFiles, ggufPair, type PairSource, pairSource } from "../../../e2e/gguf_pair.ts";
import { TYPES, type TypeName } from "../../../e2e/gguf_quantize.ts";
import { TEXTS } from "../../../e2e/many_scripts.ts";
import { RandomCheckpoint } from "../../../e2e/random_checkpoint.ts";
import { isError } from "../../errors.ts";
import { parseConfig, weightSlots } from "../../models/index.ts";
import { parseGenerationConfig, parseProcessorConfig } from "../../models/qwen3_vl/processor_config.ts";
import { findChatTemplate, Tokenizer } from "../../processor/index.ts";
import { BlobFileSet } from "../blob_files.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { isWeightDtype } from "../dtype.ts";
import type { FileSet } from "../file_set.ts";
import { openCheckpoint } from "../open_checkpoint.ts";
import { rowFormat } from "../row_format.ts";
import { readGgufFile } from "./container.ts";
import { tokenizerOf } from "./tokenizer.ts";

const folder = (parts: Record<string, BlobPart>) =>
  new BlobFileSet(
    "pair",
    Object.entries(parts).map(([path, data]) => ({ path, file: new Blob([data]) })),
  );

/** Whole tensors and single rows of a checkpoint against what the writer put into it. */
async function expectValues(checkpoint: Checkpoint, pair: GgufPairFiles): Promise<void> {
  expect([...checkpoint.tensors.keys()].sort()).toEqual([...pair.values.keys()].sort());
  for (const [name, { shape, dtype, format }] of checkpoint.tensors) {
    expect(dtype).toBe(pair.types.get(name));
    expect(format).toBe(isWeightDtype(dtype) ? undefined : `GGUF ${dtype}`);
    const values = pair.values.get(name)!;
    const [rows, cols] = [shape[0]!, values.length / shape[0]!];
    const open = (raw: Uint8Array, count: number) => {
      const out = new Float32Array(count);
      const { rowBytes, decode } = rowFormat(dtype)!;
      for (let at = 0; at < count; at += cols) {
        const row = raw.subarray((at / cols) * rowBytes(cols), (at / cols + 1) * rowBytes(cols));
        expect(decode(row, cols, out.subarray(at))).toBe(-1);
      }
      return out;
    };
    // Compared as bytes: far quicker than number by number.
    const same = (a: Float32Array, b: Float32Array) => Buffer.from(a.buffer).equals(Buffer.from(b.slice().buffer));
    expect(same(open(await checkpoint.readRows(name, 0, rows), values.length), values), name).toBe(true);
    const last = await checkpoint.readRows(name, rows - 1, 1);
    expect(same(open(last, cols), values.subarray(values.length - cols)), name).toBe(true);
  }
}

const SHAPE = {
  ...{ layers: 2, hidden: 256, heads: 2, kvHeads: 1, headDim: 64, ffn: 96, tied: false, vocabulary: 283 },
  vision: { depth: 3, hidden: 32, heads: 2, ffn: 68, taps: [0, 2], positions: 16 },
};

/** The checkpoints that transformers wrote. */
const REFERENCE = fileURLToPath(new URL("../../../../shared/reference/s-0/checkpoint/", import.meta.url));
const QWEN = fileURLToPath(new URL("../../../../shared/qwen3-vl/", import.meta.url));

test.skipIf(!existsSync(REFERENCE))(
  "the reference checkpoint (../shared/reference/s-0) as a pair: values, config, tokenizer",
  async () => {
    const path = (name: string) => readFileSync(REFERENCE + name);
    const original = folder(Object.fromEntries(readdirSync(REFERENCE).map((name) => [name, path(name)])));
    const source = await pairSource(original);
    const pair = ggufPair(source, (name) => (name.includes("visual") ? "F16" : "Q4_K"));
    const checkpoint = await openCheckpoint(folder({ "a.gguf": pair.language, "b.gguf": pair.vision }));
    await expectValues(checkpoint, pair);
    expect(new Set(pair.types.values())).toEqual(new Set(["F32", "F16", "Q5_0"]));
    expect(parseConfig(checkpoint.config)).toEqual(parseConfig(JSON.parse(String(path("config.json")))));
    const own = Tokenizer.from(String(path("tokenizer.json")));
    const made = Tokenizer.from(await checkpoint.files.text("tokenizer.json"));
    expect(made.size).toBe(own.size);
    for (const text of [...Object.values(TEXTS), "<think>1</think><|im_end|>"]) {
      expect(made.encode(text), text).toEqual(own.encode(text));
      expect(made.decode(made.encode(text))).toBe(own.decode(own.encode(text)));
    }
  },
);

test.skipIf(!existsSync(QWEN))(
  "Qwen's own vocabulary (../shared/qwen3-vl) from GGUF metadata gives the same ids",
  async () => {
    const text = readFileSync(`${QWEN}tokenizer.json`, "utf8");
    const tokenizer = JSON.parse(text) as PairSource["tokenizer"];
    const config = configOf(PRESETS["2b"]) as PairSource["config"];
    const pair = ggufPair({ config, tokenizer, template: "", weights: new Map() }, () => "F32");
    const file = await readGgufFile(folder({ "a.gguf": pair.language }), "a.gguf");
    const made = Tokenizer.from(tokenizerOf(file).json);
    const own = Tokenizer.from(text);
    for (const sample of Object.values(TEXTS)) expect(made.encode(sample), sample).toEqual(own.encode(sample));
  },
  20_000,
);

describe("a pair made from a checkpoint with random weights", () => {
  let random: RandomCheckpoint;
  let source: PairSource;
  let pair: GgufPairFiles;
  /** As Q4_K_M mixes, with vision in 8 bits. */
  const mixed = (name: string): TypeName =>
    name.includes("visual")
      ? "Q8_0"
      : /v_proj|down_proj|embed/.test(name)
        ? "Q6_K"
        : name.includes("q_proj")
          ? "Q5_K"
          : "Q4_K";

  beforeAll(async () => {
    random = new RandomCheckpoint(SHAPE, { dtype: "F32" });
    source = await pairSource(random.files);
    pair = ggufPair(source, mixed);
  });
  afterAll(() => random.remove());
  const files = (more: Record<string, BlobPart> = {}) =>
    folder({ "Tiny-Q4_K_M.gguf": pair.language, "mmproj-Tiny-F16.gguf": pair.vision, ...more });

  test("every value under its Hugging Face name", async () => {
    const checkpoint = await openCheckpoint(files());
    expect(new Set(pair.types.values())).toEqual(new Set(["F32", "F16", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q5_0"]));
    await expectValues(checkpoint, pair);
  });

  test("every type that is read, some of them for rows of all kinds", async () => {
    const types = Object.keys(TYPES) as TypeName[];
    const met = new Set<TypeName>();
    for (const first of [0, 5]) {
      let next = first;
      const one = ggufPair(source, () => types[next++ % types.length]!);
      for (const type of one.types.values()) met.add(type);
      await expectValues(await openCheckpoint(folder({ "a.gguf": one.language, "b.gguf": one.vision })), one);
    }
    expect(met).toEqual(new Set(types));
  });

  test("the config of the metadata is the config of the checkpoint, and every slot finds its tensors", async () => {
    const checkpoint = await openCheckpoint(files());
    const config = parseConfig(checkpoint.config);
    expect(config).toEqual({
      ...random.config,
      text: { ...random.config.text, ropeTheta: config.text.ropeTheta },
    });
    expect(config.text.ropeTheta).toBe(Math.fround(random.config.text.ropeTheta));
    for (const slot of weightSlots(config, checkpoint, "q4a32")) {
      for (const { tensor } of slot.sources) expect(checkpoint.tensors.has(tensor), tensor).toBe(true);
    }
    expect(JSON.parse(await checkpoint.files.text("config.json"))).toEqual(checkpoint.config);
  });

  test("tokenizer, template, preprocessor and ends come from the metadata, what lies beside it fills in", async () => {
    const { files: set } = await openCheckpoint(files({ "tokenizer.json": "something else" }));
    const tokenizer = Tokenizer.from(await set.text("tokenizer.json"));
    const own = Tokenizer.from(random.texts["tokenizer.json"]!);
    for (const text of Object.values(TEXTS))
      expect(tokenizer.encode(`<|im_start|>${text}`)).toEqual(own.encode(`<|im_start|>${text}`));
    expect(findChatTemplate({ "chat_template.jinja": await set.text("chat_template.jinja") })).toBe(
      findChatTemplate(random.texts),
    );
    const preprocessor = { "preprocessor_config.json": await set.text("preprocessor_config.json") };
    expect(parseProcessorConfig(preprocessor, random.config)).toMatchObject({
      ...{ mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], minPixels: 65536, maxPixels: 16777216, patchSize: 16 },
    });
    expect(parseGenerationConfig(await set.text("generation_config.json"))).toEqual({
      endTokenIds: [own.tokenId("<|im_end|>")],
      sampling: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1 },
    });
    expect(set.licence).toBe("apache-2.0");
    const beside = await openCheckpoint(files({ "preprocessor_config.json": "{}", "generation_config.json": "[]" }));
    expect(await beside.files.text("preprocessor_config.json")).toBe("{}");
    expect(await beside.files.text("generation_config.json")).toBe("[]");
    const whole = await openCheckpoint(files({ "processor_config.json": "{}" }));
    expect(await whole.files.has("preprocessor_config.json")).toBe(false);
  });

  test("fingerprint and identity tell pairs apart", async () => {
    const first = await openCheckpoint(files());
    expect((await openCheckpoint(files())).fingerprint).toBe(first.fingerprint);
    const changed = pair.language.slice();
    // In the last tensor: nothing before the weights says that they are others.
    changed[changed.length - 9]! ^= 1;
    const second = await openCheckpoint(files({ "Tiny-Q4_K_M.gguf": changed }));
    expect(second.fingerprint).not.toBe(first.fingerprint);
    const third = await openCheckpoint(folder({ "b.gguf": pair.language, "mmproj-Tiny-F16.gguf": pair.vision }));
    expect(third.files.identity).not.toBe(first.files.identity);
  });

  describe("which files", () => {
    const failure = async (parts: Record<string, BlobPart>, choice?: { language?: string; vision?: string }) => {
      const error: unknown = await openCheckpoint(folder(parts), undefined, choice).catch((e: unknown) => e);
      expect(error).toBeInstanceOf(Error);
      return error as Error;
    };

    test("a half alone, and no half at all", async () => {
      const noVision = await failure({ "Tiny-Q4_K_M.gguf": pair.language });
      expect(isError(noVision, "NotFound")).toBe(true);
      expect(noVision.message).toMatch(/Tiny-Q4_K_M\.gguf is the language model alone.*Add the mmproj file/);
      expect((await failure({ "mmproj.gguf": pair.vision })).message).toMatch(
        /mmproj\.gguf is a vision tower alone\. Add/,
      );
    });

    test("another architecture and an adapter are refused by name", async () => {
      const llama = await failure({
        "l.gguf": ggufFile({ "general.architecture": ["string", "llama"] }, []),
        "m.gguf": pair.vision,
      });
      expect(isError(llama, "UnsupportedModel")).toBe(true);
      expect(llama.message).toMatch(/expected a GGUF file with the architecture qwen3vl, found l\.gguf: llama/);
      const adapter = ggufFile(
        { "general.architecture": ["string", "qwen3vl"], "general.type": ["string", "adapter"] },
        [],
      );
      expect((await failure({ "l.gguf": adapter })).message).toMatch(/l\.gguf is an adapter, not a model/);
    });

    test("halves that do not belong together", async () => {
      const other = new RandomCheckpoint({ ...SHAPE, hidden: 128 });
      const { vision } = ggufPair(await pairSource(other.files), () => "F16");
      other.remove();
      expect((await failure({ "a.gguf": pair.language, "b.gguf": vision })).message).toMatch(
        /b\.gguf does not belong to a\.gguf: the language model is 256 wide, but the vision tower gives 128/,
      );
      const clip = ggufFile(
        { "general.architecture": ["string", "clip"], "clip.projector_type": ["string", "gemma3"] },
        [],
      );
      expect((await failure({ "a.gguf": pair.language, "b.gguf": clip })).message).toMatch(
        /qwen3vl_merger\), found gemma3/,
      );
    });

    test("of several, the usual one is taken and said, or the one that is asked for", async () => {
      const eight = ggufPair(source, () => "Q8_0");
      const many = {
        "Tiny-Q8_0.gguf": eight.language,
        "sub/Tiny-Q4_K_M.gguf": pair.language,
        "mmproj-F32.gguf": eight.vision,
        "mmproj-Q8_0.gguf": pair.vision,
      };
      const usual = await openCheckpoint(folder(many));
      expect(usual.notes).toEqual([
        "Of 2 language files, sub/Tiny-Q4_K_M.gguf is taken (there are Tiny-Q8_0.gguf, sub/Tiny-Q4_K_M.gguf).",
        "Of 2 vision files, mmproj-F32.gguf is taken (there are mmproj-F32.gguf, mmproj-Q8_0.gguf).",
      ]);
      const asked = await openCheckpoint(folder(many), undefined, {
        language: "Tiny-Q8_0.gguf",
        vision: "mmproj-Q8_0.gguf",
      });
      expect(asked.tensors.get("model.language_model.layers.0.self_attn.q_proj.weight")!.dtype).toBe("Q8_0");
      expect(asked.notes).toEqual([]);
      expect(asked.files.identity).not.toBe(usual.files.identity);
      expect((await failure(many, { language: "no.gguf" })).message).toMatch(
        /named no\.gguf, found 0 among Tiny-Q8_0\.gguf, sub/,
      );
      expect(
        (await failure({ "a.gguf": pair.language, "b.gguf": pair.language, "m.gguf": pair.vision })).message,
      ).toMatch(/several that might be meant: a\.gguf, b\.gguf/);
    });

    test("a place that cannot list its files is told which", async () => {
      const set = folder({ "a.gguf": pair.language, "b.gguf": pair.vision }) as FileSet;
      set.list = async () => undefined;
      const checkpoint = await openCheckpoint(set, undefined, { language: "a.gguf", vision: "b.gguf" });
      expect(checkpoint.tensors.size).toBe(pair.values.size);
    });

    test("safetensors beside GGUF files come first", async () => {
      const both = Object.fromEntries(
        readdirSync(random.folder).map((path) => [path, readFileSync(`${random.folder}/${path}`)]),
      );
      const checkpoint = await openCheckpoint(folder({ ...both, "a.gguf": pair.language, "b.gguf": pair.vision }));
      expect(checkpoint.tensors.get("lm_head.weight")!.dtype).toBe("F32");
    });

    test("a split language file is read as one; a part that is missing is named", async () => {
      const { metadata, tensors } = pair.parts.language;
      const part = (n: number) =>
        ggufFile(
          { ...(n === 0 ? metadata : {}), "split.no": ["u16", n], "split.count": ["u16", 2] },
          tensors.filter((_, i) => i % 2 === n),
        );
      const parts = [part(0), part(1)];
      const split = { "T-00001-of-00002.gguf": parts[0]!, "T-00002-of-00002.gguf": parts[1]!, "m.gguf": pair.vision };
      await expectValues(await openCheckpoint(folder(split)), pair);
      expect((await failure({ "T-00002-of-00002.gguf": parts[1]!, "m.gguf": pair.vision })).message).toMatch(
        /T-00002-of-00002\.gguf is one of 2 parts, of which 1 are here/,
      );
    });
  });
});
