import { readdirSync } from "node:fs";
import { expect, it } from "vitest";
import { openApp } from "./browser.ts";
import { runSelfTest } from "./self_test.ts";

it("computes every kernel case right on SwiftShader", { timeout: 600_000 }, async () => {
  const app = await openApp();
  try {
    const { rows, summary } = await runSelfTest(app.page, { timing: false });
    expect(rows.filter((row) => !row.pass)).toEqual([]);
    expect([summary.passed, summary.failed]).toEqual([rows.length, 0]);
    // Every case table takes part.
    const tables = readdirSync("src/kernels").filter((name) => name.endsWith(".cases.ts"));
    expect(new Set(rows.map((row) => row.kernel)).size).toBeGreaterThanOrEqual(tables.length);
  } finally {
    await app.close();
  }
});
