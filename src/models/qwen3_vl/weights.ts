import { TabTuneError } from "../../errors.ts";
import {
  type Checkpoint,
  exactScheme,
  rowLayout,
  type ShardChunk,
  type SlotScheme,
  type WeightSlot,
} from "../../formats/index.ts";
import type { Destination, Gpu, Program, Slice } from "../../gpu/index.ts";
import { type Matrix, type MatrixBlock, startHandover } from "../../kernels/index.ts";
import type { Qwen3VLConfig } from "./config.ts";
import { Linear } from "./linear.ts";

/**
 * Scheme of the language model's matrices as far as the checkpoint is not quantized already. The vision tower stays bf16, vectors stay
 * f32.
 */
export type LinearScheme = "q4a32" | "q4a64" | "bf16";

/** Where the two halves of the model stand in the names of a checkpoint; the first is what Qwen publishes. */
const LANGUAGE_PREFIXES = ["model.language_model.", "language_model.model.", "model."];
const VISION_PREFIXES = ["model.visual.", "visual.", "vision_tower."];

/** The part of a checkpoint that says which tensors there are. */
interface Directory {
  tensors: Pick<Checkpoint["tensors"], "has" | "get" | "keys" | "size">;
}

function findPrefix(checkpoint: Directory, prefixes: string[], probe: string, what: string): string {
  const prefix = prefixes.find((p) => checkpoint.tensors.has(p + probe));
  if (prefix !== undefined) return prefix;
  const some = [...checkpoint.tensors.keys()].slice(0, 3).join(", ");
  throw new TabTuneError(
    "BadCheckpoint",
    `${what} not found: expected a tensor named ${prefixes[0]}${probe}; the checkpoint has ${checkpoint.tensors.size} tensors (${some}, …). Is this a complete Qwen3-VL checkpoint?`,
  );
}

/**
 * Every weight of the model in the form the GPU wants: q, k, v stacked into one matrix, gate and up into one.
 * The order is the order of use. Source of names and shapes: qwen3-vl.md §2.
 */
export function weightSlots(config: Qwen3VLConfig, checkpoint: Directory, scheme: LinearScheme): WeightSlot[] {
  const { text, vision } = config;
  const lm = findPrefix(checkpoint, LANGUAGE_PREFIXES, "embed_tokens.weight", "The language model's embedding");
  const vt = findPrefix(checkpoint, VISION_PREFIXES, "patch_embed.proj.weight", "The vision tower");
  const slots: WeightSlot[] = [];
  const matrix = (name: string, cols: number, parts: [tensor: string, rows: number][], as: SlotScheme = scheme) => {
    const sources = parts.map(([tensor, rows]) => ({ tensor, rows }));
    // Weights that come quantized are kept as they are, whatever is asked for, where one scheme holds them all.
    const kept = as === "f32" ? undefined : exactScheme(parts.map(([tensor]) => checkpoint.tensors.get(tensor)?.dtype));
    slots.push({ name, sources, rows: parts.reduce((sum, [, rows]) => sum + rows, 0), cols, scheme: kept ?? as });
  };
  const vector = (name: string, tensor: string, cols: number) => matrix(name, cols, [[tensor, 1]], "f32");
  const biased = (name: string, tensor: string, rows: number, cols: number) => {
    matrix(name, cols, [[`${tensor}.weight`, rows]], "bf16");
    vector(`${name}.bias`, `${tensor}.bias`, rows);
  };
  const norm = (name: string, tensor: string, cols: number) => {
    vector(name, `${tensor}.weight`, cols);
    vector(`${name}.bias`, `${tensor}.bias`, cols);
  };

  const patch = vision.inChannels * vision.temporalPatchSize * vision.patchSize ** 2;
  biased("vision.patch", `${vt}patch_embed.proj`, vision.hiddenSize, patch);
  matrix("vision.positions", vision.hiddenSize, [[`${vt}pos_embed.weight`, vision.numPositionEmbeddings]], "f32");
  for (let i = 0; i < vision.depth; i++) {
    const from = `${vt}blocks.${i}.`;
    const to = `vision.blocks.${i}.`;
    const v = vision.hiddenSize;
    norm(`${to}norm1`, `${from}norm1`, v);
    biased(`${to}qkv`, `${from}attn.qkv`, 3 * v, v);
    biased(`${to}proj`, `${from}attn.proj`, v, v);
    norm(`${to}norm2`, `${from}norm2`, v);
    biased(`${to}fc1`, `${from}mlp.linear_fc1`, vision.intermediateSize, v);
    biased(`${to}fc2`, `${from}mlp.linear_fc2`, v, vision.intermediateSize);
  }
  const merged = vision.hiddenSize * vision.spatialMergeSize ** 2;
  const merger = (to: string, from: string, normWidth: number) => {
    norm(`${to}norm`, `${from}norm`, normWidth);
    biased(`${to}fc1`, `${from}linear_fc1`, merged, merged);
    biased(`${to}fc2`, `${from}linear_fc2`, vision.outHiddenSize, merged);
  };
  merger("vision.merger.", `${vt}merger.`, vision.hiddenSize);
  vision.deepstackVisualIndexes.forEach((_, j) => {
    merger(`vision.deepstack.${j}.`, `${vt}deepstack_merger_list.${j}.`, merged);
  });

  const { hiddenSize: h, headDim: d, intermediateSize: ffn } = text;
  const q = text.numAttentionHeads * d;
  const kv = text.numKeyValueHeads * d;
  matrix("language.embed", h, [[`${lm}embed_tokens.weight`, text.vocabSize]]);
  for (let i = 0; i < text.numHiddenLayers; i++) {
    const from = `${lm}layers.${i}.`;
    const to = `language.layers.${i}.`;
    const attn = `${from}self_attn.`;
    vector(`${to}input_norm`, `${from}input_layernorm.weight`, h);
    matrix(`${to}qkv`, h, [
      [`${attn}q_proj.weight`, q],
      [`${attn}k_proj.weight`, kv],
      [`${attn}v_proj.weight`, kv],
    ]);
    matrix(
      `${to}qk_norm`,
      d,
      [
        [`${attn}q_norm.weight`, 1],
        [`${attn}k_norm.weight`, 1],
      ],
      "f32",
    );
    matrix(`${to}o`, q, [[`${attn}o_proj.weight`, h]]);
    vector(`${to}post_norm`, `${from}post_attention_layernorm.weight`, h);
    matrix(`${to}gate_up`, h, [
      [`${from}mlp.gate_proj.weight`, ffn],
      [`${from}mlp.up_proj.weight`, ffn],
    ]);
    matrix(`${to}down`, ffn, [[`${from}mlp.down_proj.weight`, h]]);
  }
  vector("language.norm", `${lm}norm.weight`, h);
  if (!text.tieWordEmbeddings) {
    const head = ["lm_head.weight", "language_model.lm_head.weight"].find((name) => checkpoint.tensors.has(name));
    matrix("language.head", h, [[head ?? "lm_head.weight", text.vocabSize]]);
  }
  return slots;
}

/** [rows, cols] of every slot by name: what a model of this config must have, however it is stored. */
export function slotShapes(config: Qwen3VLConfig): Map<string, readonly [number, number]> {
  const any = { has: () => true, get: () => undefined, keys: () => new Map<string, never>().keys(), size: 0 };
  return new Map(weightSlots(config, { tensors: any }, "bf16").map(({ name, rows, cols }) => [name, [rows, cols]]));
}

/** GPU bytes of all slots, exactly as `GpuWeights` allocates them. */
export function gpuWeightBytes(slots: readonly WeightSlot[]): number {
  return slots.reduce((sum, slot) => {
    const { codesBytes, metaBytes } = rowLayout(slot.scheme, slot.cols);
    return sum + slot.rows * (codesBytes + metaBytes);
  }, 0);
}

/** The model's weights on the GPU, filled shard by shard. */
export class GpuWeights {
  #gpu: Gpu;
  #slots: readonly WeightSlot[];
  #matrices = new Map<string, Matrix>();
  #vectors = new Map<string, Slice>();
  #linears = new Map<string, Linear>();

  private constructor(gpu: Gpu, slots: readonly WeightSlot[]) {
    this.#gpu = gpu;
    this.#slots = slots;
  }

  /** Allocates every buffer. Throws `OutOfMemory`. */
  static async allocate(gpu: Gpu, slots: readonly WeightSlot[]): Promise<GpuWeights> {
    const weights = new GpuWeights(gpu, slots);
    try {
      await gpu.allocating("the model's weights", () => {
        for (const slot of slots) weights.#allocate(slot);
      });
    } catch (error) {
      weights.free();
      throw error;
    }
    return weights;
  }

  #allocate(slot: WeightSlot): void {
    const { name, rows, cols, scheme } = slot;
    const { codesBytes, metaBytes } = rowLayout(scheme, cols);
    const owner = name.startsWith("vision.") ? "vision weights" : "language weights";
    if (scheme === "f32") {
      this.#vectors.set(name, this.#gpu.storage(owner, name, rows * codesBytes));
      return;
    }
    // Blocks start at multiples of 64 rows, so that a bias can be bound from any of them.
    const fits = Math.max(64, Math.floor(this.#gpu.maxBytes / codesBytes / 64) * 64);
    const blocks: MatrixBlock[] = [];
    for (let row0 = 0; row0 < rows; row0 += fits) {
      const here = Math.min(fits, rows - row0);
      const codes = this.#gpu.storage(owner, name, here * codesBytes);
      const scales = metaBytes > 0 ? this.#gpu.storage(owner, `${name} scales`, here * metaBytes) : codes;
      blocks.push({ row0, rows: here, codes, scales });
    }
    this.#matrices.set(name, { label: name, scheme, rows, cols, rowWords: codesBytes / 4, blocks });
  }

  /** Where the parts of a shard's chunk belong. */
  destinations(chunk: ShardChunk): Destination[] {
    const slot = this.#slots[chunk.slot]!;
    const { codesBytes, metaBytes } = rowLayout(slot.scheme, slot.cols);
    const vector = this.#vectors.get(slot.name);
    if (vector) return [{ from: chunk.codesOffset, bytes: chunk.codesBytes, to: vector, at: chunk.row0 * codesBytes }];
    return this.#matrices.get(slot.name)!.blocks.flatMap((block) => {
      const first = Math.max(chunk.row0, block.row0);
      const last = Math.min(chunk.row0 + chunk.rows, block.row0 + block.rows);
      if (first >= last) return [];
      const plane = (to: Slice, offset: number, rowBytes: number): Destination => ({
        from: offset + (first - chunk.row0) * rowBytes,
        bytes: (last - first) * rowBytes,
        to,
        at: (first - block.row0) * rowBytes,
      });
      const codes = plane(block.codes, chunk.codesOffset, codesBytes);
      return metaBytes ? [codes, plane(block.scales, chunk.metaOffset, metaBytes)] : [codes];
    });
  }

  matrix(name: string): Matrix {
    const matrix = this.#matrices.get(name);
    if (!matrix) throw new Error(`no matrix named ${name}`);
    return matrix;
  }

  /** The layer with this weight, and its bias where there is one: the same object for everybody, so that an adapter is put on once. */
  linear(name: string): Linear {
    const known = this.#linears.get(name);
    if (known) return known;
    const linear = new Linear(this.matrix(name), this.#vectors.get(`${name}.bias`), this.#linears.size);
    this.#linears.set(name, linear);
    return linear;
  }

  /** Records what an adapter needs once before all products with one row, so that no pass is split for it later. */
  startAdapter(program: Program): void {
    const worn = [...this.#linears.values()].find(({ lora }) => lora)?.lora;
    if (worn) startHandover(program, worn.scratch.handover);
  }

  /** Takes off whatever adapter is on. The function that is returned puts it on again. */
  detachAdapter(): () => void {
    const worn = [...this.#linears.values()].map((linear) => [linear, linear.lora] as const);
    for (const [linear] of worn) linear.lora = undefined;
    return () => {
      for (const [linear, lora] of worn) linear.lora = lora;
    };
  }

  vector(name: string): Slice {
    const vector = this.#vectors.get(name);
    if (!vector) throw new Error(`no vector named ${name}`);
    return vector;
  }

  free(): void {
    for (const slice of this.#vectors.values()) this.#gpu.free(slice);
    for (const { blocks } of this.#matrices.values()) {
      for (const block of blocks) {
        this.#gpu.free(block.codes);
        this.#gpu.free(block.scales);
      }
    }
    this.#vectors.clear();
    this.#matrices.clear();
  }
}
