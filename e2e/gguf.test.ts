import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DebugApi, DebugRequest } from "../src/api/debug_protocol.ts";
import { type App, openApp } from "./browser.ts";
import { loadModel } from "./engine_calls.ts";
import { ggufPair, type PairSource, pairSource } from "./gguf_pair.ts";
import { colourPng } from "./png.ts";
import { RandomCheckpoint } from "./random_checkpoint.ts";
import { relativeL2 } from "./reference.ts";
import { ReferenceModel } from "./reference_model.ts";

/*
 * A pair of GGUF files in the mix of types that Q4_K_M has, from the files to logits, against the float64 model with the values that the files'
 * bytes stand for. Every type is kept exactly, so the tolerance is that of f32 (see shapes.test.ts).
 */
const TOLERANCE = 3e-5;

describe("a pair of GGUF files", () => {
  const checkpoint = new RandomCheckpoint({
    ...{ layers: 1, hidden: 256, heads: 4, kvHeads: 2, headDim: 64, ffn: 256, tied: true, vocabulary: 283 },
    vision: { depth: 1, hidden: 64, heads: 2, ffn: 64, taps: [0], positions: 16 },
  });
  const folder = mkdtempSync(join(tmpdir(), "gguf-"));
  let app: App;
  let source: PairSource;
  let values: Map<string, Float32Array>;

  beforeAll(async () => {
    source = await pairSource(checkpoint.files);
    const pair = ggufPair(source, (name) => {
      if (name.includes("visual")) return name.includes("patch_embed") ? "BF16" : "Q8_0";
      // Q5_K and Q4_0 stand for what other files mix in.
      if (/o_proj|gate|up/.test(name)) return name.includes("o_proj") ? "Q4_0" : "Q5_K";
      return /v_proj|down|embed/.test(name) ? "Q6_K" : "Q4_K";
    });
    expect(new Set(pair.types.values())).toEqual(new Set(["F32", "BF16", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0"]));
    values = pair.values;
    writeFileSync(join(folder, "tiny-Q4_K_M.gguf"), pair.language);
    writeFileSync(join(folder, "mmproj-tiny.gguf"), pair.vision);
    writeFileSync(join(folder, "preprocessor_config.json"), checkpoint.texts["preprocessor_config.json"]!);
    const png = colourPng(97, 61, (x, y) => [(x * 7) & 255, (y * 5 + x) & 255, (x * y) & 255]);
    writeFileSync(join(folder, "picture.png"), png);
    app = await openApp({ folders: { "/gguf/": folder }, engineOnly: true });
  });
  afterAll(async () => {
    await app?.close();
    checkpoint.remove();
    rmSync(folder, { recursive: true });
  });

  it("gives the logits of its own values", async () => {
    const base = `${app.origin}/gguf/`;
    const request: DebugRequest = {
      messages: [
        {
          role: "user",
          parts: [
            { type: "image", pictureId: "picture" },
            { type: "text", text: "What is shown, naïve reader?" },
          ],
        },
      ],
      pictures: [{ name: "picture", url: `${base}picture.png` }],
    };
    const gguf = { language: "tiny-Q4_K_M.gguf", vision: "mmproj-tiny.gguf" };
    const forward = await app.page.evaluate(
      async ({ base, gguf, request }) => {
        const engine = tabtune.engine as unknown as DebugApi;
        await engine.debugLoad({ base, kv: "f32", gguf });
        return await engine.debugForward(request);
      },
      { base, gguf, request },
    );
    const weights = new Map(
      [...values].map(([name, data]) => [name, { shape: source.weights.get(name)!.shape, data }]),
    );
    const model = new ReferenceModel(checkpoint.config, weights);
    const grids = forward.grid.map(([t, h, w]) => [t!, h!, w!] as const);
    const { logits } = model.prefill(forward.inputIds, grids, model.vision(forward.pixelValues, grids));
    expect(relativeL2(forward.logits, logits)).toBeLessThan(TOLERANCE);
  });

  it("opens as two files of a visitor's; one alone is refused with the name of what is missing", async () => {
    const outcome = await app.page.evaluate(async (base) => {
      const file = async (path: string) => ({ path, file: await (await fetch(base + path)).blob() });
      const files = [await file("tiny-Q4_K_M.gguf"), await file("mmproj-tiny.gguf")];
      const source = (n: number) => ({ kind: "files" as const, name: "dropped files", files: files.slice(0, n) });
      const refused = await tabtune.engine.planImport(source(1), "q4a32", "one").catch((error: Error) => error.message);
      const plan = await tabtune.engine.planImport(source(2), "q4a32", "two");
      const record = await tabtune.engine.importModel(
        source(2),
        "q4a32",
        "two",
        tabtune.callback(() => undefined),
      );
      return { refused, plan, record };
    }, `${app.origin}/gguf/`);
    expect(outcome.refused).toMatch(/tiny-Q4_K_M\.gguf is the language model alone.*Add the mmproj file/);
    expect(outcome.plan).toMatchObject({ name: "dropped files", licence: "apache-2.0" });
    expect(outcome.record).toMatchObject({ state: "complete" });
    expect(await loadModel(app.page, outcome.record.id)).toMatchObject({ value: { name: "dropped files" } });
  });
});
