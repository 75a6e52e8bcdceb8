import { describe, expect, it } from "vitest";
import { writeOnnx } from "./onnx_writer.ts";

/** Fields of one message by their numbers: varints as bigint, all else as bytes. */
function fields(bytes: Uint8Array): Map<number, (bigint | Uint8Array)[]> {
  const found = new Map<number, (bigint | Uint8Array)[]>();
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const take = (count: number) => {
    at += count;
    return bytes.subarray(at - count, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const value = tag % 8 === 0 ? varint() : take(tag % 8 === 5 ? 4 : Number(varint()));
    found.set(tag >> 3, [...(found.get(tag >> 3) ?? []), value]);
  }
  expect(at).toBe(bytes.length);
  return found;
}
const text = (value: unknown) => new TextDecoder().decode(value as Uint8Array);
const inside = (from: Map<number, (bigint | Uint8Array)[]>, field: number, index = 0) =>
  fields(from.get(field)![index] as Uint8Array);

describe("writeOnnx", () => {
  const model = fields(
    writeOnnx({
      nodes: [
        {
          op: "MatMulNBits",
          domain: "com.microsoft",
          inputs: ["x", "w"],
          outputs: ["y"],
          attributes: { K: { int: 2560 }, axis: { int: -1 }, epsilon: { float: 0.5 } },
        },
      ],
      initializers: [
        { name: "w", type: "u8", shape: [300, 16], data: { file: "w.data", offset: 4096, bytes: 4800 } },
        { name: "one", type: "i64", shape: [1], data: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0) },
      ],
      inputs: [{ name: "x", type: "f16", shape: ["rows", 2560] }],
      outputs: [{ name: "y", type: "f32", shape: ["rows", 300] }],
    }),
  );
  const graph = inside(model, 7);

  it("names the versions of both sets of operators", () => {
    const sets = [0, 1].map((i) => inside(model, 8, i)).map((set) => [text(set.get(1)![0]), set.get(2)![0]]);
    expect(sets).toEqual([
      ["", 21n],
      ["com.microsoft", 1n],
    ]);
  });

  it("writes nodes with attributes of each kind", () => {
    const node = inside(graph, 1);
    expect(node.get(1)!.map(text)).toEqual(["x", "w"]);
    expect(node.get(2)!.map(text)).toEqual(["y"]);
    expect([4, 7].map((field) => text(node.get(field)![0]))).toEqual(["MatMulNBits", "com.microsoft"]);
    const [k, axis, epsilon] = [0, 1, 2].map((i) => inside(node, 5, i));
    expect([k!.get(3), k!.get(20)]).toEqual([[2560n], [2n]]);
    expect(BigInt.asIntN(64, axis!.get(3)![0] as bigint)).toBe(-1n);
    expect(epsilon!.get(20)).toEqual([1n]);
    expect(new Float32Array((epsilon!.get(2)![0] as Uint8Array).slice().buffer)[0]).toBe(0.5);
  });

  it("says where weights lie, or holds them", () => {
    const [outside, own] = [0, 1].map((i) => inside(graph, 5, i));
    expect(outside!.get(1)).toEqual([300n, 16n]);
    expect(outside!.get(2)).toEqual([2n]);
    expect(outside!.get(14)).toEqual([1n]);
    const entries = outside!.get(13)!.map((bytes) => fields(bytes as Uint8Array));
    expect(entries.map((entry) => [text(entry.get(1)![0]), text(entry.get(2)![0])])).toEqual([
      ["location", "w.data"],
      ["offset", "4096"],
      ["length", "4800"],
    ]);
    expect(own!.get(9)![0]).toEqual(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
  });

  it("writes shapes with named sizes", () => {
    const tensor = inside(inside(inside(graph, 11), 2), 1);
    expect(tensor.get(1)).toEqual([10n]);
    const shape = inside(tensor, 2);
    expect(text(inside(shape, 1, 0).get(2)![0])).toBe("rows");
    expect(inside(shape, 1, 1).get(1)).toEqual([2560n]);
  });
});
