import { readdirSync } from "node:fs";
import { expect, it } from "vitest";
import { openApp } from "./browser.ts";
import { runSelfTest } from "./self_test.ts";

it("computes every kernel case right on SwiftShader", { timeout: 600_000 }, async () => {
  const app = await openApp({ engineOnly: true });
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

it("measures a kernel's time and its share of the ceilings of the same run", async () => {
  const app = await openApp({ engineOnly: true });
  try {
    const { rows, summary } = await runSelfTest(app.page, { timing: true, filter: "layer_norm 5×1024" });
    expect(rows.map(({ kernel }) => kernel)).toContain("layer_norm");
    for (const row of rows) {
      expect(row).toMatchObject({ shape: "5×1024", pass: true });
      expect(["bandwidth", "arithmetic"]).toContain(row.bound);
      expect(row.milliseconds).toBeGreaterThan(0);
      expect(row.share).toBeGreaterThan(0);
    }
    expect(summary.copyBandwidth).toBeGreaterThan(0);
    expect(summary.arithmetic).toBeGreaterThan(0);
  } finally {
    await app.close();
  }
});
