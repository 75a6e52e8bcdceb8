import { readFileSync } from "node:fs";
import { BlobFileSet, openCheckpoint } from "../src/formats/index.ts";
import { parseConfig } from "../src/models/qwen3_vl/config.ts";
import { type LoraModule, loraModules } from "../src/models/qwen3_vl/lora_modules.ts";
import { prepareImage } from "../src/models/qwen3_vl/processor.ts";
import { parseProcessorConfig } from "../src/models/qwen3_vl/processor_config.ts";
import type { App } from "./browser.ts";
import { gpuWeights } from "./gpu_weights.ts";
import { readPng } from "./png.ts";
import { openReference } from "./reference.ts";
import { ReferenceModel } from "./reference_model.ts";
import { debugTrain } from "./train_parity_case.ts";

const R = 2;
const SCALE = 2;
/** Half the distance between the two losses of a slope. */
const H = 1e-4;

type Weights = Map<string, { shape: readonly number[]; data: Float32Array | Float64Array }>;

/** Deterministic numbers in [-1, 1). */
function numbers(seed: number) {
  let state = seed;
  return (count: number, scale: number) =>
    Float32Array.from({ length: count }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return scale * (state / 2 ** 31 - 1);
    });
}

/** Mean loss over the trained tokens of examples, by the float64 model. */
function lossBy(model: ReferenceModel, examples: readonly Seen[], features: ReturnType<ReferenceModel["vision"]>[]) {
  const trained = examples.reduce((sum, { labels }) => sum + labels.filter((label) => label !== -100).length, 0);
  return examples.reduce((total, { ids, labels, image }, n) => {
    const { logits } = model.prefill(ids, [image.grid], features[n]);
    const vocab = logits.length / ids.length;
    for (let t = 0; t + 1 < ids.length; t++) {
      const label = labels[t + 1]!;
      if (label === -100) continue;
      const row = logits.subarray(t * vocab, (t + 1) * vocab);
      const top = row.reduce((a, b) => Math.max(a, b));
      const sum = row.reduce((a, z) => a + Math.exp(z - top), 0);
      total += (top + Math.log(sum) - row[label]!) / trained;
    }
    return total;
  }, 0);
}

interface Seen {
  ids: number[];
  labels: number[];
  image: ReturnType<typeof prepareImage>;
}

const isOfTower = ({ path }: LoraModule) => path.includes(".visual.");

/**
 * Layers whose slopes are taken one by one: of each kind a first one, and the tower's last block. The others move together in one
 * direction; transformers' own gradients of every decoder layer are compared in the same test file.
 */
function groups(modules: readonly LoraModule[], depth: number): { name: string; modules: LoraModule[] }[] {
  const alone = [
    "visual.blocks.0.",
    `visual.blocks.${depth - 1}.`,
    "visual.merger.",
    "deepstack_merger_list.0.",
    "layers.1.",
  ];
  const isAlone = ({ path }: LoraModule) => alone.some((part) => path.includes(part));
  return [
    ...modules.filter(isAlone).map((module) => ({ name: module.path, modules: [module] })),
    { name: "all others together", modules: modules.filter((module) => !isAlone(module)) },
  ];
}

/**
 * The gradients of one micro-batch of two examples with different pictures, on the loaded checkpoint, against slopes of the float64
 * model's loss. Every linear layer has a pair, with `tower` the tower's and the mergers' too.
 * @param base where the folder is served; @param scheme in which it was loaded
 * @returns the relative error of the loss; for each group the slope's error, relative to the length of the group's gradient
 */
export async function compareSlopes(
  app: App,
  folder: string,
  base: string,
  { scheme, tower }: { scheme: "bf16" | "q4a32"; tower: boolean },
): Promise<{ loss: number; slopes: { name: string; error: number }[] }> {
  const reference = openReference(folder);
  const text = (name: string) => readFileSync(`${folder}/checkpoint/${name}`, "utf8");
  const config = parseConfig(JSON.parse(text("config.json")));
  const files = ["config.json", "model.safetensors"].map((path) => {
    return { path, file: new Blob([readFileSync(`${folder}/checkpoint/${path}`)]) };
  });
  const weights: Weights = new Map(await gpuWeights(await openCheckpoint(new BlobFileSet(folder, files)), scheme));
  const parts = {
    ...{ languageAttention: true, languageMlp: true },
    ...{ visionAttention: tower, visionMlp: tower, mergers: tower },
  };
  const modules = loraModules(config, parts);
  const draw = numbers(7);
  const values: Record<string, Float32Array<ArrayBuffer>> = {};
  for (const { path, in: inputs, out } of modules) {
    values[`${path}.lora_A.weight`] = draw(R * inputs, 1 / Math.sqrt(inputs));
    values[`${path}.lora_B.weight`] = draw(R * out, 0.2);
  }
  for (const [name, data] of Object.entries(values)) weights.set(name, { shape: [], data });

  const processor = parseProcessorConfig({ "processor_config.json": text("processor_config.json") }, config);
  const { train } = reference;
  const chosen = [0, 3];
  const examples = chosen.map((i): Seen => {
    const image = prepareImage(readPng(readFileSync(`${folder}/images/${train.data[i]!.image}.png`)), processor);
    return { ids: train.input_ids[i]!, labels: train.labels[i]!, image };
  });
  const found = await debugTrain(app, {
    ...{ parts, r: R, alpha: SCALE * R, dropout: 0, optimizer: "adamw", values, maxTokens: 96, withLogits: false },
    examples: examples.map(({ ids, labels }, n) => {
      return { ids, labels, urls: [`${base}images/${train.data[chosen[n]!]!.image}.png`] };
    }),
    steps: [{ batches: [[0, 1]], rate: 0, seed: 0 }],
    step: { weightDecay: 0, maxGradNorm: 0 },
  });

  const seen = (model: ReferenceModel) => examples.map(({ image }) => model.vision(image.pixels, [image.grid]));
  const still = seen(new ReferenceModel(config, weights, SCALE));
  const lossOf = (changed: Weights, towerMoves: boolean) => {
    const model = new ReferenceModel(config, changed, SCALE);
    return lossBy(model, examples, towerMoves ? seen(model) : still);
  };
  const slopes = groups(modules, config.vision.depth).map(({ name, modules: group }) => {
    const names = group.flatMap(({ path }) => [`${path}.lora_A.weight`, `${path}.lora_B.weight`]);
    const directions = names.map((tensor) => draw(values[tensor]!.length, 1));
    const moved = (h: number) => {
      const changed = new Map(weights);
      names.forEach((tensor, n) => {
        const data = Float64Array.from(values[tensor]!, (v, i) => v + h * directions[n]![i]!);
        changed.set(tensor, { shape: [], data });
      });
      return lossOf(changed, group.some(isOfTower));
    };
    const slope = (moved(H) - moved(-H)) / (2 * H);
    let along = 0;
    let squares = 0;
    names.forEach((tensor, n) => {
      found.gradients[tensor]!.forEach((g, i) => {
        along += g * directions[n]![i]!;
        squares += g * g;
      });
    });
    return { name, error: Math.abs(slope - along) / Math.sqrt(squares) };
  });
  return {
    loss: Math.abs(found.losses[0]! / lossBy(new ReferenceModel(config, weights, SCALE), examples, still) - 1),
    slopes,
  };
}
