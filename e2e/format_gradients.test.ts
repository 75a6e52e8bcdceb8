import { existsSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import type { DebugApi } from "../src/api/debug_protocol.ts";
import { parseConfig } from "../src/models/qwen3_vl/config.ts";
import { loraModules } from "../src/models/qwen3_vl/lora_modules.ts";
import { openApp } from "./browser.ts";
import { convertReference } from "./format_parity.ts";
import { openReference } from "./reference.ts";
import { ReferenceModel } from "./reference_model.ts";
import { crossEntropy, numbers, slopeError } from "./slopes.ts";
import { debugTrain } from "./train_parity_case.ts";

const folder = "../shared/reference/s-0";
const R = 2;
const SCALE = 2;
const parts = { languageAttention: true, languageMlp: true, visionAttention: false, visionMlp: false, mergers: false };

// A checkpoint whose layers are NF4 in blocks of 32 and 64, and partly bf16: gradients go back through every one of them.
it.skipIf(!existsSync(folder))(
  "an adapter on NF4 weights gets the slopes of the float64 model on the dequantized weights",
  { timeout: 300_000 },
  async () => {
    const reference = openReference(folder);
    const { train } = reference;
    const config = parseConfig(JSON.parse(readFileSync(`${folder}/checkpoint/config.json`, "utf8")));
    const converted = await convertReference(folder, "nf4");
    const app = await openApp({ engineOnly: true, folders: { "/converted/": converted.folder } });
    try {
      await app.page.evaluate(async (base) => {
        await (tabtune.engine as unknown as DebugApi).debugLoad({ base, kv: "f32" });
      }, `${app.origin}/converted/`);
      const draw = numbers(11);
      const modules = loraModules(config, parts);
      const values: Record<string, Float32Array<ArrayBuffer>> = {};
      for (const { path, in: inputs, out } of modules) {
        values[`${path}.lora_A.weight`] = draw(R * inputs, 1 / Math.sqrt(inputs));
        values[`${path}.lora_B.weight`] = draw(R * out, 0.2);
      }
      // An example without a picture: the tower is not under test.
      const example = train.data.findIndex(({ image }) => image === null);
      const [ids, labels] = [train.input_ids[example]!, train.labels[example]!];
      const found = await debugTrain(app, {
        ...{ parts, r: R, alpha: SCALE * R, dropout: 0, optimizer: "adamw", values },
        examples: [{ ids, labels, urls: [] }],
        steps: [{ batches: [[0]], rate: 0, seed: 0 }],
        ...{ step: { weightDecay: 0, maxGradNorm: 0 }, maxTokens: 96, withLogits: false },
      });
      const tokens = labels.filter((label) => label !== -100).length;
      const lossAt = (moved: Map<string, Float64Array>) => {
        const weights = new Map(converted.weights);
        for (const [name, data] of [...Object.entries(values), ...moved]) weights.set(name, { shape: [], data });
        const { logits } = new ReferenceModel(config, weights, SCALE).prefill(ids, []);
        return crossEntropy(logits, labels, config.text.vocabSize) / tokens;
      };
      expect(Math.abs(found.losses[0]! / lossAt(new Map()) - 1)).toBeLessThan(1e-5);
      // The first layer's gradients have come through all the others: blocks of 32 and 64, and bf16.
      const wrong: [string, number][] = [];
      for (const { path } of modules.filter(({ path }) => /layers\.0\..*(q_proj|o_proj|down_proj)/.test(path))) {
        const names = [`${path}.lora_A.weight`, `${path}.lora_B.weight`];
        const own = Object.fromEntries(names.map((name) => [name, values[name]!]));
        const error = slopeError(own, found.gradients, draw, lossAt);
        if (!(error < 1e-4)) wrong.push([path, error]);
      }
      expect(wrong).toEqual([]);
    } finally {
      await app.close();
      converted.remove();
    }
  },
);
