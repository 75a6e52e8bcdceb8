import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { f32ToBf16, f32ToF16 } from "../src/formats/dtype.ts";
import { BlobFileSet, openCheckpoint, type WeightDtype } from "../src/formats/index.ts";
import { writeSafetensors } from "../src/formats/safetensors.ts";
import { parseConfig, type Qwen3VLConfig } from "../src/models/index.ts";
import { byteTokenizer, SIMPLE_TEMPLATE, SPECIAL, THINKING, THINKING_TEMPLATE } from "./byte_tokenizer.ts";
import { type Shape as CheckpointShape, configOf, PREPROCESSOR, tensorList } from "./checkpoint_shapes.ts";
import { gpuWeights } from "./gpu_weights.ts";
import type { ReferenceWeights } from "./reference_model.ts";

/** At least 263 rows of vocabulary: the byte tokenizer's. More are padding rows. */
export type Shape = CheckpointShape & { vocabulary: number };

/** How the same checkpoint may be written. */
export interface Style {
  dtype?: WeightDtype;
  /** Weight files. */
  files?: number;
  /** The most likely token is always a printable character (the head's other rows are zero): for an untied head. */
  isPrintable?: boolean;
  /** `rope_parameters` and `processor_config.json`, as transformers 5 writes them. */
  isNew?: boolean;
  /** A thinking model: at least 265 rows of vocabulary. */
  isThinking?: boolean;
}

function normal(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

function toBytes(values: number[], dtype: WeightDtype): Uint8Array<ArrayBuffer> {
  if (dtype === "F32") return new Uint8Array(Float32Array.from(values).buffer);
  return new Uint8Array(Uint16Array.from(values, dtype === "F16" ? f32ToF16 : f32ToBf16).buffer);
}

/** A whole checkpoint with random, lively weights in a folder of its own, tokenizer and template included. `remove` deletes it. */
export class RandomCheckpoint {
  readonly folder = mkdtempSync(join(tmpdir(), "random-"));
  readonly config: Qwen3VLConfig;
  #files: { path: string; data: string | Uint8Array<ArrayBuffer> }[] = [];
  #dtype: WeightDtype;

  constructor(
    shape: Shape,
    { dtype = "BF16", files = 1, isNew = false, isPrintable = false, isThinking = false }: Style = {},
  ) {
    this.#dtype = dtype;
    const config = configText(shape, isNew);
    this.config = parseConfig(config);
    this.#add("config.json", JSON.stringify(config));
    this.#add("tokenizer.json", byteTokenizer(isThinking ? THINKING : {}));
    const sizes = { ...PREPROCESSOR, size: { shortest_edge: 32 * 32, longest_edge: 512 * 512 } };
    if (isNew) this.#add("processor_config.json", JSON.stringify({ image_processor: sizes }));
    else this.#add("preprocessor_config.json", JSON.stringify(sizes));
    const template = isThinking ? THINKING_TEMPLATE : SIMPLE_TEMPLATE;
    if (isNew) this.#add("chat_template.jinja", template);
    else this.#add("chat_template.json", JSON.stringify({ chat_template: template }));
    this.#writeWeights(shape, files, isPrintable);
    mkdirSync(this.folder, { recursive: true });
    for (const { path, data } of this.#files) writeFileSync(join(this.folder, path), data);
  }

  /** The small files by path. */
  get texts(): Record<string, string> {
    return Object.fromEntries(
      this.#files.flatMap(({ path, data }) => (typeof data === "string" ? [[path, data]] : [])),
    );
  }

  #add(path: string, data: string | Uint8Array<ArrayBuffer>): void {
    this.#files.push({ path, data });
  }

  #writeWeights(shape: Shape, files: number, isPrintable: boolean): void {
    const random = normal(7);
    const tensors = tensorList(shape).map(([name, dims, centre]) => {
      const size = dims.reduce((a, b) => a * b, 1);
      const spread = dims.length > 1 ? (name.includes("embed") ? 3 : 1) / Math.sqrt(size / dims[0]!) : 0.1;
      const isZero = (i: number) => {
        const id = Math.floor(i / shape.hidden);
        return isPrintable && name === "lm_head.weight" && (id < 32 || id > 126);
      };
      const values = Array.from({ length: size }, (_, i) => (isZero(i) ? 0 : centre + spread * random()));
      return { name, dtype: this.#dtype, shape: dims, bytes: toBytes(values, this.#dtype) };
    });
    if (files === 1) {
      this.#add("model.safetensors", writeSafetensors(tensors));
      return;
    }
    const map: Record<string, string> = {};
    for (let i = 0; i < files; i++) {
      const part = tensors.filter((_, n) => n % files === i);
      const path = `model-${i + 1}-of-${files}.safetensors`;
      for (const { name } of part) map[name] = path;
      this.#add(path, writeSafetensors(part));
    }
    this.#add("model.safetensors.index.json", JSON.stringify({ weight_map: map }));
  }

  /** The same files without a folder. */
  get files(): BlobFileSet {
    return new BlobFileSet(
      "random",
      this.#files.map(({ path, data }) => ({ path, file: new Blob([data]) })),
    );
  }

  /** The weights that the GPU holds after an import in a scheme, by their names in the checkpoint. */
  async weights(scheme: "bf16" | "q4a32" | "q4a64"): Promise<ReferenceWeights> {
    return await gpuWeights(await openCheckpoint(this.files), scheme);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function configText(shape: Shape, isNew: boolean): Record<string, unknown> {
  const config: Record<string, unknown> & { text_config: Record<string, unknown> } = configOf(shape);
  config.image_token_id = SPECIAL["<|image_pad|>"];
  config.video_token_id = SPECIAL["<|video_pad|>"];
  config.vision_start_token_id = SPECIAL["<|vision_start|>"];
  config.vision_end_token_id = SPECIAL["<|vision_end|>"];
  if (isNew) {
    const { rope_scaling, rope_theta, ...rest } = config.text_config;
    config.text_config = { ...rest, rope_parameters: { ...(rope_scaling as object), rope_theta } };
  }
  return config;
}
