import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type App, openApp } from "./browser.ts";
import { compareFolder } from "./parity_cases.ts";

// Written by make_reference.py from transformers in float64; not part of a clone.
const REFERENCES = "../shared/reference";

describe.skipIf(!existsSync(REFERENCES))("the app against transformers", () => {
  // One page for both folders: they share most shaders, and much of a small model's run on a software GPU is compiling.
  let app: App;
  beforeAll(async () => {
    app = await openApp({ engineOnly: true, folders: { "/reference/": REFERENCES } });
  });
  afterAll(async () => {
    await app?.close();
  });

  it.each(["s-0", "m-0"])(
    "%s agrees in every case, from pixels to greedy tokens",
    { timeout: 300_000 },
    async (name) => {
      const reports = await compareFolder(app, `${REFERENCES}/${name}`, `${app.origin}/reference/${name}/`);
      expect(reports.length).toBeGreaterThanOrEqual(6);
      expect(reports.filter((report) => !report.pass)).toEqual([]);
    },
  );
});
