import { shown, TabTuneError } from "../../errors.ts";
import type { TensorInfo } from "../checkpoint.ts";
import type { FileSet } from "../file_set.ts";
import { BYTES, FIXED32, type Field, type Message, ProtoFile } from "./wire.ts";

/** A tensor that a graph carries, under the graph's own name. `dtype` is the word of safetensors, or U4 and I4. */
export interface OnnxTensor extends TensorInfo {
  /** Why its values cannot be read: said when somebody wants them. */
  fault?: string;
}

export interface OnnxNode {
  name: string;
  op: string;
  /** As the file has them; "" is an optional input that is not there. */
  inputs: readonly string[];
  outputs: readonly string[];
  /** Attributes that are numbers or lists of integers. */
  attributes: ReadonlyMap<string, readonly number[]>;
  /** The module that PyTorch's newer exporter says the node comes from; empty without. */
  scope: string;
}

/** What a model file says, its subgraphs included. */
export interface OnnxGraph {
  path: string;
  nodes: OnnxNode[];
  tensors: Map<string, OnnxTensor>;
}

const DTYPES: Readonly<Record<number, readonly [dtype: string, bits: number]>> = {
  1: ["F32", 32],
  2: ["U8", 8],
  3: ["I8", 8],
  6: ["I32", 32],
  7: ["I64", 64],
  9: ["BOOL", 8],
  10: ["F16", 16],
  16: ["BF16", 16],
  21: ["U4", 4],
  22: ["I4", 4],
};

const MAX_ENTRIES = 200_000;
const MAX_NODE_BYTES = 64 << 20;
const MAX_DIMS = 16;
/** `If` inside `Loop` inside `If`: real graphs have one or two levels. */
const MAX_DEPTH = 8;

/**
 * Reads the nodes and the directory of tensors of one ONNX file. Weights inside it are passed over, so that a file of gigabytes costs
 * little more than its graph. Throws `BadCheckpoint`.
 */
export async function readOnnxGraph(files: FileSet, path: string, signal?: AbortSignal): Promise<OnnxGraph> {
  const file = await ProtoFile.open(files, path, signal);
  const reader = new GraphReader(path);
  let found = false;
  for await (const { field, wire, at, end } of file.fields(0, file.size)) {
    if (field !== 7 || wire !== BYTES) continue;
    found = true;
    for await (const entry of file.fields(at, end)) {
      if (entry.wire !== BYTES) continue;
      if (entry.field === 1) {
        if (entry.end - entry.at > MAX_NODE_BYTES)
          throw bad(path, `node ${reader.graph.nodes.length} is longer than ${MAX_NODE_BYTES} bytes.`);
        reader.node(await file.bytes(entry.at, entry.end), entry, 0);
      } else if (entry.field === 5) {
        const tensor = new TensorReader(path);
        for await (const part of file.fields(entry.at, entry.end)) {
          tensor.take(part, TensorReader.isShort(part) ? await file.bytes(part.at, part.end) : undefined);
        }
        reader.tensor(tensor.done(), 0);
      }
    }
  }
  if (!found)
    throw bad(path, "expected an ONNX model with a graph, found none. Is it a Git LFS pointer? Download it again.");
  return reader.graph;
}

class GraphReader {
  readonly graph: OnnxGraph;

  constructor(path: string) {
    this.graph = { path, nodes: [], tensors: new Map() };
  }

  #count(): void {
    const { path, nodes, tensors } = this.graph;
    if (nodes.length + tensors.size > MAX_ENTRIES)
      throw bad(path, `expected at most ${MAX_ENTRIES} nodes and tensors, found more.`);
  }

  /** Names of subgraphs may hide outer ones; no exporter does that with a weight, and the outer one is kept. */
  tensor(tensor: OnnxTensor, depth: number): void {
    const { path, tensors } = this.graph;
    const isKnown = tensors.has(tensor.name);
    if (isKnown && depth === 0) throw bad(path, `tensor ${shown(tensor.name)} is there twice. The file is damaged.`);
    if (!isKnown) tensors.set(tensor.name, tensor);
    this.#count();
  }

  node(message: Message, { at, end }: Field, depth: number): void {
    const node = { name: "", op: "", inputs: [] as string[], outputs: [] as string[], scope: "" };
    const attributes = new Map<string, readonly number[]>();
    let constant: OnnxTensor | undefined;
    for (const part of message.fields(at, end)) {
      if (part.wire !== BYTES) continue;
      if (part.field === 1) node.inputs.push(message.text(part));
      else if (part.field === 2) node.outputs.push(message.text(part));
      else if (part.field === 3) node.name = message.text(part);
      else if (part.field === 4) node.op = message.text(part);
      else if (part.field === 5) constant = this.#attribute(message, part, attributes, depth) ?? constant;
      else if (part.field === 9) node.scope = scopeOf(message, part) ?? node.scope;
    }
    if (node.op === "Constant" && constant && node.outputs[0]) this.tensor({ ...constant, name: node.outputs[0] }, 1);
    else this.graph.nodes.push({ ...node, attributes });
    this.#count();
  }

  /** Keeps a number or a list of integers, reads a subgraph, and returns a tensor. */
  #attribute(message: Message, { at, end }: Field, into: Map<string, readonly number[]>, depth: number) {
    let name = "";
    let tensor: OnnxTensor | undefined;
    const numbers: number[] = [];
    for (const part of message.fields(at, end)) {
      if (part.field === 1) name = message.text(part);
      else if (part.field === 2 && part.wire === FIXED32) numbers.push(message.f32(part));
      else if (part.field === 3 || part.field === 8) for (const n of message.integers(part)) numbers.push(n);
      else if (part.field === 5 && part.wire === BYTES) tensor = tensorOf(this.graph.path, message, part);
      else if ((part.field === 6 || part.field === 11) && part.wire === BYTES) this.#subgraph(message, part, depth + 1);
    }
    into.set(name, numbers);
    return tensor;
  }

  #subgraph(message: Message, { at, end }: Field, depth: number): void {
    const { path } = this.graph;
    if (depth > MAX_DEPTH) throw bad(path, `expected graphs inside of graphs at most ${MAX_DEPTH} deep, found more.`);
    for (const part of message.fields(at, end)) {
      if (part.wire !== BYTES) continue;
      if (part.field === 1) this.node(message, part, depth);
      else if (part.field === 5) this.tensor(tensorOf(path, message, part), depth);
    }
  }
}

/** Of "['', 'model', 'model.layers.0.mlp', 'linear_3']" the module, which is the last but one. */
function scopeOf(message: Message, { at, end }: Field): string | undefined {
  const [key, value] = entryOf(message, at, end);
  if (key !== "pkg.torch.onnx.name_scopes") return undefined;
  return /'([^']*)', '[^']*'\]$/.exec(value)?.[1];
}

function entryOf(message: Message, at: number, end: number): [key: string, value: string] {
  let [key, value] = ["", ""];
  for (const part of message.fields(at, end)) {
    if (part.field === 1) key = message.text(part);
    // Stack traces lie here too.
    else if (part.field === 2 && part.end - part.at < 4096) value = message.text(part);
  }
  return [key, value];
}

function tensorOf(path: string, message: Message, { at, end }: Field): OnnxTensor {
  const tensor = new TensorReader(path);
  for (const part of message.fields(at, end)) tensor.take(part, message);
  return tensor.done();
}

/** Collects the fields of a TensorProto, whose data may be left where it is. */
class TensorReader {
  #path: string;
  #name = "";
  #type = 0;
  #dims: number[] = [];
  #raw: { at: number; end: number } | undefined;
  #isTyped = false;
  #external = new Map<string, string>();

  constructor(path: string) {
    this.#path = path;
  }

  static isShort({ field, wire }: Field): boolean {
    return wire === BYTES && [1, 8, 13].includes(field);
  }

  take(part: Field, message?: Message): void {
    const { field, wire, at, end, value } = part;
    if (field === 1) {
      for (const n of wire === BYTES ? message!.integers(part) : [value]) this.#dims.push(n);
      if (this.#dims.length > MAX_DIMS) throw bad(this.#path, `a tensor has more than ${MAX_DIMS} dimensions.`);
    } else if (field === 2) this.#type = value;
    else if (field === 8 && wire === BYTES) this.#name = message!.text(part);
    // Packed floats lie as raw data does.
    else if (wire === BYTES && (field === 9 || (field === 4 && !this.#raw && !this.#isTyped))) this.#raw = { at, end };
    else if ([4, 5, 6, 7, 10, 11].includes(field)) this.#isTyped = true;
    else if (field === 13 && wire === BYTES) {
      const [key, text] = entryOf(message!, at, end);
      this.#external.set(key, text);
    }
  }

  done(): OnnxTensor {
    const [dtype, bits] = DTYPES[this.#type] ?? [`ONNX type ${this.#type}`, 0];
    const shape = this.#dims;
    const bytes = Math.ceil((shape.reduce((product, n) => product * n, 1) * bits) / 8);
    const tensor = { name: this.#name, dtype, shape, file: this.#path, offset: 0, bytes };
    if (bits === 0 || shape.some((n) => n < 0) || !Number.isSafeInteger(bytes)) {
      return { ...tensor, fault: `expected numbers of a known type and shape, found ${dtype}` };
    }
    if (this.#external.size > 0) return { ...tensor, ...this.#place(bytes) };
    const found = this.#raw ? this.#raw.end - this.#raw.at : 0;
    if (found === bytes && !this.#isTyped) return { ...tensor, offset: this.#raw?.at ?? 0 };
    const how = this.#isTyped ? "a list of numbers; save the model again with raw data" : `${found} bytes`;
    return { ...tensor, fault: `expected ${bytes} bytes of data, found ${how}` };
  }

  #place(bytes: number): { file: string; offset: number; fault?: string } {
    const { file, offset, length } = {
      file: this.#external.get("location") ?? "",
      offset: Number(this.#external.get("offset") ?? 0),
      length: Number(this.#external.get("length") ?? bytes),
    };
    // The name comes from a file of a stranger: nothing that leads out of the folder.
    const isSafe = file !== "" && !/\\|:|^\/|[?#]/.test(file) && !file.split("/").includes("..");
    const folder = this.#path.slice(0, this.#path.lastIndexOf("/") + 1);
    const place = { file: folder + file.replace(/^(\.\/)+/, ""), offset };
    if (isSafe && Number.isSafeInteger(offset) && offset >= 0 && length === bytes) return place;
    return { ...place, fault: `expected ${bytes} bytes in a file beside it, found ${length} in ${shown(file)}` };
  }
}

function bad(path: string, message: string): TabTuneError {
  return new TabTuneError("BadCheckpoint", `${path}: ${message}`);
}
