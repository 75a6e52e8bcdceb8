import { describe, expect, it } from "vitest";
import { ReferenceModel } from "../../../e2e/reference_model.ts";
import { config, GRIDS, IDS, tensor, tinyWeights } from "../../../e2e/tiny_model.ts";
import { loraModules } from "./lora_modules.ts";

// Vectors of qwen3-vl.md §11.3: loss and gradients of LoRA pairs (r 4, scale 2) on the tiny model, from transformers and PEFT in f32.
// Gradients are central differences of the float64 model, so they prove its forward pass with pairs and the printed numbers to
// each other; the passes on the GPU are compared with the same model in e2e/training.test.ts.

const R = 4;
const SCALE = 2;
const language = { languageAttention: true, languageMlp: true };
const tower = { visionAttention: true, visionMlp: true };
const none = { languageAttention: false, languageMlp: false, visionAttention: false, visionMlp: false, mergers: false };

function build(parts: Partial<typeof none>) {
  const weights = new Map(tinyWeights());
  let count = 0;
  for (const module of loraModules(config, { ...none, ...parts })) {
    for (const [name, shape] of [
      [`${module.path}.lora_A.weight`, [R, module.in]],
      [`${module.path}.lora_B.weight`, [module.out, R]],
    ] as const) {
      // Its seed is that of the exported name.
      const { data } = tensor(`base_model.model.${name}`, shape);
      weights.set(name, { shape, data });
      count += data.length;
    }
  }
  const pixels = tensor("pixel_values", [56, 96]).data;
  const seen = new ReferenceModel(config, weights, SCALE).vision(pixels, GRIDS);
  const run = (changed?: string, data?: Float64Array) => {
    const used = new Map<string, { shape: readonly number[]; data: Float32Array | Float64Array }>(weights);
    if (changed) used.set(changed, { shape: [], data: data! });
    const model = new ReferenceModel(config, used, SCALE);
    const vision = changed?.startsWith("model.visual") ? model.vision(pixels, GRIDS) : seen;
    return model.prefill(IDS, GRIDS, vision).logits;
  };
  const loss = (logits: Float64Array) =>
    [29, 30, 31, 32].reduce((total, at) => {
      const row = logits.subarray(64 * (at - 1), 64 * at);
      return total + (Math.log(row.reduce((a, z) => a + Math.exp(z), 0)) - row[IDS[at]!]!) / 4;
    }, 0);
  const slope = (name: string, at: number) => {
    const moved = (h: number) => {
      const data = Float64Array.from(weights.get(name)!.data);
      data[at]! += h;
      return loss(run(name, data));
    };
    return (moved(1e-4) - moved(-1e-4)) / 2e-4;
  };
  return { count, logits: () => run(), loss, slope, size: (name: string) => weights.get(name)!.data.length };
}

type Row = [name: string, norm: number, first: number, second: number];
const LM = "model.language_model.layers.";
const cases: [string, Partial<typeof none>, { count: number; loss: number; logits: number[] }, Row[]][] = [
  [
    "language only",
    language,
    { count: 8960, loss: 7.7989116, logits: [-4.483503, 1.515015, -5.598503, 1.355504] },
    [
      [`${LM}0.self_attn.q_proj.lora_A.weight`, 7.518032e-1, 8.033672e-2, 7.848188e-3],
      [`${LM}0.self_attn.k_proj.lora_B.weight`, 2.403512, -5.97261e-2, 2.058717e-1],
      [`${LM}1.mlp.gate_proj.lora_B.weight`, 4.757853, -9.888746e-2, 4.193109e-2],
      [`${LM}3.mlp.down_proj.lora_A.weight`, 6.878672e-1, 1.616422e-2, 1.594965e-3],
    ],
  ],
  [
    "language and vision blocks",
    { ...language, ...tower },
    { count: 13312, loss: 7.7878675, logits: [-3.941126, 0.614783, -4.858824, 2.360909] },
    [
      [`${LM}0.self_attn.q_proj.lora_A.weight`, 7.939429e-1, 5.429945e-3, 3.906392e-2],
      [`${LM}1.mlp.gate_proj.lora_B.weight`, 4.47461, 1.088897e-2, -6.317426e-2],
      ["model.visual.blocks.0.attn.qkv.lora_A.weight", 8.175765e-1, 5.147024e-2, -1.665264e-1],
      ["model.visual.blocks.1.attn.proj.lora_B.weight", 2.255459, -2.360979e-1, -7.081997e-2],
      ["model.visual.blocks.3.mlp.linear_fc2.lora_B.weight", 2.043961, -1.97341e-1, 1.327261e-1],
    ],
  ],
];

describe.each(cases)("a LoRA step on the tiny model, %s", (_, parts, wanted, rows) => {
  const model = build(parts);

  it("has the loss and the logits of transformers", () => {
    expect(model.count).toBe(wanted.count);
    const logits = model.logits();
    expect(Math.abs(model.loss(logits) - wanted.loss)).toBeLessThan(2e-6);
    wanted.logits.forEach((value, i) => {
      expect(Math.abs(logits[32 * 64 + i]! - value)).toBeLessThan(2e-5);
    });
  });

  it.each(rows)("%s has its gradient", { timeout: 60_000 }, (name, norm, first, second) => {
    // Printed with seven digits, computed by transformers in f32.
    expect(Math.abs(model.slope(name, 0) - first) / norm).toBeLessThan(2e-5);
    expect(Math.abs(model.slope(name, 1) - second) / norm).toBeLessThan(2e-5);
    // Every element of the small tensors; the large ones would take minutes.
    if (model.size(name) > 128) return;
    const gradient = Array.from({ length: model.size(name) }, (_, at) => model.slope(name, at));
    expect(Math.abs(Math.hypot(...gradient) / norm - 1)).toBeLessThan(2e-5);
  });
});
