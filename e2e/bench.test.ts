import { expect, describe as group, it } from "vitest";
import type { BenchApi, BenchRow } from "../src/api/bench_protocol.ts";
import { measureLoad } from "./bench_load.ts";
import { type BenchReport, compare, describe } from "./bench_report.ts";
import { openApp } from "./browser.ts";

group("npm run bench", () => {
  it("measures every part of the tiny preset on SwiftShader", { timeout: 300_000 }, async () => {
    const app = await openApp({ engineOnly: true });
    try {
      const rows = await app.page.evaluate(async (): Promise<BenchRow[]> => {
        const rows: BenchRow[] = [];
        const onRow = tabtune.callback((row: BenchRow) => rows.push(row));
        await (tabtune.engine as unknown as BenchApi).debugBench({ preset: "tiny", capMilliseconds: 1000 }, onRow);
        await new Promise((resolve) => setTimeout(resolve, 200));
        return rows;
      });
      for (const row of rows) expect(row.note ? row.value >= 0 : row.value > 0, JSON.stringify(row)).toBe(true);
      const leftOut = rows.filter((row) => row.note?.startsWith("left out"));
      expect(leftOut.map((row) => row.part)).toEqual(["prefill", "vision", "lora step"]);
      const parts = new Set(rows.map((row) => row.part));
      const expected = [
        "ceilings",
        "decode",
        "decode kernels",
        "lora step",
        "lora step kernels",
        "many-row shapes",
        "memory",
        "one-row shapes",
        "prefill",
        "prefill kernels",
        "tuning",
        "vision",
        "vision kernels",
      ];
      expect([...parts].sort()).toEqual(expected);
      expect(new Set(rows.map((row) => `${row.part}, ${row.name}`)).size).toBe(rows.length);
      // No part leaves anything on the device that it does not own.
      expect(rows.filter((row) => row.part === "memory" && row.name === "bench")).toEqual([]);
    } finally {
      await app.close();
    }
  });
});

group("the part load", () => {
  it("times a visitor who comes back to a stored model", { timeout: 300_000 }, async () => {
    const rows: BenchRow[] = [];
    await measureLoad({ preset: "tiny", onRow: (row) => rows.push(row), say: () => undefined });
    const [first, later, token] = rows;
    expect(rows.map((row) => row.name)).toEqual([
      "first load of stored shards",
      "load of stored shards, a later visit",
      "opening the page to the first token about a picture, a later visit",
    ]);
    for (const row of rows) {
      expect(row).toMatchObject({ part: "load", unit: "ms", note: expect.stringContaining("stand-in") });
      expect(Number.isFinite(row.value) && row.value > 0, JSON.stringify(row)).toBe(true);
    }
    expect(first!.value).not.toBe(later!.value);
    // The way to the first token has the load in it.
    expect(token!.value).toBeGreaterThan(later!.value);
  });
});

group("comparison of two runs", () => {
  const report = (rows: BenchRow[]): BenchReport => ({
    version: 1,
    date: "2026-01-01",
    commit: "abc",
    gpu: "gpu",
    browser: "b",
    flags: "",
    preset: "tiny",
    seconds: 1,
    rows,
  });
  const row = (name: string, value: number, unit: BenchRow["unit"]): BenchRow => ({ part: "p", name, value, unit });

  it("says what moved, which way, and what came or went", () => {
    const before = report([
      row("fast", 100, "tok/s"),
      row("slow", 10, "ms"),
      row("same", 5, "ms"),
      row("old", 1, "ms"),
    ]);
    const after = report([
      row("fast", 150, "tok/s"),
      row("slow", 20, "ms"),
      row("same", 5.1, "ms"),
      row("new", 1, "ms"),
    ]);
    const text = compare(before, after);
    expect(text).toMatch(/p, fast +100 +150 tok\/s +× 1\.50 better/);
    expect(text).toMatch(/p, slow +10\.0 +20\.0 ms +× 2\.00 worse/);
    expect(text).toMatch(/p, new .*new/);
    expect(text).toMatch(/p, old .*gone/);
    expect(text).not.toMatch(/same/);
  });

  it("shows shares of ceilings", () => {
    const text = describe(report([{ ...row("x", 2, "ms"), share: 0.456, bound: "bandwidth" }]));
    expect(text).toMatch(/46 % of bandwidth/);
  });
});
