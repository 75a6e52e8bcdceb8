import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { findChatTemplate } from "../src/processor/index.ts";
import { configOf, GENERATION, PREPROCESSOR, PRESETS } from "./checkpoint_shapes.ts";
import { ALIGNMENT, ggufHead } from "./gguf_file.ts";
import {
  type FORMS,
  type PlannedTensor,
  type Pool,
  planGguf,
  planSafetensors,
  type Randomness,
} from "./random_forms.ts";

export type Preset = keyof typeof PRESETS;
export type Form = (typeof FORMS)[number];

export interface FolderOptions extends Randomness {
  preset: Preset;
  form: Form;
  /** A folder with tokenizer.json and the chat template. */
  tokenizer: string;
  out: string;
  /** Most bytes of tensors in one safetensors file. */
  shardBytes?: number;
}

const TEXTS = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json"];

/**
 * Writes a Qwen3-VL checkpoint with the names, shapes and types of a published one and random weights of a plausible size: sharded safetensors
 * with an index and the config files in the style of their publishers, or a pair of GGUF files. Returns the bytes of the weight files.
 */
export async function writeRandomFolder({
  preset,
  form,
  tokenizer,
  out,
  shardBytes = 5e9,
  ...randomness
}: FolderOptions): Promise<number> {
  const folder = new Folder(out);
  const texts: Record<string, string> = {};
  for (const name of TEXTS) {
    const path = join(tokenizer, name);
    if (existsSync(path)) texts[name] = readFileSync(path, "utf8");
  }
  if (!texts["tokenizer.json"]) throw new Error(`no tokenizer.json in ${tokenizer}`);
  const shape = PRESETS[preset];
  if (form === "gguf") {
    const source = { tokenizer: JSON.parse(texts["tokenizer.json"]), template: findChatTemplate(texts) };
    const { language, vision } = planGguf(shape, source, randomness);
    for (const [name, { metadata, tensors }] of [
      [`random-${preset}-Q4_K_M.gguf`, language],
      [`mmproj-random-${preset}-F16.gguf`, vision],
    ] as const)
      await folder.write(name, ggufHead(metadata, tensors), tensors, ALIGNMENT);
    return folder.bytes;
  }
  const { tensors, quantization } = planSafetensors(form, shape, randomness);
  folder.json("config.json", { ...configOf(shape), ...quantization });
  folder.json("preprocessor_config.json", PREPROCESSOR);
  folder.json("generation_config.json", GENERATION);
  for (const [name, text] of Object.entries(texts)) folder.text(name, text);
  const shards = cutIntoShards(tensors, shardBytes);
  const number = (n: number) => String(n).padStart(5, "0");
  const map: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const isOnly = shards.length === 1;
    const name = isOnly ? "model.safetensors" : `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    for (const tensor of shard) map[tensor.name] = name;
    await folder.write(name, safetensorsHead(shard), shard, 1);
  }
  const total_size = tensors.reduce((sum, { size }) => sum + size, 0);
  if (shards.length > 1) folder.json("model.safetensors.index.json", { metadata: { total_size }, weight_map: map });
  return folder.bytes;
}

class Folder {
  readonly #path: string;
  /** Where the next numbers begin, in units and modulo a pool's length. */
  #shift = 0;
  /** Of weight files so far. */
  bytes = 0;

  constructor(path: string) {
    this.#path = path;
    mkdirSync(path, { recursive: true });
  }

  text(name: string, text: string): void {
    writeFileSync(join(this.#path, name), text);
  }

  json(name: string, value: unknown): void {
    this.text(name, `${JSON.stringify(value, null, 2)}\n`);
  }

  /** A file of a head and tensors, each padded to the alignment. */
  async write(name: string, head: Uint8Array, tensors: { size: number; from: Pool }[], alignment: number) {
    const file = await open(join(this.#path, name), "w");
    const add = async (bytes: Uint8Array) => {
      await file.write(bytes);
      this.bytes += bytes.length;
    };
    await add(head);
    for (const { size, from } of tensors) {
      for (let left = size; left > 0; ) {
        // A prime number of units further, so rows do not repeat nearby.
        this.#shift += 1_299_709;
        const at = (this.#shift % (from.bytes.length / from.unit)) * from.unit;
        const length = Math.min(left, from.bytes.length - at);
        await add(from.bytes.subarray(at, at + length));
        left -= length;
      }
      const padding = Math.ceil(size / alignment) * alignment - size;
      if (padding > 0) await add(new Uint8Array(padding));
    }
    await file.close();
  }
}

function cutIntoShards(tensors: PlannedTensor[], limit: number): PlannedTensor[][] {
  const shards: PlannedTensor[][] = [[]];
  let room = limit;
  for (const tensor of tensors) {
    if (tensor.size > room && shards.at(-1)!.length > 0) {
      shards.push([]);
      room = limit;
    }
    shards.at(-1)!.push(tensor);
    room -= tensor.size;
  }
  return shards;
}

/** Length and header of a safetensors file. */
function safetensorsHead(tensors: PlannedTensor[]): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let end = 0;
  for (const { name, dtype, shape, size } of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, end + size] };
    end += size;
  }
  const text = Buffer.from(JSON.stringify(header));
  const head = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, " ");
  head.writeBigUInt64LE(BigInt(head.length - 8));
  text.copy(head, 8);
  return head;
}
