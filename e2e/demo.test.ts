import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { App } from "./browser.ts";
import { askAbout, loadDemo, openDemo, readCharts } from "./demo_charts.ts";
import { ask } from "./engine_calls.ts";

const FOLDER = "e2e/demo_charts";
let app: App;
let parameters: number;

beforeAll(async () => {
  app = await openDemo("public/models/demo", FOLDER);
  ({ parameters } = await loadDemo(app));
});
afterAll(async () => await app?.close());

it("answers questions about fresh charts, in 4 bits", async () => {
  const charts = readCharts(FOLDER).slice(0, 4);
  expect(new Set(charts.map(({ kind }) => kind))).toEqual(new Set(["bar", "hbar", "line", "pie"]));
  const marked = [];
  for (const [i, chart] of charts.entries())
    for (let k = 0; k < 3; k++) marked.push(await askAbout(app, chart, chart.questions[(3 * i + k) % 8]!));
  expect(new Set(marked.map(({ about }) => about)).size).toBe(8);
  const wrong = marked
    .filter(({ relaxed }) => !relaxed)
    .map(({ file, question, answer, found }) => ({ file, question, answer, found }));
  // 80 % of 12: what the model must keep after quantization, with room for one whose rounding differs on another GPU.
  expect(wrong.length, JSON.stringify(wrong)).toBeLessThanOrEqual(2);
  expect(app.errors).toEqual([]);
});

it("says what it is, and its true size", async () => {
  const { value } = await ask(app.page, { question: "Who are you?", sampling: { maxTokens: 48 } });
  expect(value).toMatchObject({ finish: "stop" });
  expect(value!.text).toContain("TabTune demo");
  expect(value!.text).toContain(`${(parameters / 1e6).toFixed(2)} million parameters`);
  expect(readFileSync("public/models/demo/README.md", "utf8")).toContain(parameters.toLocaleString("en-US"));
});
