// GGUF files, byte by byte.
import { TYPES, type TypeName } from "./gguf_quantize.ts";

type Scalar = string | number | boolean;
/** A metadata value with GGUF's word for its type; an array gives the type of its elements. */
export type MetaValue = [type: keyof typeof VALUE_TYPES, value: Scalar] | ["array", keyof typeof VALUE_TYPES, Scalar[]];

const VALUE_TYPES = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  u64: 10,
  i64: 11,
  f64: 12,
};

/** A tensor as a file's head names it. */
export interface TensorEntry {
  name: string;
  /** PyTorch's order. */
  shape: readonly number[];
  type: TypeName;
}

export interface FileTensor extends TensorEntry {
  bytes: Uint8Array;
}

/** Where tensors begin, unless a file says otherwise. */
export const ALIGNMENT = 32;

/** Bytes of a tensor's blocks. */
export function bytesOfType({ shape, type }: TensorEntry): number {
  const [, block, bytes] = TYPES[type];
  return (shape.reduce((product, n) => product * n, 1) / block) * bytes;
}

/** What stands before the tensors of a file; they follow in this order, each padded to the alignment. */
export function ggufHead(
  metadata: Record<string, MetaValue>,
  tensors: readonly (TensorEntry & { bytes?: Uint8Array })[],
  { alignment = ALIGNMENT, version = 3 } = {},
): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  let length = 0;
  const raw = (bytes: Uint8Array) => {
    parts.push(bytes);
    length += bytes.length;
  };
  const number = (type: number, value: number) => {
    const view = new DataView(new ArrayBuffer(8));
    const sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
    if (type === 6) view.setFloat32(0, value, true);
    else if (type === 12) view.setFloat64(0, value, true);
    else view.setBigInt64(0, BigInt(value), true);
    raw(new Uint8Array(view.buffer, 0, sizes[type]));
  };
  const text = (value: string) => {
    const bytes = new TextEncoder().encode(value);
    number(10, bytes.length);
    raw(bytes);
  };
  const scalar = (type: number, value: Scalar) => (type === 8 ? text(String(value)) : number(type, Number(value)));
  raw(new TextEncoder().encode("GGUF"));
  number(4, version);
  number(10, tensors.length);
  number(10, Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    text(key);
    if (value[0] === "array") {
      number(4, 9);
      number(4, VALUE_TYPES[value[1]]);
      number(10, value[2].length);
      for (const item of value[2]) scalar(VALUE_TYPES[value[1]], item);
    } else {
      number(4, VALUE_TYPES[value[0]]);
      scalar(VALUE_TYPES[value[0]], value[1]);
    }
  }
  let offset = 0;
  for (const tensor of tensors) {
    const { name, shape, type, bytes } = tensor;
    text(name);
    number(4, shape.length);
    for (const n of [...shape].reverse()) number(10, n);
    number(4, TYPES[type][0]);
    number(10, offset);
    offset += padded(bytes?.length ?? bytesOfType(tensor), alignment);
  }
  raw(new Uint8Array(padded(length, alignment) - length));
  const head = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    head.set(part, at);
    at += part.length;
  }
  return head;
}

const padded = (n: number, alignment: number) => Math.ceil(n / alignment) * alignment;

/** A whole file. */
export function ggufFile(
  metadata: Record<string, MetaValue>,
  tensors: readonly FileTensor[],
  { alignment = ALIGNMENT, version = 3 } = {},
): Uint8Array<ArrayBuffer> {
  const head = ggufHead(metadata, tensors, { alignment, version });
  let at = head.length;
  const file = new Uint8Array(tensors.reduce((end, { bytes }) => end + padded(bytes.length, alignment), at));
  file.set(head);
  for (const { bytes } of tensors) {
    file.set(bytes, at);
    at += padded(bytes.length, alignment);
  }
  return file;
}
