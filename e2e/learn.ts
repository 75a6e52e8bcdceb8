// npm run learn -- [--settings '{"epochs":2}'] [--only "Was steht oben?,…"] [--json F] [--chrome-args "..."]: trains the demo model on the app's own example data set
// as a visitor would, and prints the curve: loss of each step, scores on the charts held back before, during and after.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { RunEvent, RunRecord } from "../src/api/index.ts";
import { capabilities, openApp } from "./browser.ts";

const { values } = parseArgs({
  options: {
    settings: { type: "string" },
    only: { type: "string" },
    json: { type: "string" },
    "chrome-args": { type: "string" },
  },
});
const app = await openApp({ chromeArgs: values["chrome-args"] });
app.page.on("console", (message) => message.type() === "info" && console.log(message.text()));
try {
  const gpu = await capabilities(app.page);
  const started = performance.now();
  const run = await app.page.evaluate(
    async ({ settings, only }): Promise<RunRecord> => {
      const { engine, callback } = tabtune;
      const ignore = callback(() => undefined);
      let model = (await engine.listModels()).find(({ state }) => state === "complete");
      while (!model) {
        await new Promise((resolve) => setTimeout(resolve, 200));
        model = (await engine.listModels()).find(({ state }) => state === "complete");
      }
      const draft = await engine.readDataset({ kind: "example" }, "read", ignore);
      let dataset = await engine.storeDataset(draft.id, draft.name);
      if (only.length > 0) {
        const { rows } = await engine.datasetRows(dataset.id, { from: 0, count: dataset.rows });
        const others = rows.filter(
          ({ messages }) =>
            !messages.some(({ parts }) => parts.some((p) => p.type === "text" && only.includes(p.text))),
        );
        dataset = await engine.editDataset(dataset.id, { kind: "delete", ids: others.map(({ id }) => id) });
      }
      const chosen = { ...(await engine.defaultTrainSettings()), ...settings };
      const onEvent = callback((event: RunEvent) => {
        if (event.type === "step") console.info(JSON.stringify(event.record));
        else if (event.type === "evaluation") console.info(JSON.stringify({ ...event.record, samples: undefined }));
        else if (event.type === "note") console.info(event.message);
      });
      return await engine.startRun(model.id, dataset.id, chosen, { name: "example", patience: 0 }, "run", onEvent);
    },
    { settings: JSON.parse(values.settings ?? "{}"), only: (values.only ?? "").split(",").filter(Boolean) },
  );
  const seconds = (performance.now() - started) / 1000;
  const report = { gpu, seconds, ...run };
  if (values.json) writeFileSync(values.json, `${JSON.stringify(report, undefined, 1)}\n`);
  const [first, last] = [run.evaluations[0]!, run.evaluations.at(-1)!];
  console.log(`relaxed accuracy ${first.relaxed} → ${last.relaxed}, loss ${first.loss} → ${last.loss}, ${seconds} s`);
} finally {
  await app.close();
}
