import type { RunRecord } from "../src/api/index.ts";
import type { App } from "./browser.ts";

/** Titles alone, asked for in one way: what a software GPU can learn within minutes, whatever the seed. */
const ASKED = "Was steht oben?";

/** Charts that are learnt, each of them twice: encoding a picture takes as long as half a step. */
const CHARTS = 8;

/**
 * Trains the demo model on its example data set for eight steps of two rows.
 * @param base where the model is served; @param heldBack rows held back that are scored and answered before and afterwards
 */
export async function learnTitles(app: App, base: string, heldBack: number): Promise<RunRecord> {
  return await app.page.evaluate(
    async ({ asked, charts, heldBack, base }): Promise<RunRecord> => {
      const { engine, callback } = tabtune;
      const ignore = callback(() => undefined);
      const model = await engine.importModel({ kind: "url", base }, "bf16", "import", ignore);
      const draft = await engine.readDataset({ kind: "example" }, "read", ignore);
      const { id, rows: count } = await engine.storeDataset(draft.id, draft.name);
      const { rows } = await engine.datasetRows(id, { from: 0, count });
      const isAsked = (row: (typeof rows)[number]) =>
        row.messages.some(({ parts }) => parts.some((p) => p.type === "text" && p.text === asked));
      const kept = rows.filter((row) => isAsked(row) && row.part === "train").slice(0, charts);
      kept.push(...rows.filter((row) => isAsked(row) && row.part === "heldBack").slice(0, heldBack));
      const gone = rows.filter((row) => !kept.includes(row)).map((row) => row.id);
      await engine.editDataset(id, { kind: "delete", ids: gone });
      const settings = {
        ...(await engine.defaultTrainSettings()),
        ...{ optimizer: "adamw" as const, learningRate: 0.008, warmup: 0, schedule: "constant" as const },
        ...{ batchSize: 2, accumulation: 1, maxSteps: 8, evaluateEvery: 8, saveEvery: 100 },
      };
      return await engine.startRun(model.id, id, settings, { name: "titles", patience: 0 }, "run", ignore);
    },
    { asked: ASKED, charts: CHARTS, heldBack, base },
  );
}
