import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ModelRecord, WeightScheme } from "../src/api/index.ts";
import { type App, openApp } from "./browser.ts";
import { ask, importSource, loadModel } from "./engine_calls.ts";

/** A test set as scripts/demo/write_charts.py writes it: charts.json and a PNG a chart. */
export interface Chart {
  file: string;
  kind: string;
  questions: Question[];
}

interface Question {
  about: string;
  question: string;
  answer: string;
}

export interface Marked extends Question {
  file: string;
  kind: string;
  found: string;
  relaxed: boolean;
  exact: boolean;
}

const CHARTS = "/charts/";
const MODEL = "/checkpoint/";

/** The app with a model and a set of charts beside it. The page's own demo is kept away, so that nothing takes the model's place. */
export const openDemo = (model: string, charts: string, chromeArgs?: string): Promise<App> =>
  openApp({ engineOnly: true, chromeArgs, folders: { [CHARTS]: charts, [MODEL]: model } });

/** The charts of a folder, the kinds in turn, so that the first few hold every kind. */
export function readCharts(folder: string): Chart[] {
  const charts: Chart[] = JSON.parse(readFileSync(join(folder, "charts.json"), "utf8"));
  const kinds = [...new Set(charts.map(({ kind }) => kind))];
  const byKind = kinds.map((kind) => charts.filter((chart) => chart.kind === kind));
  const most = Math.max(...byKind.map((list) => list.length));
  return Array.from({ length: most }, (_, i) => byKind.flatMap((list) => list[i] ?? [])).flat();
}

const NUMERIC: readonly string[] = ["value", "count", "sum", "difference"];

/**
 * ChartQA's relaxed accuracy (Masry et al., 2022): a number may be 5 % off, a text must be equal but for case. The allowance holds for
 * questions about numbers only: within 5 % of a year there is every other year.
 */
function isRight({ about, answer }: Question, found: string): boolean {
  const text = found.trim();
  if (NUMERIC.includes(about) && text !== "" && Number.isFinite(Number(text)))
    return Math.abs(Number(text) - Number(answer)) <= 0.05 * Math.abs(Number(answer));
  return text.toLowerCase() === answer.toLowerCase();
}

/** Imports the model and loads it. Throws when either fails. */
export async function loadDemo({ page, origin }: App, scheme: WeightScheme = "q4a32"): Promise<ModelRecord> {
  const imported = await importSource(page, { kind: "url", base: `${origin}${MODEL}` }, scheme);
  if (!imported.value) throw new Error(`import: ${imported.error}: ${imported.message}`);
  const loaded = await loadModel(page, imported.value.id);
  if (!loaded.value) throw new Error(`load: ${loaded.error}: ${loaded.message}`);
  return imported.value;
}

/** Asks one question about one chart, greedy, in a conversation of its own. */
export async function askAbout({ page, origin }: App, { file, kind }: Chart, question: Question): Promise<Marked> {
  const asked = { question: question.question, pictures: [`${origin}${CHARTS}${file}`], sampling: { maxTokens: 16 } };
  const outcome = await ask(page, asked);
  if (!outcome.value) throw new Error(`${file}, ${question.question} ${outcome.error}: ${outcome.message}`);
  const found = outcome.value.text;
  const exact = found.trim().toLowerCase() === question.answer.toLowerCase();
  return { ...question, file, kind, found, relaxed: isRight(question, found), exact };
}
