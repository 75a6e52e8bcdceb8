// Writes ONNX models: as much of onnx.proto3 as a graph of operators with weights in a file beside it needs.

/** TensorProto.DataType */
export const TYPES = { f32: 1, u8: 2, i32: 6, i64: 7, f16: 10, bf16: 16 } as const;
export type Type = keyof typeof TYPES;

export interface ValueInfo {
  name: string;
  type: Type;
  /** A string names a size that is known when the model is run. */
  shape: (number | string)[];
}

export interface Initializer {
  name: string;
  type: Type;
  shape: number[];
  /** The values themselves, or where they lie in a file beside the model. */
  data: Uint8Array | { file: string; offset: number; bytes: number };
}

type Attribute = { int: number } | { float: number } | { ints: number[] } | { tensor: Initializer } | { nodes: Node[] };

export interface Node {
  op: string;
  /** That of its first output where none is given. */
  name?: string;
  /** Path of the module that it comes from, as PyTorch's newer exporter notes it. */
  scope?: string;
  /** "com.microsoft" for what onnxruntime adds; ONNX's own operators otherwise. */
  domain?: string;
  inputs: string[];
  outputs: string[];
  /** `int` and `float` tell integers from numbers that happen to be whole. */
  attributes?: Record<string, Attribute>;
}

export interface Graph {
  nodes: Node[];
  initializers: Initializer[];
  inputs: ValueInfo[];
  outputs: ValueInfo[];
}

const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;

/** One message of protocol buffers. Fields are written in the order of the calls. */
export class Message {
  #parts: Uint8Array[] = [];

  get bytes(): Uint8Array {
    const all = new Uint8Array(this.#parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  #varint(value: bigint): void {
    const bytes: number[] = [];
    // Negative numbers are written as the 64 bits of their complement.
    let rest = BigInt.asUintN(64, value);
    do {
      bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
      rest >>= 7n;
    } while (rest > 0n);
    this.#parts.push(Uint8Array.from(bytes));
  }

  #tag(field: number, wire: number): void {
    this.#varint(BigInt(field * 8 + wire));
  }

  int(field: number, value: number): this {
    this.#tag(field, VARINT);
    this.#varint(BigInt(value));
    return this;
  }

  float(field: number, value: number): this {
    this.#tag(field, FIXED32);
    this.#parts.push(new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }

  add(field: number, value: string | Uint8Array | Message): this {
    const bytes =
      typeof value === "string" ? new TextEncoder().encode(value) : value instanceof Message ? value.bytes : value;
    this.#tag(field, BYTES);
    this.#varint(BigInt(bytes.length));
    this.#parts.push(bytes);
    return this;
  }

  each<T>(items: readonly T[], write: (message: this, item: T) => void): this {
    for (const item of items) write(this, item);
    return this;
  }
}

function attribute(name: string, value: Attribute): Message {
  const message = new Message().add(1, name);
  if ("float" in value) return message.float(2, value.float).int(20, 1);
  if ("int" in value) return message.int(3, value.int).int(20, 2);
  if ("tensor" in value) return message.add(5, tensor(value.tensor)).int(20, 4);
  if ("nodes" in value)
    return message
      .add(
        6,
        new Message().each(value.nodes, (m, item) => m.add(1, node(item))),
      )
      .int(20, 5);
  return message.each(value.ints, (m, v) => m.int(8, v)).int(20, 7);
}

function node({ op, name, scope, domain = "", inputs, outputs, attributes = {} }: Node): Message {
  const message = new Message()
    .each(inputs, (m, name) => m.add(1, name))
    .each(outputs, (m, name) => m.add(2, name))
    .add(3, name ?? outputs[0]!)
    .add(4, op)
    .each(Object.entries(attributes), (m, [name, value]) => m.add(5, attribute(name, value)))
    .add(7, domain);
  const key = "pkg.torch.onnx.name_scopes";
  return scope === undefined ? message : message.add(9, new Message().add(1, key).add(2, `['', '${scope}', 'linear']`));
}

function tensor({ name, type, shape, data }: Initializer): Message {
  const message = new Message()
    .each(shape, (m, size) => m.int(1, size))
    .int(2, TYPES[type])
    .add(8, name);
  if (data instanceof Uint8Array) return message.add(9, data);
  const entries = { location: data.file, offset: data.offset, length: data.bytes };
  return message
    .each(Object.entries(entries), (m, [key, value]) => m.add(13, new Message().add(1, key).add(2, String(value))))
    .int(14, 1);
}

function valueInfo({ name, type, shape }: ValueInfo): Message {
  const dims = new Message().each(shape, (m, size) =>
    m.add(1, typeof size === "string" ? new Message().add(2, size) : new Message().int(1, size)),
  );
  return new Message().add(1, name).add(2, new Message().add(1, new Message().int(1, TYPES[type]).add(2, dims)));
}

/** The bytes of a model file. */
export function writeOnnx({ nodes, initializers, inputs, outputs }: Graph): Uint8Array {
  const graph = new Message()
    .each(nodes, (m, item) => m.add(1, node(item)))
    .add(2, "graph")
    .each(initializers, (m, item) => m.add(5, tensor(item)))
    .each(inputs, (m, item) => m.add(11, valueInfo(item)))
    .each(outputs, (m, item) => m.add(12, valueInfo(item)));
  return new Message()
    .int(1, 10)
    .add(2, "tabtune")
    .add(7, graph)
    .add(8, new Message().add(1, "").int(2, 21))
    .add(8, new Message().add(1, "com.microsoft").int(2, 1)).bytes;
}
