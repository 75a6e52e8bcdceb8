import { expect, describe as group, it } from "vitest";
import type { BenchRow } from "../src/api/bench_protocol.ts";
import { besidePeer } from "./bench_report.ts";
import { torchRows } from "./torch_peer.ts";

const run = {
  card: "a card",
  torch: "2.9",
  "vision tower, 448": 15,
  "prefill, 512 tokens": 40,
  "decode, a token, context 128": 25,
  "lora step, 326 tokens": 400,
  "lora step, 326 tokens, GB": 10.48576,
  "lora step, 1026 tokens": 500,
  "lora step, 1026 tokens, GB": 11,
};

group("peers", () => {
  const ours: BenchRow[] = [
    { part: "decode", name: "context 128, greedy", value: 300, unit: "tok/s" },
    { part: "vision", name: "448 × 448, next of its size", value: 30, unit: "ms" },
    { part: "lora step", name: "326 tokens, GPU memory", value: 4000, unit: "MiB" },
  ];
  const rows = torchRows(run).flatMap((peer) => besidePeer(ours, peer));
  const figureOf = (name: string) => rows.find((row) => row.name === name)?.value;

  it("tells PyTorch's numbers in our units", () => {
    expect(figureOf("PyTorch, decode, context 128, greedy")).toBe(40);
    expect(figureOf("PyTorch, prefill, 512 tokens")).toBe(12800);
    expect(figureOf("PyTorch, lora step, 326 tokens, GPU memory")).toBe(10000);
  });

  it("says how many times as fast ours is, or as small, where both were measured", () => {
    expect(figureOf("ours to PyTorch, decode, context 128, greedy")).toBe(7.5);
    expect(figureOf("ours to PyTorch, vision, 448 × 448, next of its size")).toBe(0.5);
    expect(figureOf("ours to PyTorch, lora step, 326 tokens, GPU memory")).toBe(2.5);
    expect(figureOf("ours to PyTorch, prefill, 512 tokens")).toBeUndefined();
  });

  it("says what a file lacks", () => {
    const { "lora step, 326 tokens": _, ...rest } = run;
    expect(() => torchRows(rest)).toThrow(/lacks the number "lora step, 326 tokens"/);
  });

  it("compares like with like", () => {
    const row: BenchRow = { part: "peers", name: "x", value: 1, unit: "ms" };
    expect(() => besidePeer(ours, { row, ours: ["decode", "context 128, greedy"] })).toThrow(/ms.*tok\/s/);
  });
});
