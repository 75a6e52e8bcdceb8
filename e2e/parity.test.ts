import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { runParity } from "./parity_cases.ts";

// Written by make_reference.py from transformers in float64; not part of a clone.
describe.each(["s-0", "m-0"])("reference %s", (name) => {
  const folder = `../shared/reference/${name}`;
  it.skipIf(!existsSync(folder))(
    "agrees in every case, from pixels to greedy tokens",
    { timeout: 300_000 },
    async () => {
      const reports = await runParity(folder);
      expect(reports.length).toBeGreaterThanOrEqual(6);
      expect(reports.filter((report) => !report.pass)).toEqual([]);
    },
  );
});
