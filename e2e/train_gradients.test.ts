import { existsSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parseConfig } from "../src/models/qwen3_vl/config.ts";
import { loraModules } from "../src/models/qwen3_vl/lora_modules.ts";
import { prepareImage } from "../src/models/qwen3_vl/processor.ts";
import { parseProcessorConfig } from "../src/models/qwen3_vl/processor_config.ts";
import { ReferenceModel } from "../src/models/qwen3_vl/reference.ts";
import { readPng } from "./png.ts";
import { openArrays, openReference } from "./reference.ts";
import { crossEntropy, numbers, slopeError } from "./slopes.ts";
import { debugTrain, openTrainApp } from "./train_parity_case.ts";

const folder = "../shared/reference/s-0";
const R = 2;
const parts = { languageAttention: true, languageMlp: true, visionAttention: true, visionMlp: true, mergers: true };

// The reference folders train the language layers alone; here every layer that can carry a pair has one, the tower's and the mergers' too.
it.skipIf(!existsSync(folder))(
  "gradients of every linear layer, tower and mergers included, are the slopes of the float64 model",
  { timeout: 600_000 },
  async () => {
    const reference = openReference(folder);
    const texts = Object.fromEntries(
      ["processor_config.json", "config.json"].map((name) => [
        name,
        readFileSync(`${folder}/checkpoint/${name}`, "utf8"),
      ]),
    );
    const config = parseConfig(JSON.parse(texts["config.json"]!));
    const checkpoint = openArrays(`${folder}/checkpoint/model.safetensors`);
    const weights = new Map<string, { shape: readonly number[]; data: Float32Array | Float64Array }>();
    for (const name of checkpoint.names("")) {
      weights.set(name, checkpoint.array(name) as { shape: number[]; data: Float32Array });
    }
    const modules = loraModules(config, parts);
    const draw = numbers(7);
    const values: Record<string, Float32Array<ArrayBuffer>> = {};
    for (const { path, in: inputs, out } of modules) {
      values[`${path}.lora_A.weight`] = draw(R * inputs, 1 / Math.sqrt(inputs));
      values[`${path}.lora_B.weight`] = draw(R * out, 0.2);
    }
    for (const [name, data] of Object.entries(values)) weights.set(name, { shape: [], data });

    // Two examples in one micro-batch, of different pictures.
    const { train } = reference;
    const chosen = [0, 3];
    const scale = 2;
    const processor = parseProcessorConfig(texts, config);
    const examples = chosen.map((i) => {
      const image = prepareImage(readPng(readFileSync(`${folder}/images/${train.data[i]!.image}.png`)), processor);
      return { ids: train.input_ids[i]!, labels: train.labels[i]!, image };
    });
    const tokens = examples.reduce((sum, { labels }) => sum + labels.filter((label) => label !== -100).length, 0);
    const vocab = config.text.vocabSize;
    const seen = (model: ReferenceModel) => examples.map(({ image }) => model.vision(image.pixels, [image.grid]));
    const still = seen(new ReferenceModel(config, weights, scale));
    const lossOf = (
      changed: Map<string, { shape: readonly number[]; data: Float32Array | Float64Array }>,
      isTower = false,
    ) => {
      const model = new ReferenceModel(config, changed, scale);
      const features = isTower ? seen(model) : still;
      return examples.reduce((total, { ids, labels, image }, n) => {
        const { logits } = model.prefill(ids, [image.grid], features[n]);
        return total + crossEntropy(logits, labels, vocab) / tokens;
      }, 0);
    };

    const app = await openTrainApp(reference);
    try {
      const found = await debugTrain(app, {
        parts,
        r: R,
        alpha: scale * R,
        dropout: 0,
        optimizer: "adamw",
        values,
        examples: chosen.map((i) => ({
          ids: train.input_ids[i]!,
          labels: train.labels[i]!,
          urls: [`${app.origin}/reference/images/${train.data[i]!.image}.png`],
        })),
        steps: [{ batches: [[0, 1]], rate: 0, seed: 0 }],
        step: { weightDecay: 0, maxGradNorm: 0 },
        maxTokens: 96,
      });
      expect(Math.abs(found.losses[0]! / lossOf(weights) - 1)).toBeLessThan(1e-5);
      // The slope along a random direction through both factors of a layer, against the same direction of its gradients.
      const wrong: [string, number][] = [];
      // Of the decoder one layer is enough here: transformers' own gradients of all of them are compared in train_parity.test.ts.
      const tried = modules.filter(({ path }) => path.includes(".visual.") || path.includes(".layers.1."));
      for (const { path } of tried) {
        const names = [`${path}.lora_A.weight`, `${path}.lora_B.weight`];
        const own = Object.fromEntries(names.map((name) => [name, values[name]!]));
        const error = slopeError(own, found.gradients, draw, (moved) => {
          const changed = new Map(weights);
          for (const [name, data] of moved) changed.set(name, { shape: [], data });
          return lossOf(changed, path.includes(".visual."));
        });
        if (!(error < 1e-4)) wrong.push([path, error]);
      }
      expect(wrong).toEqual([]);
    } finally {
      await app.close();
    }
  },
);
