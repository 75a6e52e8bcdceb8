import { TabTuneError } from "../../errors.ts";
import type { Gpu, Slice } from "../../gpu/index.ts";
import { handoverBytes, type MatmulPair } from "../../kernels/index.ts";
import type { Qwen3VLConfig } from "./config.ts";
import { type LoraPairs, type LoraScratch, loraPartialBytes } from "./linear.ts";
import { type LoraModule, loraModules } from "./lora_modules.ts";
import type { LoraTensor } from "./trainable.ts";
import type { GpuWeights } from "./weights.ts";

/** Which layer is adapted, with what rank and scale (alpha / r, or alpha / √r). */
export interface AdaptedModule {
  /** As the checkpoint names it, without ".weight". */
  path: string;
  r: number;
  scale: number;
}

/** Where the pairs of one matrix lie in their buffer. */
interface Site {
  slot: string;
  cols: number;
  r: number;
  pairs: MatmulPair[];
  /** Elements of the buffer. */
  count: number;
}

/** Tensors start at multiples of 64 elements, so that any of them can be bound. */
const align = (elements: number) => Math.ceil(elements / 64) * 64;

/** Which buffers an adapter takes and where its tensors lie. Throws `BadInput` for a layer that the model does not have. */
function layout(config: Qwen3VLConfig, adapted: readonly AdaptedModule[]): { sites: Site[]; tensors: LoraTensor[] } {
  const all = { languageAttention: true, languageMlp: true, visionAttention: true, visionMlp: true, mergers: true };
  const modules = new Map(loraModules(config, all).map((module) => [module.path, module]));
  const bySlot = new Map<string, (AdaptedModule & LoraModule)[]>();
  for (const wanted of adapted) {
    const module = modules.get(wanted.path);
    if (!module) {
      throw new TabTuneError(
        "BadInput",
        `The adapter changes ${wanted.path}, which this model does not have as a linear layer. It was trained for another model.`,
      );
    }
    const there = bySlot.get(module.slot) ?? [];
    bySlot.set(module.slot, [...there, { ...module, ...wanted }]);
  }
  const tensors: LoraTensor[] = [];
  const sites = [...bySlot].map(([slot, members], buffer): Site => {
    members.sort((a, b) => a.row0 - b.row0);
    const cols = members[0]!.in;
    const r = members.reduce((sum, member) => sum + member.r, 0);
    let aRow = 0;
    let count = align(r * cols);
    const pairs = members.map((m) => {
      const pair = { row0: m.row0, rows: m.out, r: m.r, scale: m.scale, aRow, b: count };
      tensors.push({ name: `${m.path}.lora_A.weight`, shape: [m.r, cols], buffer, offset: aRow * cols });
      tensors.push({ name: `${m.path}.lora_B.weight`, shape: [m.out, m.r], buffer, offset: count });
      aRow += m.r;
      count += align(m.out * m.r);
      return pair;
    });
    return { slot, cols, r, pairs, count };
  });
  return { sites, tensors };
}

/** GPU bytes of an adapter's values, and of what its products need beside them for up to `rows` rows of input. */
export function adapterBytes(config: Qwen3VLConfig, adapted: readonly AdaptedModule[], rows: number) {
  const { sites } = layout(config, adapted);
  return { counts: sites.map(({ count }) => count), ...scratchOf(sites, rows) };
}

function scratchOf(sites: readonly Site[], rows: number): { u: number; partial: number; handover: number } {
  const most = Math.max(...sites.map(({ r }) => r));
  return {
    u: 4 * rows * most,
    handover: handoverBytes(most),
    partial: Math.max(...sites.map((site) => loraPartialBytes(site, site.r, site.pairs, rows))),
  };
}

/** The LoRA pairs of an adapter on the GPU: one buffer for each matrix that carries some. Not bound to a model until it is put on. */
export class GpuAdapter {
  readonly tensors: readonly LoraTensor[];
  /** Values of each buffer, with their number; padding between tensors is zero and stays zero. */
  readonly buffers: readonly { values: Slice; count: number }[];
  #gpu: Gpu;
  #sites: readonly Site[];

  private constructor(gpu: Gpu, sites: Site[], tensors: LoraTensor[]) {
    this.#gpu = gpu;
    this.#sites = sites;
    this.tensors = tensors;
    this.buffers = sites.map(({ slot, count }) => ({ values: gpu.storage("adapter", slot, count * 4), count }));
  }

  /** All values are zero at first. Throws `BadInput` for a layer that the model does not have, `OutOfMemory`. */
  static async create(gpu: Gpu, config: Qwen3VLConfig, adapted: readonly AdaptedModule[]): Promise<GpuAdapter> {
    const { sites, tensors } = layout(config, adapted);
    return await gpu.allocating("the adapter", () => new GpuAdapter(gpu, sites, tensors));
  }

  /** Puts values into one tensor. Throws `BadInput` when their number is not the tensor's. */
  write(tensor: LoraTensor, values: Float32Array<ArrayBuffer>): void {
    const size = tensor.shape[0] * tensor.shape[1];
    if (values.length !== size) {
      throw new TabTuneError("BadInput", `${tensor.name}: expected ${size} numbers, found ${values.length}.`);
    }
    this.#gpu.write(this.buffers[tensor.buffer]!.values, values, tensor.offset * 4);
  }

  async read(tensor: LoraTensor): Promise<Float32Array<ArrayBuffer>> {
    const { values } = this.buffers[tensor.buffer]!;
    return this.#gpu.readFloats(values, tensor.shape[0] * tensor.shape[1], tensor.offset * 4);
  }

  /** Buffers for the products of up to `rows` rows of input; with `training`, for their gradients too. The caller frees them. */
  scratch(owner: string, rows: number, training: boolean): LoraScratch {
    const { u, partial, handover } = scratchOf(this.#sites, rows);
    const make = (label: string, bytes: number) => this.#gpu.storage(owner, label, bytes);
    const du = training ? { du: make("dY B", u) } : {};
    return {
      u: make("x Aᵀ", u),
      partial: make("partial products", partial),
      handover: make("handed over", handover),
      ...du,
    };
  }

  /**
   * Puts the adapter on: from now on what is recorded includes it. What was on before is off.
   * @param gradients of each buffer, while training
   */
  attach(weights: GpuWeights, scratch: LoraScratch, gradients?: readonly Slice[]): void {
    weights.detachAdapter();
    this.#sites.forEach(({ slot, r, pairs }, i) => {
      const { values } = this.buffers[i]!;
      const on: LoraPairs = { pairs, r, values, scratch, ...(gradients ? { gradients: gradients[i]! } : {}) };
      weights.linear(slot).lora = on;
    });
  }

  free(): void {
    for (const { values } of this.buffers) this.#gpu.free(values);
  }
}
