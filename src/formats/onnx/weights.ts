import { shown, TabTuneError } from "../../errors.ts";
import type { OnnxGraph, OnnxNode, OnnxTensor } from "./graph.ts";
import { moduleOfNode, moduleOfPath, type Parameter, parameterOfTensor } from "./names.ts";

/** A weight of numbers as they are; `isTurned` when the file has [in, out] for a matrix [out, in]. */
export interface DenseWeight {
  kind: "dense";
  tensor: OnnxTensor;
  isTurned: boolean;
}

/** A weight of codes in blocks along its columns: value = (code - zero) * scale of the block. */
export interface BlockWeight {
  kind: "blocks";
  codes: OnnxTensor;
  scales: OnnxTensor;
  zeros?: OnnxTensor;
  bits: number;
  block: number;
  /** As the node says it; of an embedding undefined. */
  shape?: readonly [rows: number, cols: number];
  /** Why it cannot be read. */
  fault?: string;
}

export type OnnxWeight = DenseWeight | BlockWeight;

/** What the graphs compute with, by the model's own names for it, and the rest of what looks like a weight. */
export interface FoundWeights {
  /** Fused ones under the names of their modules: `….self_attn.qkv_proj.weight`. */
  weights: Map<string, OnnxWeight>;
  /** "node: tensor" of matrices for which no module is known. */
  strange: string[];
}

/** The same matrix by two names: exporters call a tied one either. */
const TIED = ["lm_head", "model.language_model.embed_tokens"];
const FLOATS = ["F32", "F16", "BF16"];
const MOST_VIEWS = 8;

/**
 * Finds the model's weights through the graphs: a node that multiplies by a tensor says which way round it lies; the tensor's name, the
 * exporter's note of the scope or the node's name says whose it is. Names that disagree, and two tensors for one weight, are refused.
 */
export function findWeights(graphs: readonly OnnxGraph[]): FoundWeights {
  const weights = new Map<string, OnnxWeight>();
  const strange: string[] = [];
  for (const graph of graphs) {
    const views = new Views(graph);
    const put = ({ module, role }: Parameter, weight: OnnxWeight) => {
      const name = `${module}.${role}`;
      const known = weights.get(name);
      if (known && !isSame(known, weight)) {
        throw bad(
          `${name} is there twice, as ${tensorName(known)} and as ${tensorName(weight)}. Keep the files of one export only.`,
        );
      }
      weights.set(name, weight);
    };
    for (const node of graph.nodes) {
      const weight = weightOf(node, views);
      if (weight) {
        const module = moduleOf(graph, node, weight);
        if (module) put({ module, role: "weight" }, weight);
        else if (node.op !== "Gather") strange.push(`${node.name || node.op}: ${tensorName(weight)}`);
      }
      // Vectors keep the names of their parameters, whatever becomes of the node.
      for (const input of node.inputs) {
        const tensor = views.tensors.get(input);
        const parameter = tensor?.shape.length === 1 ? parameterOfTensor(input) : undefined;
        if (parameter && FLOATS.includes(tensor!.dtype))
          put(parameter, { kind: "dense", tensor: tensor!, isTurned: false });
      }
    }
  }
  return { weights, strange };
}

/** What stands between a tensor and the node that uses it, where it changes no value. */
class Views {
  readonly tensors: ReadonlyMap<string, OnnxTensor>;
  readonly #producers: ReadonlyMap<string, OnnxNode>;

  constructor({ tensors, nodes }: OnnxGraph) {
    this.tensors = tensors;
    this.#producers = new Map(nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
  }

  /** The tensor behind a name, and whether it is seen turned; undefined for what is computed. */
  find(name: string | undefined): { tensor: OnnxTensor; isTurned: boolean } | undefined {
    let isTurned = false;
    for (let i = 0; name && i < MOST_VIEWS; i++) {
      const tensor = this.tensors.get(name);
      if (tensor) return { tensor, isTurned };
      const node = this.#producers.get(name);
      if (!node) return undefined;
      if (node.op === "Transpose" && (node.attributes.get("perm") ?? [1, 0]).join() === "1,0") isTurned = !isTurned;
      else if (!["Identity", "Cast", "Reshape"].includes(node.op)) return undefined;
      // A reshaped float matrix may be any; of codes it only says how many bytes a row has.
      else if (node.op === "Reshape" && FLOATS.includes(this.tensors.get(node.inputs[0] ?? "")?.dtype ?? "F32"))
        return undefined;
      name = node.inputs[0];
    }
    return undefined;
  }
}

/** The matrix that a node multiplies by or looks rows up in, [out, in]; undefined where it has none. */
function weightOf({ op, inputs, attributes }: OnnxNode, views: Views): OnnxWeight | undefined {
  const number = (name: string, standard: number) => attributes.get(name)?.[0] ?? standard;
  const dense = (input: number, isTurned: boolean): OnnxWeight | undefined => {
    const view = views.find(inputs[input]);
    if (!view || view.tensor.shape.length < 2 || !FLOATS.includes(view.tensor.dtype)) return undefined;
    return { kind: "dense", tensor: view.tensor, isTurned: isTurned !== view.isTurned };
  };
  const blocks = (at: number, scalesAt: number): BlockWeight | undefined => {
    const [codes, scales, zeros] = [at, scalesAt, scalesAt + 1].map((i) => views.find(inputs[i])?.tensor);
    if (!codes || !scales) return undefined;
    const [bits, block] = [number("bits", 4), number("block_size", 0)];
    return { kind: "blocks", codes, scales, ...(zeros ? { zeros } : {}), bits, block };
  };
  switch (op) {
    case "MatMul":
      return dense(1, true);
    case "Gemm": {
      const isPlain = number("alpha", 1) === 1 && number("beta", 1) === 1 && number("transA", 0) === 0;
      return isPlain ? dense(1, number("transB", 0) === 0) : undefined;
    }
    case "Conv":
      return dense(1, false);
    case "Gather":
      return number("axis", 0) === 0 ? dense(0, false) : undefined;
    case "MatMulNBits": {
      const found = blocks(1, 2);
      if (!found) return undefined;
      const isPrepacked = number("weight_prepacked", 0) !== 0;
      const fault = inputs[4]
        ? "columns in another order (g_idx)"
        : isPrepacked
          ? "an order made for one kind of GPU"
          : undefined;
      return { ...found, shape: [number("N", 0), number("K", 0)], ...(fault ? { fault } : {}) };
    }
    case "GatherBlockQuantized": {
      const found = blocks(0, 2);
      const isByRow = number("gather_axis", 0) === 0 && number("quantize_axis", 1) === 1;
      return found && !isByRow ? { ...found, fault: "another axis" } : found;
    }
    default:
      return undefined;
  }
}

function moduleOf({ path }: OnnxGraph, node: OnnxNode, weight: OnnxWeight): string | undefined {
  const own = parameterOfTensor(tensorName(weight));
  const names = [own?.role === "weight" ? own.module : undefined, moduleOfPath(node.scope), moduleOfNode(node.name)];
  const [module, other] = new Set(names.filter((name) => name !== undefined));
  if (other !== undefined && !(TIED.includes(module!) && TIED.includes(other))) {
    throw bad(
      `${path}: node ${shown(node.name)} with tensor ${shown(tensorName(weight))} may be ${module} or ${other}: its names disagree.`,
    );
  }
  return module;
}

const tensorName = (weight: OnnxWeight) => (weight.kind === "dense" ? weight.tensor : weight.codes).name;

function isSame(a: OnnxWeight, b: OnnxWeight): boolean {
  if (a.kind === "dense") return b.kind === "dense" && a.tensor === b.tensor && a.isTurned === b.isTurned;
  return b.kind === "blocks" && a.codes === b.codes && a.scales === b.scales && a.zeros === b.zeros;
}

function bad(message: string): TabTuneError {
  return new TabTuneError("BadCheckpoint", message);
}
