import { describe, expect, it } from "vitest";
import { PRESETS } from "../src/api/worker_bench_model.ts";
import type { Graph } from "./onnx_writer.ts";
import { decoder, linearChain, WeightFile } from "./peer_graphs.ts";

const { text } = PRESETS["qwen3-vl-4b"];

/** What nodes read before anything has given it. */
function missing({ nodes, inputs, initializers, outputs }: Graph): string[] {
  const known = new Set(["", ...inputs.map((v) => v.name), ...initializers.map((v) => v.name)]);
  const lost: string[] = [];
  for (const node of nodes) {
    lost.push(...node.inputs.filter((name) => !known.has(name)));
    for (const name of node.outputs) known.add(name);
  }
  return [...lost, ...outputs.map((v) => v.name).filter((name) => !known.has(name))];
}

/** Multiply-adds of all 4-bit products for one row. */
const work = ({ nodes }: Graph) =>
  nodes
    .filter((node) => node.op === "MatMulNBits")
    .reduce((sum, { attributes = {} }) => {
      const [k, n] = [attributes.K, attributes.N].map((value) => (value as { int: number }).int);
      return sum + k! * n!;
    }, 0);

const layer = 2560 * (6144 + 4096 + 3 * 9728);

describe("graphs for other runtimes", () => {
  it("chain the linears of a layer at the preset's shapes", () => {
    const graph = linearChain(text, 3, new WeightFile("w", "f32"));
    expect(missing(graph)).toEqual([]);
    expect(work(graph)).toBe(3 * layer);
  });

  it("hold the whole language model", () => {
    const graph = decoder(text, new WeightFile("w", "f16"));
    expect(missing(graph)).toEqual([]);
    expect(work(graph)).toBe(36 * layer + 2560 * 151936);
    expect(graph.nodes.filter((node) => node.op === "GroupQueryAttention")).toHaveLength(36);
    expect(new Set(graph.nodes.flatMap((node) => node.outputs).filter(Boolean)).size).toBe(
      graph.nodes.flatMap((node) => node.outputs).filter(Boolean).length,
    );
  });

  for (const float of ["f32", "f16"] as const) {
    it(`read every weight from its kind of values (${float})`, () => {
      const file = new WeightFile("w", float);
      const { initializers } = decoder(PRESETS.tiny.text, file);
      const bytes = file.close();
      const width = float === "f16" ? 2 : 4;
      const [scale, gain] = float === "f16" ? [0x1c00, 0x3c00] : [2 ** -8, 1];
      const floats = float === "f16" ? new Uint16Array(bytes.buffer) : new Float32Array(bytes.buffer);
      for (const { name, data } of initializers) {
        if (data instanceof Uint8Array) continue;
        expect(data.offset + data.bytes, name).toBeLessThanOrEqual(bytes.length);
        const values = floats.subarray(data.offset / width, (data.offset + data.bytes) / width);
        if (name.endsWith("scales")) expect(new Set(values), name).toEqual(new Set([scale]));
        else if (name.endsWith("gain")) expect(new Set(values), name).toEqual(new Set([gain]));
        else expect(new Set(bytes.subarray(data.offset, data.offset + data.bytes)).size, name).toBeGreaterThan(200);
      }
    });
  }
});
