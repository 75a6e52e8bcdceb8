// npm run demo-accuracy -- [--count N] [--dir DIR] [--model DIR] [--scheme q4a32] [--json FILE] [--chrome-args "..."]: the demo model answers questions about
// fresh charts in headless Chromium, greedy, each in a conversation of its own. Prints accuracy by kind of chart and question, then one line of JSON.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { capabilities } from "./browser.ts";
import { askAbout, loadDemo, type Marked, openDemo, readCharts } from "./demo_charts.ts";

const SCHEMES = ["q4a32", "q4a64", "bf16"] as const;

const { values } = parseArgs({
  options: {
    /** Questions at most; the kinds of chart come in turn. */
    count: { type: "string" },
    /** A folder that scripts/demo/write_charts.py wrote. */
    dir: { type: "string", default: "e2e/demo_charts" },
    model: { type: "string", default: "public/models/demo" },
    scheme: { type: "string", default: "q4a32" },
    json: { type: "string" },
    "chrome-args": { type: "string" },
  },
});
const scheme = SCHEMES.find((name) => name === values.scheme);
const count = values.count === undefined ? Number.POSITIVE_INFINITY : Number(values.count);
if (!scheme || !(count > 0)) {
  console.error(
    `usage: npm run demo-accuracy -- [--count N] [--dir DIR] [--model DIR] [--scheme ${SCHEMES.join("|")}] [--json FILE] [--chrome-args "..."]`,
  );
  process.exit(2);
}

const percent = (marks: boolean[]) => Math.round((1000 * marks.filter(Boolean).length) / marks.length) / 10;
const charts = readCharts(values.dir);
const app = await openDemo(values.model, values.dir, values["chrome-args"]);
try {
  const gpu = await capabilities(app.page);
  if (!gpu.ok) throw new Error(`no GPU: ${gpu.found}`);
  const { parameters } = await loadDemo(app, scheme);
  const started = performance.now();
  const marked: Marked[] = [];
  for (const chart of charts) {
    for (const question of chart.questions) {
      if (marked.length >= count) break;
      const mark = await askAbout(app, chart, question);
      marked.push(mark);
      if (!mark.relaxed) console.error(`wrong: ${mark.file}, ${mark.question} ${mark.answer}, found ${mark.found}`);
    }
  }
  const kinds = [...new Set(marked.map(({ kind }) => kind))];
  const abouts = [...new Set(marked.map(({ about }) => about))];
  const cell = (kind: string | undefined, about: string | undefined) =>
    marked.filter((m) => (!kind || m.kind === kind) && (!about || m.about === about)).map(({ relaxed }) => relaxed);
  const table = Object.fromEntries(
    kinds.map((kind) => [
      kind,
      Object.fromEntries(abouts.map((about) => [about, percent(cell(kind, about))] as const)),
    ]),
  );
  const report = {
    date: new Date().toISOString(),
    gpu: `${gpu.vendor} ${gpu.architecture} ${gpu.description}`.trim(),
    browser: app.context.browser()?.version(),
    scheme,
    parameters,
    set: values.dir,
    questions: marked.length,
    seconds: Math.round((performance.now() - started) / 1000),
    relaxed: percent(cell(undefined, undefined)),
    exact: percent(marked.map(({ exact }) => exact)),
    table,
  };
  const rows = [
    ["", ...abouts, "all"],
    ...kinds.map((kind) => [
      kind,
      ...abouts.map((about) => percent(cell(kind, about))),
      percent(cell(kind, undefined)),
    ]),
    ["all", ...abouts.map((about) => percent(cell(undefined, about))), report.relaxed],
  ];
  for (const row of rows) console.log(row.map((entry) => String(entry).padStart(11)).join(""));
  console.log(
    `${report.relaxed} % right (${report.exact} % exactly) of ${report.questions} questions, ${scheme}, ${report.gpu}, ${report.seconds} s`,
  );
  console.log(JSON.stringify(report));
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ ...report, answers: marked }, null, 1)}\n`);
} finally {
  await app.close();
}
