import { describe, expect, it } from "vitest";
import { erf, ReferenceModel } from "../../../e2e/reference_model.ts";
import { config, GRIDS, IDS, seedOf, stream, tensor, tinyWeights } from "../../../e2e/tiny_model.ts";
import { ropePositions } from "./positions.ts";

// Vectors of qwen3-vl.md §11.1 and §11.2.

/** Values printed with six decimals. */
function expectRow(found: ArrayLike<number>, at: number, expected: readonly number[], tolerance = 5e-6): void {
  expected.forEach((value, i) => {
    expect(Math.abs(found[at + i]! - value), `${found[at + i]} against ${value}`).toBeLessThan(tolerance);
  });
}
const sum = (x: Float64Array) => x.reduce((a, b) => a + b, 0);

describe("deterministic tensors", () => {
  it("have the seeds and values of the specification", () => {
    expect(seedOf("pixel_values").toString(16)).toBe("707f332e");
    const next = stream(seedOf("pixel_values"));
    expect([next(), next(), next()]).toEqual([0.05391896981745958, 0.274102057563141, 0.9617235292680562]);
    expect(seedOf("model.language_model.embed_tokens.weight").toString(16)).toBe("17ab46b4");
    const weights = tinyWeights();
    const data = (name: string) => weights.get(name)!.data;
    expectRow(data("model.language_model.embed_tokens.weight"), 3 * 32, [0.046882, -0.284066, -0.164939], 1e-6);
    expectRow(data("model.language_model.layers.0.self_attn.q_proj.weight"), 0, [0.179346, -0.247198, 0.095701], 1e-6);
    expectRow(data("model.visual.patch_embed.proj.weight"), 0, [0.058972, 0.129994, 0.045579], 1e-6);
    expectRow(data("model.language_model.norm.weight"), 0, [0.958549, 1.044733, 0.919153], 1e-6);
  });
});

describe("the tiny model in float64", () => {
  const model = new ReferenceModel(config, tinyWeights());
  const pixels = tensor("pixel_values", [56, 96]).data;
  const vision = model.vision(pixels, GRIDS);
  const { logits, hidden, delta } = model.prefill(IDS, GRIDS, vision);

  it("sees what transformers sees", () => {
    expectRow(vision.blocks[3]!, 0, [-0.125092, -2.062082, -2.881797, 1.347391]);
    expect(vision.embeddings.length).toBe(14 * 32);
    expectRow(vision.embeddings, 0, [-0.139386, -0.246719, -0.159059, -0.3431, -0.560293, -0.815753]);
    expectRow(vision.embeddings, 13 * 32, [0.354488, 0.057712, 1.055661, -1.026736, -0.739035, -0.627659]);
    expect(sum(vision.embeddings)).toBeCloseTo(-39.058059, 4);
    expectRow(vision.deepstack[0]!, 0, [0.479035, 1.030052, 0.611713, 0.131085]);
    expectRow(vision.deepstack[1]!, 0, [1.218078, 0.495546, -0.991081, -1.738084]);
    expectRow(vision.deepstack[2]!, 0, [0.563388, 0.148462, -0.647328, 0.10827]);
    const sums = vision.deepstack.map(sum);
    [12.336545, -18.864478, 7.125844].forEach((value, i) => {
      expect(sums[i]).toBeCloseTo(value, 4);
    });
  });

  it("answers what transformers answers", () => {
    expect(hidden).toHaveLength(4);
    expect(delta).toBe(-7);
    expectRow(logits, 0, [-1.27488, 1.314193, -3.990253, 10.405076, -2.018539, -3.995851], 2e-5);
    expectRow(logits, 6 * 64, [0.748022, 3.474886, -3.45786, -2.032446, -2.284349, -3.51369], 2e-5);
    expectRow(logits, 12 * 64, [-2.467647, -1.181113, -1.241654, 3.114664, 1.797724, -3.830558], 2e-5);
    expectRow(logits, 32 * 64, [-3.258232, 3.767618, -4.572052, 0.69954, -2.557931, -3.489033], 2e-5);
    expect(sum(logits)).toBeCloseTo(1017.602122, 2);
    expect(sum(logits.map(Math.abs))).toBeCloseTo(5767.047984, 2);
    const argmax = Array.from({ length: 33 }, (_, r) => {
      const row = logits.subarray(64 * r, 64 * r + 64);
      return row.indexOf(Math.max(...row));
    });
    expect(argmax.join(" ")).toBe(
      "3 43 53 43 1 12 11 53 53 14 53 48 62 9 35 62 19 14 23 60 14 41 41 53 41 59 43 3 43 43 9 7 9",
    );
    // Cross entropy of the last four labels, each predicted by the row before it.
    const loss = [29, 30, 31, 32].reduce((total, at) => {
      const row = logits.subarray(64 * (at - 1), 64 * at);
      const all = Math.log(row.reduce((a, z) => a + Math.exp(z), 0));
      return total + (all - row[IDS[at]!]!) / 4;
    }, 0);
    expect(loss).toBeCloseTo(8.3091869, 5);
  });

  it("decodes step by step to the same logits", () => {
    const start = model.prefill(IDS.slice(0, 32), GRIDS, vision);
    expect(start.delta).toBe(-7);
    const step = model.decode(IDS[32]!, start.delta, start.past);
    expectRow(step.logits, 0, [...logits.subarray(32 * 64)], 1e-10);
  });

  it("gives other answers when a picture is left out, moved or a tap is dropped", () => {
    const last = (x: Float64Array) => x.subarray(32 * 64);
    const distance = (x: Float64Array) => Math.max(...last(x).map((v, i) => Math.abs(v - last(logits)[i]!)));
    expect(
      distance(model.prefill(IDS, GRIDS, { ...vision, deepstack: vision.deepstack.slice(0, 2) }).logits),
    ).toBeGreaterThan(0.1);
    const swapped = model.vision(pixels, [
      [1, 6, 4],
      [1, 8, 4],
    ]);
    expect(distance(model.prefill(IDS, GRIDS, swapped).logits)).toBeGreaterThan(0.1);
  });
});

describe("positions of the worked examples", () => {
  it("of two pictures", () => {
    const { positions, delta } = ropePositions(IDS, GRIDS, config);
    const axis = (a: number) => Array.from({ length: 33 }, (_, i) => positions[3 * i + a]).join(" ");
    const tail = "18 19 20 21 22 23 24 25";
    expect(axis(0)).toBe(`0 1 2 3 4 5 6 6 6 6 6 6 9 10 11 12 13 14 14 14 14 14 14 14 14 ${tail}`);
    expect(axis(1)).toBe(`0 1 2 3 4 5 6 6 6 7 7 7 9 10 11 12 13 14 14 15 15 16 16 17 17 ${tail}`);
    expect(axis(2)).toBe(`0 1 2 3 4 5 6 7 8 6 7 8 9 10 11 12 13 14 15 14 15 14 15 14 15 ${tail}`);
    expect(delta).toBe(-7);
  });
});

describe("erf", () => {
  it("is right to float64 on both sides of the change of method", () => {
    const known = [
      [0.1, 0.1124629160182849],
      [1, 0.8427007929497149],
      [2.4, 0.999311486103355],
      [2.6, 0.9997639655834707],
      [4, 0.9999999845827421],
      [7, 1],
    ];
    for (const [x, y] of known) {
      expect(Math.abs(erf(x!) - y!)).toBeLessThan(4e-16);
      expect(erf(-x!)).toBe(-erf(x!));
    }
  });
});
