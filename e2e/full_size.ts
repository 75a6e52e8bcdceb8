// npm run full-size -- DIR [--scheme q4a32] [--tokens 64] [--profile DIR] [--chrome-args "..."]: imports a checkpoint as a visitor's
// browser would, reloads the page, loads the model, and talks about a 448×448 picture. DIR holds safetensors or a pair of GGUF files.
// Prints one JSON object.
import { readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { GenerateResult, ImportPlan, ModelSource, WeightScheme } from "../src/api/index.ts";
import { capabilities, openApp } from "./browser.ts";
import { gpuMemory, watchMemory } from "./memory.ts";
import { askAboutPicture, importCheckpoint, reopen } from "./visit.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    scheme: { type: "string", default: "q4a32" },
    tokens: { type: "string", default: "64" },
    profile: { type: "string" },
    "chrome-args": { type: "string" },
  },
});
if (!positionals[0]) {
  console.error('usage: npm run full-size -- DIR [--scheme q4a32] [--tokens 64] [--profile DIR] [--chrome-args "..."]');
  process.exit(2);
}
const folder = resolve(positionals[0]);
const scheme = values.scheme as WeightScheme;
const weightFiles = readdirSync(folder).filter((name) => /\.(safetensors|gguf)$/.test(name));
const say = (line: string) => console.error(`[${(performance.now() / 1000).toFixed(1)} s] ${line}`);
const app = await openApp({
  engineOnly: true,
  chromeArgs: values["chrome-args"],
  folders: { "/checkpoint/": folder },
  ...(values.profile ? { profile: values.profile } : {}),
});
app.page.on("console", (message) => say(`page: ${message.text()}`));

try {
  const gpu = await capabilities(app.page);
  say(JSON.stringify(gpu));
  const gpuBefore = await gpuMemory();
  const source: ModelSource = { kind: "url", base: `${app.origin}/checkpoint/`, ...namedGguf(weightFiles) };
  const plan = await app.page.evaluate(
    async ({ source, scheme }): Promise<ImportPlan> => await tabtune.engine.planImport(source, scheme, "plan"),
    { source, scheme },
  );
  say(JSON.stringify(plan));

  let memory = await watchMemory(app.page);
  const importStart = performance.now();
  const record = await importCheckpoint(app, source, scheme);
  const importSeconds = (performance.now() - importStart) / 1000;
  const importPeak = await memory.stop();
  say(`imported in ${importSeconds.toFixed(1)} s`);

  const load = async () => {
    const seen = await reopen(app, record.id);
    const { loaded } = seen;
    say(`loaded in ${loaded.loadMilliseconds.toFixed(0)} ms: ${JSON.stringify(loaded.loadTimes)}`);
    return seen;
  };
  memory = await watchMemory(app.page);
  const first = await load();
  const loadPeak = await memory.stop();
  const gpuLoaded = await gpuMemory();
  // On the next visit it is known what suits the device.
  const { loaded, opened } = await load();

  // From opening the page to the first token about a picture.
  let visitSeconds = 0;
  const answers: GenerateResult[] = [];
  // The first answer compiles the kernels; the second is what a visitor sees from then on.
  for (const question of ["What is shown?", "Which bar is the highest?"]) {
    const { answer, firstToken } = await askAboutPicture(app, loaded, question, Number(values.tokens));
    if (answers.length === 0) visitSeconds = (firstToken - opened) / 1000;
    say(JSON.stringify(answer.stats));
    answers.push(answer);
  }

  const bytesRead = weightFiles.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  const report = {
    gpu,
    format: record.format ?? "safetensors",
    scheme,
    parameters: record.parameters,
    checkpointBytes: bytesRead,
    storedBytes: record.bytesStored,
    importSeconds,
    importMegabytesPerSecond: bytesRead / 1e6 / importSeconds,
    importPeak,
    loadSeconds: [first.loaded.loadMilliseconds / 1000, loaded.loadMilliseconds / 1000],
    loadTimes: [first.loaded.loadTimes, loaded.loadTimes],
    visitSeconds,
    loadPeak,
    gpuBytesByLedger: loaded.gpuBytes,
    ledger: loaded.ledger,
    gpuBytesByNvidiaSmi: { before: gpuBefore, loaded: gpuLoaded, answered: await gpuMemory() },
    contextLength: loaded.contextLength,
    answers: answers.map(({ finish, stats, text }) => ({ finish, ...stats, characters: text.length })),
    notes: loaded.notes,
  };
  console.log(JSON.stringify(report, undefined, 1));
  process.exitCode = answers.every((answer) => answer.stats.newTokens > 0) ? 0 : 1;
} finally {
  await app.close();
}

/** A server that cannot be asked for a list must be told which GGUF files to read. */
function namedGguf(files: string[]): { gguf?: { language: string; vision: string } } {
  const gguf = files.filter((name) => name.endsWith(".gguf"));
  const vision = gguf.find((name) => name.includes("mmproj"));
  const language = gguf.find((name) => name !== vision);
  if (!vision || !language) return {};
  if (gguf.length > 2) throw new Error(`expected one pair of GGUF files, found ${gguf.join(", ")}`);
  return { gguf: { language, vision } };
}
