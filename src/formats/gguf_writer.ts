import { TabTuneError } from "../errors.ts";

/** A metadata value with the type it is written as. */
export type GgufValue = { type: "string"; value: string } | { type: "u32" | "f32"; value: number };

export interface GgufTensor {
  name: string;
  /** In PyTorch's order, slowest first; the file has them the other way round. */
  shape: readonly number[];
  values: Float32Array;
}

const TYPE_IDS = { u32: 4, f32: 6, string: 8 } as const;
const F32 = 0;
const ALIGNMENT = 32;
/** The reference reader keeps names in 64 bytes, the last of them zero. */
const MAX_NAME = 63;

/** A GGUF file, version 3, of f32 tensors in the order given. Layout: checkpoint-formats.md §4.1. */
export function writeGguf(
  metadata: readonly [key: string, value: GgufValue][],
  tensors: readonly GgufTensor[],
): Uint8Array<ArrayBuffer> {
  const head = new Bytes();
  head.raw(new TextEncoder().encode("GGUF"));
  head.u32(3);
  head.u64(tensors.length);
  head.u64(metadata.length);
  for (const [key, { type, value }] of metadata) {
    head.text(key);
    head.u32(TYPE_IDS[type]);
    if (type === "string") head.text(value);
    else if (type === "u32") head.u32(value);
    else head.f32(value);
  }
  const offsets: number[] = [];
  let data = 0;
  for (const { name, shape, values } of tensors) {
    if (new TextEncoder().encode(name).length > MAX_NAME) {
      throw new TabTuneError("Internal", `${name}: a GGUF tensor's name may have at most ${MAX_NAME} bytes.`);
    }
    head.text(name);
    head.u32(shape.length);
    for (const n of [...shape].reverse()) head.u64(n);
    head.u32(F32);
    head.u64(data);
    offsets.push(data);
    data += align(values.byteLength);
  }
  const start = align(head.length);
  const file = new Uint8Array(start + data);
  file.set(head.bytes());
  tensors.forEach(({ values }, i) => {
    // Typed arrays are little-endian on every machine that runs WebGPU.
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), start + offsets[i]!);
  });
  return file;
}

const align = (n: number) => Math.ceil(n / ALIGNMENT) * ALIGNMENT;

/** Little-endian values one after another. */
class Bytes {
  #parts: Uint8Array[] = [];
  length = 0;

  raw(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.length += bytes.length;
  }

  #number(bytes: number, write: (view: DataView) => void): void {
    const view = new DataView(new ArrayBuffer(bytes));
    write(view);
    this.raw(new Uint8Array(view.buffer));
  }

  u32(value: number): void {
    this.#number(4, (view) => view.setUint32(0, value, true));
  }

  f32(value: number): void {
    this.#number(4, (view) => view.setFloat32(0, value, true));
  }

  u64(value: number): void {
    this.#number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  bytes(): Uint8Array {
    const out = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.#parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }
}
