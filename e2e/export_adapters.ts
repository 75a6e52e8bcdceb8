// npm run export-adapters -- DIR --out OUT [--steps 4] [--only language,...] [--chrome-args "..."]: trains adapters in the page on the
// checkpoint of a folder written by make_reference.py and writes all that the page makes of them, with the page's own logits:
// OUT/<adapter>/{adapter.zip,merged.zip,lora.gguf,<case>.f32}. scripts/check_adapters.py loads them in PEFT, transformers and gguf.
import { mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { DebugApi, DebugRequest } from "../src/api/debug_protocol.ts";
import type { AdapterForm, ExportProof, MergedModel, RunRecord, TrainSettings } from "../src/api/index.ts";
import { DEFAULT_SETTINGS } from "../src/train/settings.ts";
import { type App, openApp } from "./browser.ts";
import { importUrl } from "./engine_calls.ts";
import { debugRequest } from "./parity_cases.ts";
import { openReference, type Reference, relativeL2 } from "./reference.ts";
import { loadReference } from "./train_parity_case.ts";

declare global {
  /** In the page: what is saved next. */
  var made: Blob;
}

const LANGUAGE = DEFAULT_SETTINGS.lora.parts;
const EVERYTHING = {
  languageAttention: true,
  languageMlp: true,
  visionAttention: true,
  visionMlp: true,
  mergers: true,
};
const KINDS: Record<string, TrainSettings["lora"]> = {
  language: { r: 8, alpha: 16, rslora: false, parts: LANGUAGE },
  rslora: { r: 8, alpha: 16, rslora: true, parts: LANGUAGE },
  attention: { r: 4, alpha: 4, rslora: false, parts: { ...LANGUAGE, languageMlp: false } },
  everything: { r: 8, alpha: 8, rslora: true, parts: EVERYTHING },
};
/** Cases of the reference whose logits are written: one without and one with a picture. */
const CASES = ["text", "image"];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: "string" },
    steps: { type: "string", default: "4" },
    only: { type: "string", default: Object.keys(KINDS).join(",") },
    "chrome-args": { type: "string" },
  },
});
const kinds = values.only.split(",");
if (!positionals[0] || !values.out || kinds.some((kind) => !(kind in KINDS))) {
  console.error('usage: npm run export-adapters -- DIR --out OUT [--steps 4] [--only kind,...] [--chrome-args "..."]');
  console.error(`kinds: ${Object.keys(KINDS).join(", ")}`);
  process.exit(2);
}
const out = resolve(values.out);

/** Rows of the reference's training run as a folder that somebody drops. @returns the data set's id */
async function storeRows(app: App, { train }: Reference, base: string): Promise<string> {
  const rows = train.data.map(({ image, question, answer }) => {
    const content = [...(image ? [{ type: "image", image: `${image}.png` }] : []), { type: "text", text: question }];
    return JSON.stringify({
      messages: [
        { role: "user", content },
        { role: "assistant", content: answer },
      ],
    });
  });
  const names = [...new Set(train.data.flatMap(({ image }) => (image ? [`${image}.png`] : [])))];
  return await app.page.evaluate(
    async ({ jsonl, names, base }): Promise<string> => {
      const { engine, callback } = tabtune;
      const files = [{ path: "data.jsonl", file: new Blob([jsonl]) }];
      for (const path of names) files.push({ path, file: await (await fetch(`${base}images/${path}`)).blob() });
      const ignore = callback(() => undefined);
      const draft = await engine.readDataset({ kind: "files", name: "rows", files }, "read", ignore);
      if (draft.issueCount > 0) throw new Error(`the rows could not be read: ${JSON.stringify(draft.issues)}`);
      const { id } = await engine.storeDataset(draft.id, "rows");
      // Nothing is held back: the adapter is the last one, not the best one.
      await engine.editDataset(id, { kind: "split", split: { kind: "random", seed: 1, heldBack: 0 } });
      return id;
    },
    { jsonl: rows.join("\n"), names, base },
  );
}

/** A short run with a rate so high that the adapter changes every answer. */
async function train(app: App, modelId: string, dataset: string, lora: TrainSettings["lora"]): Promise<RunRecord> {
  return await app.page.evaluate(
    async ({ modelId, dataset, lora, steps }): Promise<RunRecord> => {
      const { engine, callback } = tabtune;
      const settings: TrainSettings = {
        ...(await engine.defaultTrainSettings()),
        ...{ lora, learningRate: 0.02, warmup: 0, schedule: "constant" as const, batchSize: 2, accumulation: 1 },
        ...{ maxSteps: steps, saveEvery: 1000, evaluateEvery: 1000 },
      };
      const ignore = callback(() => undefined);
      return await engine.startRun(modelId, dataset, settings, { name: "run", patience: 0 }, "run", ignore);
    },
    { modelId, dataset, lora, steps: Number(values.steps) },
  );
}

/** Saves the blob that the page has left in `made`, in the way in which the app offers files to a visitor. */
async function saveMade(app: App, path: string): Promise<void> {
  const download = app.page.waitForEvent("download");
  await app.page.evaluate(() => {
    const link = document.createElement("a");
    Object.assign(link, { href: URL.createObjectURL(globalThis.made), download: "made" });
    link.click();
  });
  await (await download).saveAs(path);
}

/** Logits of a case with whatever adapter is on, [tokens, vocabulary]. */
async function saveLogits(app: App, request: DebugRequest, path: string): Promise<Float32Array> {
  await app.page.evaluate(async (request) => {
    const { logits } = await (tabtune.engine as unknown as DebugApi).debugForward(request);
    globalThis.made = new Blob([logits]);
  }, request);
  await saveMade(app, path);
  return new Float32Array(Uint8Array.from(readFileSync(path)).buffer);
}

async function saveExports(app: App, adapterId: string, base: string, folder: string, forms: AdapterForm[]) {
  const proofs: (ExportProof | MergedModel["proof"])[] = [];
  for (const form of forms) {
    const proof = await app.page.evaluate(
      async ({ adapterId, form }): Promise<ExportProof | undefined> => {
        const { blob, proof } = await tabtune.engine.exportAdapter(adapterId, form, "export");
        globalThis.made = blob;
        return proof;
      },
      { adapterId, form },
    );
    proofs.push(proof);
    await saveMade(app, join(folder, form === "gguf" ? "lora.gguf" : "adapter.zip"));
  }
  const proof = await app.page.evaluate(
    async ({ adapterId, base }): Promise<MergedModel["proof"]> => {
      const { engine, callback } = tabtune;
      const ignore = callback(() => undefined);
      const merged = await engine.exportMerged({ kind: "url", base }, adapterId, undefined, "merge", ignore);
      globalThis.made = merged.zip!;
      return merged.proof;
    },
    { adapterId, base: `${base}checkpoint/` },
  );
  await saveMade(app, join(folder, "merged.zip"));
  return [...proofs, proof];
}

const reference = openReference(resolve(positionals[0]));
const app = await openApp({
  engineOnly: true,
  chromeArgs: values["chrome-args"],
  folders: { "/reference/": reference.folder },
});
try {
  const base = `${app.origin}/reference/`;
  const model = await importUrl(app.page, `${base}checkpoint/`);
  if (model.error) throw new Error(model.message);
  const dataset = await storeRows(app, reference, base);
  const runs: { kind: string; run: RunRecord }[] = [];
  for (const kind of kinds) runs.push({ kind, run: await train(app, model.value!.id, dataset, KINDS[kind]!) });
  // Again, with a cache that rounds nothing.
  await loadReference(app, base);
  const requests = CASES.map((name) => [name, debugRequest(reference.cases[name]!, base)] as const);
  const before = new Map<string, Float32Array>();
  mkdirSync(out, { recursive: true });
  for (const [name, request] of requests) before.set(name, await saveLogits(app, request, join(out, `${name}.f32`)));
  for (const { kind, run } of runs) {
    const folder = join(out, kind);
    mkdirSync(folder, { recursive: true });
    const forms: AdapterForm[] = kind === "everything" ? ["peft"] : ["peft", "gguf"];
    const proofs = await saveExports(app, run.adapterId!, base, folder, forms);
    await app.page.evaluate(async (id) => await tabtune.engine.useAdapter(id), run.adapterId);
    const changed: Record<string, number> = {};
    for (const [name, request] of requests) {
      const logits = await saveLogits(app, request, join(folder, `${name}.f32`));
      changed[name] = relativeL2(logits, before.get(name)!);
    }
    await app.page.evaluate(async () => await tabtune.engine.useAdapter(undefined));
    console.log(JSON.stringify({ kind, losses: run.log.map(({ loss }) => loss), changed, proofs }));
  }
} finally {
  await app.close();
}
