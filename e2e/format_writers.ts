// Whole checkpoints in the published forms that `npm run parity -- DIR --format X` knows.
import { encodeFloats } from "../src/formats/dtype.ts";
import { writeSafetensors } from "../src/formats/safetensors.ts";
import { findChatTemplate } from "../src/processor/index.ts";
import { ggufPair, mixedType, type PairSource } from "./gguf_pair.ts";
import type { TypeName } from "./gguf_quantize.ts";
import { onnxExport } from "./onnx_export.ts";
import {
  type Dense,
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
} from "./write_formats.ts";

/** A dense checkpoint in memory. */
export interface Source {
  config: Record<string, unknown>;
  tensors: { name: string; shape: number[]; data: ArrayLike<number> }[];
  /** Its other files by name. */
  texts: Record<string, string>;
}

/** A checkpoint in some form: files that take the place of the dense ones, and what the weights that are no longer dense are worth. */
export type FormatWriter = (source: Source) => {
  files: Record<string, Uint8Array<ArrayBuffer> | string>;
  values: Map<string, Float32Array>;
  /** Of GGUF files, which is which; of ONNX files, the language model. */
  gguf?: { language: string; vision?: string };
};

/** The decoder's linear layers, which every form quantizes. */
const LINEAR = /\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight$/;

/** Quantizes the tensors that `isQuantized` names, under the name that `rename` gives; leaves the rest in bf16. */
function inSafetensors(
  quantization: Record<string, unknown>,
  write: (dense: Dense, index: number) => Written,
  isQuantized = (name: string) => LINEAR.test(name),
  rename = (name: string) => name,
  reshape?: (tensor: Source["tensors"][number]) => Source["tensors"][number],
): FormatWriter {
  return ({ config, tensors }) => {
    const values = new Map<string, Float32Array>();
    let index = 0;
    const written = tensors.flatMap((tensor): WrittenTensor[] => {
      const { name } = tensor;
      if (isQuantized(name)) {
        const [out, cols] = tensor.shape as [number, number];
        const module = rename(name).replace(/\.weight$/, "");
        const form = write({ module, out, cols, values: tensor.data }, index++);
        values.set(name, form.values);
        return form.tensors;
      }
      const { shape, data } = reshape?.(tensor) ?? tensor;
      return [{ name: rename(name), dtype: "BF16", shape, bytes: encodeFloats("BF16", Float32Array.from(data)) }];
    });
    const files = {
      "config.json": JSON.stringify({ ...config, ...quantization }),
      "model.safetensors": writeSafetensors(written),
    };
    return { files, values };
  };
}

/** Groups of 32, which divide the widths of even the smallest reference. */
const GROUP = 32;
const quantized = (quant_method: string, more: object = {}) => ({
  quantization_config: { quant_method, bits: 4, ...more },
});

const mlx = (bits: 4 | 8) =>
  inSafetensors(
    { quantization: { group_size: GROUP, bits, mode: "affine" } },
    (dense) => writeMlx(dense, bits, GROUP),
    (name) => LINEAR.test(name) || name.endsWith("embed_tokens.weight"),
    (name) => name.replace("model.language_model.", "language_model.model.").replace("model.visual.", "vision_tower."),
    (tensor) => {
      if (!tensor.name.endsWith("patch_embed.proj.weight")) return tensor;
      // [width, 3, 2, p, p] with the channels last.
      const [width, channels, ...places] = tensor.shape as [number, number, ...number[]];
      const size = places.reduce((product, n) => product * n, 1);
      const data = Float32Array.from({ length: tensor.data.length }, (_, i) => {
        const [row, rest] = [Math.floor(i / (size * channels)), i % (size * channels)];
        return tensor.data[(row * channels + (rest % channels)) * size + Math.floor(rest / channels)]!;
      });
      return { ...tensor, shape: [width, ...places, channels], data };
    },
  );

/** A pair of GGUF files as llama.cpp would write it; where rows do not fill a type's blocks, in what its quantizer falls back to. */
function inGguf(
  language: (name: string, shape: { layers: number; tied: boolean }) => TypeName,
  vision: TypeName,
): FormatWriter {
  return ({ config, tensors, texts }) => {
    const source: PairSource = {
      config: config as unknown as PairSource["config"],
      tokenizer: JSON.parse(texts["tokenizer.json"]!),
      template: findChatTemplate(texts),
      weights: new Map(tensors.map(({ name, shape, data }) => [name, { shape, data: Float32Array.from(data) }])),
    };
    const layers = source.config.text_config.num_hidden_layers;
    const tied = !source.weights.has("lm_head.weight");
    const isVision = (name: string) => name.startsWith("model.visual.");
    const pair = ggufPair(source, (name) => (isVision(name) ? vision : language(name, { layers, tied })));
    const gguf = { language: "language.gguf", vision: "mmproj.gguf" };
    return {
      files: { [gguf.language]: pair.language, [gguf.vision]: pair.vision },
      values: new Map([...pair.values].filter(([name]) => pair.types.get(name) !== "F32")),
      gguf,
    };
  };
}

/** By the names that `--format` takes. */
export const FORMATS: Readonly<Record<string, FormatWriter>> = {
  // As Unsloth's dynamic checkpoints: nested, and one layer's MLP is left in 16 bits. Blocks of 32 or 64, as the width allows; in one layer
  // they cross rows.
  nf4: inSafetensors(
    { quantization_config: { quant_method: "bitsandbytes", load_in_4bit: true } },
    (dense) => writeBnb(dense, { blocksize: dense.cols % 64 === 0 || dense.module.includes("layers.3.") ? 64 : 32 }),
    (name) => LINEAR.test(name) && !name.includes("layers.1.mlp"),
  ),
  "compressed-tensors": inSafetensors(
    { quantization_config: { quant_method: "compressed-tensors", format: "pack-quantized" } },
    (dense, index) => {
      const symmetric = index % 2 === 0;
      return writeCompressedTensors(toInt4(dense, GROUP, symmetric), symmetric);
    },
  ),
  // Half of it in 8 bits, some of that with groups in the order of importance.
  "compressed-tensors-8": inSafetensors(
    {
      quantization_config: {
        ...{ quant_method: "compressed-tensors", format: "pack-quantized" },
        config_groups: { a: { weights: { num_bits: 4 } }, b: { weights: { num_bits: 8 } } },
      },
    },
    (dense, index) => {
      const [bits, symmetric] = [index % 2 === 0 ? (8 as const) : (4 as const), index % 3 === 0];
      if (index % 5 > 0) return writeCompressedTensors(toInt4(dense, GROUP, symmetric, bits), symmetric, { bits });
      const { q, gIdx } = toActOrder(dense, GROUP, bits);
      return writeCompressedTensors(q, false, { bits, gIdx });
    },
  ),
  awq: inSafetensors(quantized("awq", { version: "gemm", group_size: GROUP }), (dense) =>
    writeAwq(toInt4(dense, GROUP)),
  ),
  gptq: inSafetensors(quantized("gptq", { group_size: GROUP, desc_act: false }), (dense) =>
    writeGptq(toInt4(dense, GROUP)),
  ),
  "gptq-act-order": inSafetensors(quantized("gptq", { group_size: GROUP, desc_act: true }), (dense) =>
    writeActOrder(dense, GROUP),
  ),
  fp8: inSafetensors({ quantization_config: { quant_method: "fp8", weight_block_size: [128, 128] } }, (dense) =>
    writeFp8(dense),
  ),
  mlx: mlx(4),
  mlx8: mlx(8),
  onnx: (source) => ({ ...onnxExport(source), gguf: { language: "text.onnx" } }),
  // Towers as they are published beside each.
  "gguf-q4_k_m": inGguf((name, shape) => mixedType(name, shape, "Q4_K"), "F16"),
  "gguf-q5_k_m": inGguf((name, shape) => mixedType(name, shape, "Q5_K"), "F16"),
  "gguf-q6_k": inGguf(() => "Q6_K", "F16"),
  "gguf-q8_0": inGguf(() => "Q8_0", "Q8_0"),
  "gguf-q4_0": inGguf((name) => (name.includes("embed_tokens") ? "Q6_K" : "Q4_0"), "Q8_0"),
  "gguf-iq4_xs": inGguf((name) => (name.includes("embed_tokens") ? "Q6_K" : "IQ4_XS"), "F16"),
  "gguf-bf16": inGguf(() => "BF16", "BF16"),
};
