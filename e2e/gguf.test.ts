import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Locator } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DebugApi, DebugRequest } from "../src/api/debug_protocol.ts";
import { type App, openApp } from "./browser.ts";
import { ggufPair, type PairSource, pairSource } from "./gguf_pair.ts";
import { colourPng } from "./png.ts";
import { RandomCheckpoint } from "./random_checkpoint.ts";
import { relativeL2 } from "./reference.ts";
import { ReferenceModel } from "./reference_model.ts";
import { answered, answers, box, dropFromDisk, limitAnswers, PATIENCE } from "./visitor.ts";

/*
 * A pair of GGUF files in the mix of types that Q4_K_M has, from the files to logits, against the float64 model with the values that the files'
 * bytes stand for. Every type is kept exactly, so the tolerance is that of f32 (see shapes.test.ts).
 */
const TOLERANCE = 3e-5;

describe("a pair of GGUF files of a thinking model", () => {
  const checkpoint = new RandomCheckpoint(
    {
      ...{ layers: 1, hidden: 256, heads: 4, kvHeads: 2, headDim: 64, ffn: 256, tied: false, vocabulary: 283 },
      vision: { depth: 1, hidden: 64, heads: 2, ffn: 64, taps: [0], positions: 16 },
    },
    { isThinking: true, isPrintable: true },
  );
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

  /** Changes something in the settings of the open chat. */
  const settings = async (change: (dialog: Locator) => Promise<void>) => {
    await app.page.getByRole("button", { name: "System prompt and sampling" }).click();
    const dialog = app.page.getByRole("dialog", { name: "Settings of this chat" });
    await change(dialog);
    await dialog.getByRole("button", { name: "Done" }).click();
    await dialog.waitFor({ state: "detached" });
  };

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

  it("is dropped on the page, refused while half of it is missing, and answers", async () => {
    const { page } = app;
    await page.goto(`${app.url}#/models`);
    const card = page.locator("section", { has: page.getByRole("heading", { name: "Get a model" }) });
    await card.getByText("Folder", { exact: true }).click();
    const give = async (...names: string[]) => {
      await card.locator(".drop-folder").scrollIntoViewIfNeeded();
      const files = names.map((name) => join(folder, name));
      await dropFromDisk(page, card.locator(".drop-folder"), files);
      await card.getByRole("button", { name: "Show what it takes" }).click();
    };
    await give("tiny-Q4_K_M.gguf");
    await card.getByText(/tiny-Q4_K_M\.gguf is the language model alone.*Add the mmproj file/).waitFor();
    await give("tiny-Q4_K_M.gguf", "mmproj-tiny.gguf");
    const plan = card.getByRole("region", { name: "Import of dropped files" });
    expect(await plan.getByRole("row", { name: "Licence" }).textContent()).toContain("apache-2.0");
    await plan.getByRole("button", { name: "Import" }).click();
    await page.locator(".chip-name", { hasText: "dropped files" }).waitFor({ timeout: PATIENCE });
    await page.goto(`${app.url}#/`);
    await limitAnswers(page, 12);
    await settings(async (dialog) => await dialog.getByRole("checkbox", { name: /Greedy/ }).check());
    await box(page).fill("What is it?");
    await box(page).press("Enter");
    await answered(page, 1);
    expect(await page.locator(".stats").textContent()).toMatch(/decode/);
  });

  it("thinks folded, for as long as its budget allows", async () => {
    const { page } = app;
    const thoughts = page.locator("details.thoughts");
    // Cut off inside its thoughts: none of them is taken for the answer.
    expect(await thoughts.locator("summary").textContent()).toBe("Thoughts");
    expect(await thoughts.getAttribute("open")).toBeNull();
    expect(await answers(page).locator(".markdown").count()).toBe(0);
    const unbounded = await thoughts.locator(".thoughts-text").textContent();

    await settings(async (dialog) => {
      const budget = dialog.getByRole("spinbutton", { name: /Most tokens of its thoughts/ });
      await budget.fill("4");
      await budget.press("Tab");
    });
    await page.getByRole("button", { name: "Answer again" }).click();
    await answers(page).waitFor({ state: "detached" });
    await answered(page, 1);
    // Each token is one character; the same thoughts, ended after four, and then the answer.
    const bounded = await thoughts.locator(".thoughts-text").textContent();
    expect(unbounded!.length).toBeGreaterThan(4);
    expect(bounded).toBe(unbounded!.slice(0, 4).trim());
    expect(await answers(page).locator(".markdown").textContent()).not.toBe("");
  });
});
