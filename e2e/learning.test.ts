import { existsSync } from "node:fs";
import { expect, it } from "vitest";
import type { RunRecord } from "../src/api/index.ts";
import { openApp } from "./browser.ts";

/** Titles alone: the one kind of question that a software GPU can learn within minutes. */
const ASKED = ["Wie heißt das Diagramm?", "Was steht oben?"];
const HELD_BACK = 6;

it.skipIf(!existsSync("public/models/demo/model.safetensors"))(
  "the demo learns a kind of chart and a language it has never seen, on charts held back too",
  { timeout: 900_000 },
  async () => {
    const app = await openApp({ engineOnly: true, folders: { "/demo/": "public/models/demo" } });
    try {
      const run = await app.page.evaluate(
        async ({ asked, heldBack, base }): Promise<RunRecord> => {
          const { engine, callback } = tabtune;
          const ignore = callback(() => undefined);
          const model = await engine.importModel({ kind: "url", base }, "q4a32", "import", ignore);
          const draft = await engine.readDataset({ kind: "example" }, "read", ignore);
          const { id, rows: count } = await engine.storeDataset(draft.id, draft.name);
          const { rows } = await engine.datasetRows(id, { from: 0, count });
          const isAsked = (row: (typeof rows)[number]) =>
            row.messages.some(({ parts }) => parts.some((p) => p.type === "text" && asked.includes(p.text)));
          const kept = rows.filter((row) => isAsked(row) && row.part === "train").slice(0, 24);
          kept.push(...rows.filter((row) => isAsked(row) && row.part === "heldBack").slice(0, heldBack));
          const gone = rows.filter((row) => !kept.includes(row)).map((row) => row.id);
          await engine.editDataset(id, { kind: "delete", ids: gone });
          const settings = {
            ...(await engine.defaultTrainSettings()),
            ...{ optimizer: "adamw" as const, learningRate: 0.008, warmup: 0, schedule: "constant" as const },
            ...{ batchSize: 2, accumulation: 1, maxSteps: 10, evaluateEvery: 10, saveEvery: 100 },
          };
          return await engine.startRun(model.id, id, settings, { name: "titles", patience: 0 }, "run", ignore);
        },
        { asked: ASKED, heldBack: HELD_BACK, base: `${app.origin}/demo/` },
      );
      expect(run).toMatchObject({ state: "finished", steps: 10 });
      expect(run.log).toHaveLength(10);
      const [before, after] = [run.evaluations[0]!, run.evaluations.at(-1)!];
      expect(before.examples).toBe(HELD_BACK);
      expect(after.loss).toBeLessThan(before.loss / 3);
      expect(after.relaxed - before.relaxed).toBeGreaterThanOrEqual(0.3);
      expect(run.adapterId).toBeDefined();
    } finally {
      await app.close();
    }
  },
);
