// What is fuzzed: small sound files for every parser, and how each is read. Only parsing is called, and raw rows of weights.

import { readFileSync } from "node:fs";
import { TabTuneError } from "../src/errors.ts";
import {
  BlobFileSet,
  encodeFloats,
  openCheckpoint,
  openZip,
  parquetRows,
  writeSafetensors,
  writeZip,
} from "../src/formats/index.ts";
import { parseConfig } from "../src/models/index.ts";
import { parseGenerationConfig, parseProcessorConfig } from "../src/models/qwen3_vl/processor_config.ts";
import { findChatTemplate, Tokenizer } from "../src/processor/index.ts";
import {
  type Adapter,
  CONFIG_FILE,
  findAdapter,
  readDataset,
  readPeft,
  WEIGHTS_FILE,
  writePeft,
} from "../src/train/index.ts";
import { byteTokenizer, SIMPLE_TEMPLATE } from "./byte_tokenizer.ts";
import { quantizedTargets } from "./fuzz_quantized.ts";
import type { Files, Target } from "./fuzz_target.ts";
import { ggufPair, pairSource } from "./gguf_pair.ts";
import { greyPng } from "./png.ts";
import { configJson, tinyWeights } from "./tiny_model.ts";

const text = (value: unknown) =>
  new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value)) as Uint8Array<ArrayBuffer>;
const blobs = (files: Files) => [...files].map(([path, bytes]) => ({ path, file: new Blob([bytes]) }));
const folder = (files: Files) => new BlobFileSet("fuzzed", blobs(files));

/** Opens a checkpoint, its config, and the raw bytes of every tensor. */
async function readCheckpoint(files: Files): Promise<void> {
  const checkpoint = await openCheckpoint(folder(files));
  for (const [name, { shape }] of checkpoint.tensors) await checkpoint.readRows(name, 0, shape[0] ?? 1);
  const config = parseConfig(checkpoint.config);
  const small: Record<string, string> = {};
  for (const path of ["tokenizer.json", "chat_template.jinja", "preprocessor_config.json", "generation_config.json"])
    if (await checkpoint.files.has(path)) small[path] = await checkpoint.files.text(path);
  readSmall(small, config);
}

function readSmall(small: Record<string, string>, config: ReturnType<typeof parseConfig>): void {
  if (small["tokenizer.json"]) Tokenizer.from(small["tokenizer.json"], small["tokenizer_config.json"]).encode("Größe");
  findChatTemplate(small);
  parseProcessorConfig(small, config);
  parseGenerationConfig(small["generation_config.json"]);
}

async function readTables(files: Files): Promise<void> {
  const probe = async () => ({ width: 1, height: 1 });
  const { issues } = await readDataset("fuzzed", blobs(files), { probe });
  // A bad row does not stop the others; here it counts as refused.
  const [first] = issues;
  if (first) throw new TabTuneError("BadInput", `${first.field}: ${first.found}`);
}

/** tokenizer.json with the ids of the tiny model: some letters, then its special tokens. */
function tinyTokenizer(): string {
  const specials = [
    "<|endoftext|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|im_end|>",
  ];
  const tokenizer = JSON.parse(byteTokenizer());
  const letters = Object.keys(tokenizer.model.vocab).slice(64, 120);
  tokenizer.model = { type: "BPE", vocab: Object.fromEntries(letters.map((c, id) => [c, id])), merges: [] };
  tokenizer.added_tokens = specials.map((content, i) => ({ ...tokenizer.added_tokens[0], content, id: 57 + i }));
  return JSON.stringify(tokenizer);
}

/** The tiny checkpoint that several targets are made of: in one weight file, in two, and opened. */
async function tinyCheckpoint() {
  const tensors = [...tinyWeights()].map(([name, { shape, data }]) => {
    return { name, dtype: "BF16", shape: [...shape], bytes: encodeFloats("BF16", Float32Array.from(data)) };
  });
  const small = new Map([
    ["config.json", text({ ...configJson, text_config: { ...configJson.text_config, max_position_embeddings: 4096 } })],
    ["tokenizer.json", text(tinyTokenizer())],
    ["chat_template.jinja", text(SIMPLE_TEMPLATE)],
    ["generation_config.json", text({ do_sample: true, top_k: 20, temperature: 0.7, eos_token_id: [62] })],
    ["preprocessor_config.json", text({ patch_size: 4, size: { shortest_edge: 64, longest_edge: 4096 } })],
  ]);
  const part = (n: number) => tensors.filter((_, i) => i % 2 === n);
  const paths = ["model-1.safetensors", "model-2.safetensors"];
  const weight_map = Object.fromEntries(tensors.map(({ name }, i) => [name, paths[i % 2]]));
  const single: Files = new Map([...small, ["model.safetensors", writeSafetensors(tensors)]]);
  const split: Files = new Map([
    ...small,
    ["model.safetensors.index.json", text({ weight_map })],
    ...paths.map((path, n) => [path, writeSafetensors(part(n))] as const),
  ]);
  return { single, split, source: await pairSource(folder(single)) };
}

const only = (files: Files, pattern: RegExp): Files => new Map([...files].filter(([path]) => pattern.test(path)));

function tinyAdapter(): Files {
  const module = "model.language_model.layers.0.self_attn.q_proj";
  const values = (n: number) => Float32Array.from({ length: n }, (_, i) => i / 8);
  const pair = { module, r: 2, alpha: 4, a: values(16), b: values(16) };
  const adapter: Adapter = { base: "a/b", r: 2, alpha: 4, rslora: false, dropout: 0, pairs: [pair] };
  const files = writePeft(adapter);
  return new Map([
    [CONFIG_FILE, text(files[CONFIG_FILE])],
    [WEIGHTS_FILE, files[WEIGHTS_FILE]],
  ]);
}

const ROWS = [
  {
    messages: [
      { role: "user", content: "a, “b”\nc" },
      { role: "assistant", content: "d" },
    ],
  },
  {
    messages: [
      { role: "user", content: [{ type: "image", image: "p.png" }] },
      { role: "assistant", content: "1" },
    ],
  },
];
const CSV = 'image,question,answer\np.png,"How, ""many""?\nSay.",3\np.png,Which?,b\n';

/** Written by pyarrow: both kinds of pages, dictionaries, lists, structs, every encoding, snappy and zstd. */
const PARQUET = [
  "chartqa_zstd.parquet",
  "chartqa_snappy.parquet",
  "mixed_v1_zstd.parquet",
  "mixed_v2_snappy.parquet",
  "mixed_delta.parquet",
];

/** The file itself, and in two parts that are put together again: so damage in either leaves the end sound, and pages are reached. */
function parquetSeeds(path: string): Files[] {
  const bytes = new Uint8Array(readFileSync(`src/formats/testdata/${path}`));
  const split = bytes.length - 8 - new DataView(bytes.buffer).getUint32(bytes.length - 8, true);
  return [
    new Map([[path, bytes]]),
    new Map([
      ["pages", bytes.slice(0, split)],
      ["footer", bytes.slice(split, -8)],
    ]),
  ];
}

function parquetFile(files: Files): { path: string; file: Blob } {
  const [[path, whole]] = [...files] as [[string, Uint8Array<ArrayBuffer>]];
  const footer = files.get("footer");
  if (!footer) return { path, file: new Blob([whole]) };
  return { path: "p.parquet", file: new Blob([whole, footer, Uint32Array.of(footer.length), "PAR1"]) };
}

function tables(): Files[] {
  const png = new Uint8Array(greyPng(8, 8));
  const table = (path: string, content: string): Files =>
    new Map([
      [path, text(content)],
      ["p.png", png],
    ]);
  return [
    table("t.jsonl", ROWS.map((row) => JSON.stringify(row)).join("\n")),
    table("t.json", JSON.stringify({ data: ROWS })),
    table("t.csv", CSV),
    table("t.csv", CSV.replaceAll(",", "\t")),
  ];
}

/** Every target; its seeds are made here, so that a fault of theirs is found at once. */
export async function fuzzTargets(): Promise<Target[]> {
  const { single, split, source } = await tinyCheckpoint();
  const kinds = ["Q4_0", "Q8_0", "F16", "F32", "BF16", "Q5_1"] as const;
  let next = 0;
  const pair = ggufPair(source, () => kinds[next++ % kinds.length]!);
  const gguf = new Map([
    ["a.gguf", pair.language],
    ["mmproj.gguf", pair.vision],
  ]);
  const zip = await writeZip([
    { path: "t.jsonl", data: JSON.stringify(ROWS[0]).repeat(20) },
    { path: "p.png", data: new Uint8Array(greyPng(8, 8)) },
    { path: "s/b.bin", data: new Blob(["blob"]) },
  ]);
  return [
    { name: "safetensors", seeds: [only(single, /model\.|^config/), only(split, /model|^config/)], read: readWeights },
    { name: "gguf", seeds: [gguf], read: readCheckpoint },
    {
      name: "zip",
      seeds: [new Map([["z.zip", new Uint8Array(await zip.arrayBuffer())]])],
      async read(files) {
        for (const [path, bytes] of files) for (const file of await openZip(new Blob([bytes]), path)) await file.read();
      },
    },
    { name: "tables", seeds: tables(), read: readTables },
    {
      name: "parquet",
      seeds: PARQUET.flatMap(parquetSeeds),
      async read(files) {
        const { path, file } = parquetFile(files);
        for await (const _ of parquetRows(file, path));
        await readDataset("fuzzed", [{ path, file }], { probe: async () => ({ width: 1, height: 1 }) });
      },
    },
    {
      name: "peft",
      seeds: [tinyAdapter()],
      async read(files) {
        const { config, weights } = await findAdapter(blobs(files));
        readPeft(config, weights);
      },
    },
    {
      name: "configs",
      seeds: [single],
      read: readCheckpoint,
    },
    ...quantizedTargets(),
  ];
}

/** Weights without the small files. */
async function readWeights(files: Files): Promise<void> {
  const checkpoint = await openCheckpoint(folder(files));
  for (const [name, { shape }] of checkpoint.tensors) await checkpoint.readRows(name, 0, shape[0] ?? 1);
}
