import { expect, it } from "vitest";
import type { DebugForward } from "../src/api/debug_protocol.ts";
import { type CaseReport, type Compared, compareCase } from "./compare_case.ts";

const arrays: Record<string, Float32Array | Int32Array> = {
  pixels: new Float32Array([0.1, -0.2, 0.3, 0.4]),
  vision: new Float32Array([1, 2]),
  merged: new Float32Array([3, 4]),
  hidden: new Float32Array([5, 6, 7, 8]),
  logits: new Float32Array([-1, 2, 5, 1]),
  positions: new Int32Array([0, 1, 0, 1, 0, 1]),
};
const reference: Compared = {
  cases: {
    one: {
      messages: [],
      prompt: "",
      input_ids: [4, 5],
      grid_thw: [[1, 2, 2]],
      pixel_values: "pixels",
      vision_hidden: ["vision"],
      vision_merged: ["merged"],
      hidden_states: ["hidden"],
      logits: "logits",
      position_ids: "positions",
      rope_delta: -1,
      greedy: [7, 8],
    },
    long: { messages: [], prompt: "", input_ids: [1, 2, 3, 4], logits: "logits", logits_rows: "last 2", greedy: [1] },
  },
  array: (name) => ({ shape: [], data: arrays[name]! }),
};
const floats = (name: string) => Float32Array.from(arrays[name]!);
const right = (): DebugForward => ({
  inputIds: [4, 5],
  pixelValues: floats("pixels"),
  grid: [[1, 2, 2]],
  positionIds: Int32Array.from(arrays.positions!),
  ropeDelta: -1,
  visionHidden: [floats("vision")],
  visionMerged: [floats("merged")],
  hidden: [floats("hidden")],
  logits: floats("logits"),
});

it("passes what is equal", () => {
  const report = compareCase(reference, "one", right(), [7, 8]);
  expect(report).toMatchObject({ pass: true, pixelValues: 0, hidden: 0, logits: 0, greedy: true, positionIds: true });
});

const spoil: [keyof CaseReport, (got: DebugForward) => void][] = [
  ["pixelValues", (got) => (got.pixelValues![3]! += 0.002)],
  ["visionHidden", (got) => (got.visionHidden[0]![1]! += 0.001)],
  ["visionMerged", (got) => (got.visionMerged[0]![0] = Number.NaN)],
  ["hidden", (got) => (got.hidden[0]![2]! *= 1.001)],
  ["hidden", (got) => got.hidden.push(floats("hidden"))],
  ["hidden", (got) => (got.hidden = [])],
  ["logits", (got) => (got.logits = got.logits.slice(1))],
  ["logits", (got) => (got.logits[0]! += 0.01)],
  ["inputIds", (got) => got.inputIds.push(1)],
  ["grid", (got) => (got.grid[0]![1] = 4)],
  ["positionIds", (got) => (got.positionIds[5] = 2)],
  ["ropeDelta", (got) => (got.ropeDelta = 0)],
];
it.each(spoil)("fails on a wrong %s", (field, damage) => {
  const got = right();
  damage(got);
  const report = compareCase(reference, "one", got, [7, 8]);
  expect(report.pass).toBe(false);
  expect(report[field]).not.toBe(compareCase(reference, "one", right(), [7, 8])[field]);
});

it("fails on another greedy token and on a missing one", () => {
  expect(compareCase(reference, "one", right(), [7, 9]).pass).toBe(false);
  expect(compareCase(reference, "one", right(), [7]).pass).toBe(false);
});

it("compares the last rows where only those were kept", () => {
  const got = { ...right(), inputIds: [1, 2, 3, 4], logits: new Float32Array([9, 9, 9, 9, -1, 2, 5, 1]) };
  expect(compareCase(reference, "long", got, [1])).toMatchObject({ pass: true, logits: 0 });
});

it("joins what comes picture after picture", () => {
  const got = { ...right(), visionHidden: [new Float32Array([1]), new Float32Array([2])] };
  expect(compareCase(reference, "one", got, [7, 8])).toMatchObject({ pass: true, visionHidden: 0 });
  got.visionHidden.reverse();
  expect(compareCase(reference, "one", got, [7, 8]).pass).toBe(false);
});
