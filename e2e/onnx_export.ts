// Exports of a checkpoint as ONNX tools write them, after checkpoint-formats.md §6. What a weight is worth is computed by write_formats.ts, not by
// the readers under test.
import { f32ToBf16, f32ToF16 } from "../src/formats/dtype.ts";
import { type Initializer, type Node, writeOnnx } from "./onnx_writer.ts";
import { type Int4, int4Values, toInt4 } from "./write_formats.ts";

type Bytes = Uint8Array<ArrayBuffer>;
/** A tensor with its values. */
export type OnnxTensor = Initializer & { data: Uint8Array };

/** A model file, with its tensors in a file of their own where `file` names one. */
export function writeModel(
  nodes: Node[],
  tensors: readonly OnnxTensor[],
  file?: string,
): { model: Bytes; data: Bytes } {
  const data = new Uint8Array(tensors.reduce((sum, tensor) => sum + tensor.data.length, 0));
  let end = 0;
  const initializers = tensors.map((tensor): Initializer => {
    const offset = end;
    data.set(tensor.data, offset);
    end += tensor.data.length;
    return file ? { ...tensor, data: { file, offset, bytes: tensor.data.length } } : tensor;
  });
  return { model: writeOnnx({ nodes, initializers, inputs: [], outputs: [] }) as Bytes, data };
}

const bytesOf = (data: { buffer: ArrayBufferLike; byteOffset: number; byteLength: number }) =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** Numbers as a tensor; [out, in] is turned round where `turn` says so. */
export function floats(
  name: string,
  type: "f32" | "f16" | "bf16",
  shape: readonly number[],
  data: ArrayLike<number>,
  turn = false,
): OnnxTensor {
  const [out, cols] = shape as [number, number];
  const values = turn
    ? Float32Array.from(data, (_, i) => data[(i % out) * cols + Math.floor(i / out)]!)
    : Float32Array.from(data);
  const bytes =
    type === "f32" ? bytesOf(values) : bytesOf(Uint16Array.from(values, type === "f16" ? f32ToF16 : f32ToBf16));
  return { name, type, shape: turn ? [cols, out] : [...shape], data: bytes };
}

interface BlockOptions {
  bits?: 4 | 8;
  symmetric?: boolean;
  scales?: "f16" | "f32";
  /** As GatherBlockQuantized has them: rows without padding. */
  isEmbedding?: boolean;
}

/** Attributes that are integers. */
export function integers(values: Readonly<Record<string, number>>): NonNullable<Node["attributes"]> {
  return Object.fromEntries(Object.entries(values).map(([name, int]) => [name, { int }]));
}

/** The tensors of a quantized matrix, the attributes of its node, and what it is worth. `cols` is a multiple of `block`. */
export function blocks(
  name: string,
  [out, cols]: readonly [number, number],
  values: ArrayLike<number>,
  block: number,
  options: BlockOptions = {},
) {
  const { bits = 4, symmetric = false, scales = "f16", isEmbedding = false } = options;
  const q: Int4 = toInt4({ module: name, out, cols, values }, block, symmetric, bits);
  const kb = cols / block;
  const pack = (source: Uint8Array, perRow: number) => {
    if (bits === 8) return source.slice();
    const rowBytes = Math.ceil(perRow / 2);
    const packed = new Uint8Array(out * rowBytes);
    source.forEach((code, e) => {
      const [row, k] = [Math.floor(e / perRow), e % perRow];
      packed[row * rowBytes + (k >> 1)]! |= code << (4 * (k & 1));
    });
    return packed;
  };
  const perByte = 8 / bits;
  const shape = isEmbedding ? [out, cols / perByte] : [out, kb, block / perByte];
  const zeroBytes = pack(q.zeros, kb);
  const tensors: OnnxTensor[] = [
    { name: `${name}_Q${bits}`, type: "u8", shape, data: pack(q.codes, cols) },
    floats(`${name}_scales`, scales, [out, kb], q.scales),
    ...(symmetric
      ? []
      : [{ name: `${name}_zero_points`, type: "u8" as const, shape: [out, zeroBytes.length / out], data: zeroBytes }]),
  ];
  const attributes = integers(
    isEmbedding
      ? { bits, block_size: block, gather_axis: 0, quantize_axis: 1 }
      : { K: cols, N: out, bits, block_size: block, accuracy_level: 4 },
  );
  return { tensors, attributes, values: int4Values(q) };
}

/** A dense checkpoint in memory. */
interface ExportSource {
  config: Record<string, unknown>;
  tensors: { name: string; shape: number[]; data: ArrayLike<number> }[];
}

const LINEAR = /layers\.(\d+)\.(self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)\.weight$/;

/**
 * An export in three files as onnxruntime-genai names them: a text model with weights in a file of its own and, in every other layer, q, k and v
 * in one; an embedding; a vision tower whose graph carries its weights, some quantized, some turned round. No head: it is the embedding's.
 */
export function onnxExport({ tensors, config }: ExportSource, block = 32) {
  const values = new Map<string, Float32Array>();
  const parts = { text: builder(), embedding: builder(), vision: builder() };
  let index = 0;
  for (const tensor of tensors) {
    const { name, shape, data } = tensor;
    const short = name
      .replace("model.language_model.", "model.")
      .replace("model.visual.", "visual.")
      .replace("self_attn", "attn");
    const matrix = shape as [number, number];
    const layer = LINEAR.exec(name);
    const isFused = layer && Number(layer[1]) % 2 === 1 && /[qkv]_proj/.test(name);
    if (isFused) {
      if (!name.includes("q_proj")) continue;
      const stacked = ["q_proj", "k_proj", "v_proj"].map(
        (part) => tensors.find((t) => t.name === name.replace("q_proj", part))!,
      );
      const rows = stacked.reduce((sum, { shape: [out] }) => sum + out!, 0);
      const all = Float32Array.from(stacked.flatMap((t) => Array.from(t.data)));
      const whole = parts.text.quantized(short.replace("q_proj", "qkv_proj"), [rows, matrix[1]], all, {
        symmetric: true,
      });
      let at = 0;
      for (const part of stacked) {
        const n = part.data.length;
        values.set(part.name, whole.slice(at, at + n));
        at += n;
      }
    } else if (layer) values.set(name, parts.text.quantized(short, matrix, data, { symmetric: index++ % 2 === 0 }));
    else if (name.includes("embed_tokens")) {
      const q = blocks("language_model.embed_tokens.weight", matrix, data, block, {
        symmetric: true,
        scales: "f32",
        isEmbedding: true,
      });
      const [codes, scales] = q.tensors as [OnnxTensor, OnnxTensor];
      parts.embedding.add(
        {
          op: "GatherBlockQuantized",
          name: "/embed_tokens/Gather_Q4",
          inputs: [codes.name, "ids", scales.name],
          attributes: q.attributes,
          outputs: ["inputs_embeds"],
        },
        q.tensors,
      );
      values.set(name, q.values);
    } else if (
      name.startsWith("model.visual.") &&
      /attn\.proj\.weight$|blocks\.\d+\.mlp.*weight$/.test(name) &&
      matrix[1] % block === 0
    ) {
      const options = name.includes("fc1") ? ({ bits: 8, scales: "f32" } as const) : {};
      values.set(name, parts.vision.quantized(short, matrix, data, options));
    } else if (name.startsWith("model.visual.")) parts.vision.plain(short, shape, data, index++);
    else parts.text.plain(short, shape, data, 0);
  }
  const files: Record<string, Bytes | string> = { "config.json": JSON.stringify(config) };
  for (const [name, { nodes, tensors }] of Object.entries(parts)) {
    const location = name === "vision" ? undefined : `${name}.onnx.data`;
    const { model, data } = writeModel(nodes, tensors, location);
    files[`${name}.onnx`] = model;
    if (location) files[location] = data;
  }
  return { files, values };

  function builder() {
    const nodes: Node[] = [];
    const own: OnnxTensor[] = [];
    const add = (node: Node, more: readonly OnnxTensor[]) => {
      nodes.push(node);
      own.push(...more);
    };
    return {
      nodes,
      tensors: own,
      add,
      quantized(
        name: string,
        shape: readonly [number, number],
        data: ArrayLike<number>,
        options: BlockOptions,
      ): Float32Array {
        const module = name.replace(/\.weight$/, "");
        const q = blocks(`${module}.MatMul.weight`, shape, data, block, options);
        const path = `/${module.replaceAll(/\.(?!\d)/g, "/")}/MatMul_Q4`;
        add(
          {
            op: "MatMulNBits",
            name: path,
            inputs: ["x", ...q.tensors.map((t) => t.name)],
            outputs: [`${path}/output_0`],
            attributes: q.attributes,
          },
          q.tensors,
        );
        return q.values;
      },
      /** A vector; a matrix by Gemm, or by MatMul turned round under a name of the exporter's; patches by Conv; positions by Gather. */
      plain(name: string, shape: readonly number[], data: ArrayLike<number>, turn: number): void {
        const path = `/${name.replace(/\.(weight|bias)$/, "").replaceAll(/\.(?!\d)/g, "/")}`;
        const isTurned = turn % 2 === 1 && shape.length === 2 && !name.includes("pos_embed");
        const own = isTurned ? `onnx::MatMul_${turn}` : name;
        const tensor = floats(own, shape.length === 1 ? "f32" : "bf16", shape, data, isTurned);
        const op =
          shape.length === 1
            ? "Add"
            : shape.length > 2
              ? "Conv"
              : name.includes("pos_embed")
                ? "Gather"
                : isTurned
                  ? "MatMul"
                  : "Gemm";
        const inputs = op === "Gather" ? [own, "ids"] : ["x", own];
        const attributes = integers(op === "Gemm" ? { transB: 1 } : {});
        add({ op, name: `${path}/${op}`, inputs, outputs: [`${path}/${op}/output_0`], attributes }, [tensor]);
      },
    };
  }
}
