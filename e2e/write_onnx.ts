// Writers of ONNX files: protobuf by hand, after onnx.proto, and MatMulNBits after checkpoint-formats.md §6. What a weight is worth is computed
// by write_formats.ts, not by the readers under test.
import { f32ToBf16, f32ToF16 } from "../src/formats/dtype.ts";
import { type Int4, int4Values, toInt4 } from "./write_formats.ts";

type Bytes = Uint8Array<ArrayBuffer>;

function joined(parts: readonly Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => {
    whole.set(part, at);
    return at + part.length;
  }, 0);
  return whole;
}

function varint(value: number): Bytes {
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    if (rest <= 0x7fn) return Uint8Array.from(bytes);
  }
}

export const number = (field: number, value: number) => joined([varint(field * 8), varint(value)]);
export const message = (field: number, ...parts: readonly (Uint8Array | string)[]) => {
  const payload = joined(parts.map((part) => (typeof part === "string" ? new TextEncoder().encode(part) : part)));
  return joined([varint(field * 8 + 2), varint(payload.length), payload]);
};

const TYPES = { F32: 1, U8: 2, F16: 10, BF16: 16, U4: 21, I4: 22 } as const;

export interface WrittenTensor {
  name: string;
  dtype: keyof typeof TYPES;
  shape: readonly number[];
  bytes: Uint8Array;
}

export interface WrittenNode {
  op: string;
  name?: string;
  inputs: readonly string[];
  outputs?: readonly string[];
  attributes?: Readonly<Record<string, number | readonly number[]>>;
  /** Path of the module, as PyTorch's newer exporter notes it. */
  scope?: string;
  /** Fields of its own, such as an attribute with a subgraph. */
  more?: readonly Uint8Array[];
}

export function writeTensor(
  field: number,
  { name, dtype, shape, bytes }: WrittenTensor,
  place?: { location: string; offset: number },
): Bytes {
  const entry = (key: string, value: string | number) => message(13, message(1, key), message(2, String(value)));
  const data = place
    ? [entry("location", place.location), entry("offset", place.offset), entry("length", bytes.length), number(14, 1)]
    : [message(9, bytes)];
  return message(field, ...shape.map((n) => number(1, n)), number(2, TYPES[dtype]), message(8, name), ...data);
}

export function writeNode(field: number, node: WrittenNode): Bytes {
  const { op, name = "", inputs, outputs = [`${name}/output_0`], attributes = {}, scope, more = [] } = node;
  return message(
    field,
    ...inputs.map((input) => message(1, input)),
    ...outputs.map((output) => message(2, output)),
    message(3, name),
    message(4, op),
    ...Object.entries(attributes).map(([key, value]) =>
      typeof value === "number"
        ? message(5, message(1, key), number(3, value))
        : message(5, message(1, key), ...value.map((n) => number(8, n))),
    ),
    ...(scope === undefined
      ? []
      : [message(9, message(1, "pkg.torch.onnx.name_scopes"), message(2, `['', '${scope}', 'linear']`))]),
    ...more,
  );
}

/** A model file, with its tensors in a file of their own where `location` names one. */
export function writeModel(
  nodes: readonly WrittenNode[],
  tensors: readonly WrittenTensor[],
  location?: string,
): { model: Bytes; data: Bytes } {
  let offset = 0;
  const written = tensors.map((tensor) => {
    const place = location ? { location, offset } : undefined;
    offset += tensor.bytes.length;
    return writeTensor(5, tensor, place);
  });
  const graph = message(7, ...nodes.map((node) => writeNode(1, node)), ...written);
  return { model: joined([number(1, 10), graph]), data: joined(tensors.map(({ bytes }) => bytes)) };
}

const bytesOf = (data: { buffer: ArrayBufferLike; byteOffset: number; byteLength: number }) =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** Numbers as a tensor; [out, in] is turned round where `turn` says so. */
export function floats(
  name: string,
  dtype: "F32" | "F16" | "BF16",
  shape: readonly number[],
  data: ArrayLike<number>,
  turn = false,
): WrittenTensor {
  const [out, cols] = shape as [number, number];
  const values = turn
    ? Float32Array.from(data, (_, i) => data[(i % out) * cols + Math.floor(i / out)]!)
    : Float32Array.from(data);
  const bytes =
    dtype === "F32" ? bytesOf(values) : bytesOf(Uint16Array.from(values, dtype === "F16" ? f32ToF16 : f32ToBf16));
  return { name, dtype, shape: turn ? [cols, out] : shape, bytes };
}

interface BlockOptions {
  bits?: 4 | 8;
  symmetric?: boolean;
  scales?: "F16" | "F32";
  /** As GatherBlockQuantized has them: rows without padding. */
  isEmbedding?: boolean;
}

/** The tensors of a quantized matrix, the attributes of its node, and what it is worth. `cols` is a multiple of `block`. */
export function blocks(
  name: string,
  [out, cols]: readonly [number, number],
  values: ArrayLike<number>,
  block: number,
  options: BlockOptions = {},
) {
  const { bits = 4, symmetric = false, scales = "F16", isEmbedding = false } = options;
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
  const tensors: WrittenTensor[] = [
    { name: `${name}_Q${bits}`, dtype: "U8", shape, bytes: pack(q.codes, cols) },
    floats(`${name}_scales`, scales, [out, kb], q.scales),
    ...(symmetric
      ? []
      : [
          { name: `${name}_zero_points`, dtype: "U8" as const, shape: [out, zeroBytes.length / out], bytes: zeroBytes },
        ]),
  ];
  const attributes: Record<string, number> = isEmbedding
    ? { bits, block_size: block, gather_axis: 0, quantize_axis: 1 }
    : { K: cols, N: out, bits, block_size: block, accuracy_level: 4 };
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
        scales: "F32",
        isEmbedding: true,
      });
      const [codes, scales] = q.tensors as [WrittenTensor, WrittenTensor];
      parts.embedding.add(
        {
          op: "GatherBlockQuantized",
          name: "/embed_tokens/Gather_Q4",
          inputs: [codes.name, "ids", scales.name],
          attributes: q.attributes,
        },
        q.tensors,
      );
      values.set(name, q.values);
    } else if (
      name.startsWith("model.visual.") &&
      /attn\.proj\.weight$|blocks\.\d+\.mlp.*weight$/.test(name) &&
      matrix[1] % block === 0
    ) {
      const options = name.includes("fc1") ? ({ bits: 8, scales: "F32" } as const) : {};
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
    const nodes: WrittenNode[] = [];
    const own: WrittenTensor[] = [];
    const add = (node: WrittenNode, more: readonly WrittenTensor[]) => {
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
          { op: "MatMulNBits", name: path, inputs: ["x", ...q.tensors.map((t) => t.name)], attributes: q.attributes },
          q.tensors,
        );
        return q.values;
      },
      /** A vector; a matrix by Gemm, or by MatMul turned round under a name of the exporter's; patches by Conv; positions by Gather. */
      plain(name: string, shape: readonly number[], data: ArrayLike<number>, turn: number): void {
        const path = `/${name.replace(/\.(weight|bias)$/, "").replaceAll(/\.(?!\d)/g, "/")}`;
        const isTurned = turn % 2 === 1 && shape.length === 2 && !name.includes("pos_embed");
        const own = isTurned ? `onnx::MatMul_${turn}` : name;
        const tensor = floats(own, shape.length === 1 ? "F32" : "BF16", shape, data, isTurned);
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
        add({ op, name: `${path}/${op}`, inputs, ...(op === "Gemm" ? { attributes: { transB: 1 } } : {}) }, [tensor]);
      },
    };
  }
}
