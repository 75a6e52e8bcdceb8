import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Message } from "../src/api/index.ts";
import { type App, openApp } from "./browser.ts";
import { SMALL_CHECKPOINT } from "./checkpoint.ts";
import { generate, importUrl, loadModel, storedModels, type Turn } from "./engine_calls.ts";
import { colourPng } from "./png.ts";

const LIMIT = 200;

describe.skipIf(!SMALL_CHECKPOINT)("a cancel is seen within 200 ms on a software GPU", () => {
  let app: App;
  const pictures = mkdtempSync(join(tmpdir(), "pictures-"));
  writeFileSync(
    join(pictures, "a.png"),
    colourPng(448, 448, (x, y) => [x & 255, y & 255, (x * y) & 255]),
  );
  beforeAll(async () => {
    app = await openApp({ engineOnly: true, folders: { "/model/": SMALL_CHECKPOINT!, "/pictures/": pictures } });
    const model = await importUrl(app.page, `${app.origin}/model/`);
    expect(await loadModel(app.page, model.value!.id, 2048)).toMatchObject({ value: {} });
    // Compiles the shaders and learns the device's pace.
    await generate(app.page, turn("encoding", "first", 0));
  });
  afterAll(async () => {
    await app?.close();
    rmSync(pictures, { recursive: true });
  });

  function turn(kind: "encoding" | "prefill" | "text", id: string, count: number): Turn {
    // Digits are tokens of their own in every tokenizer: more than one chunk of 512.
    const text = { type: "text" as const, text: `${id} ${"7 ".repeat(kind === "prefill" ? 600 : 1)}` };
    const isSeen = kind === "encoding";
    const parts: Message["parts"] = isSeen ? [{ type: "image", pictureId: id }, text] : [text];
    return {
      messages: [{ role: "user", parts }],
      pictures: isSeen ? [{ id, url: `${app.origin}/pictures/a.png` }] : [],
      sampling: { maxTokens: 200 },
      ...(count > 0 ? { cancelAfter: { kind, count } } : { sampling: { maxTokens: 12 } }),
    };
  }

  it("while a model is imported", async () => {
    const times: number[] = [];
    for (let i = 0; i < 3; i++) {
      const { name, milliseconds } = await app.page.evaluate(async (base) => {
        let cancelled = 0;
        const onProgress = tabtune.callback(({ bytesDone }: { bytesDone: number }) => {
          if (cancelled || bytesDone === 0) return;
          cancelled = performance.now();
          void tabtune.engine.cancel("import");
        });
        return await tabtune.engine.importModel({ kind: "url", base }, "q4a64", "import", onProgress).then(
          () => ({ name: "imported", milliseconds: 0 }),
          (error: Error) => ({ name: error.name, milliseconds: performance.now() - cancelled }),
        );
      }, `${app.origin}/model/`);
      expect(name).toBe("Cancelled");
      times.push(milliseconds);
    }
    expect(Math.min(...times)).toBeLessThan(LIMIT);
  });

  it.each(["encoding", "prefill", "text"] as const)("while %s comes", async (kind) => {
    const times: number[] = [];
    // The least of three: other programs may have the processors for a while.
    for (let i = 0; i < 3; i++) {
      const { value } = await generate(app.page, turn(kind, `${kind} ${i}`, kind === "prefill" ? 1 : 3));
      expect(value?.finish).toBe("cancelled");
      expect(value!.stats.newTokens).toBeLessThan(200);
      if (kind === "encoding") expect(value!.events.filter((e) => e.type === "text")).toEqual([]);
      times.push(value!.cancelMilliseconds!);
    }
    expect(Math.min(...times)).toBeLessThan(LIMIT);
    // And the next answer is not disturbed.
    const after = await generate(app.page, turn("text", "after", 0));
    expect(after.value).toMatchObject({ stats: { newTokens: expect.any(Number) } });
    expect(after.value!.finish).not.toBe("cancelled");
  });

  it("while a model is loaded", async () => {
    const times: number[] = [];
    // The import that was cancelled left a part of one.
    const id = (await storedModels(app.page)).find(({ state }) => state === "complete")!.id;
    for (let i = 0; i < 3; i++) {
      const { name, milliseconds } = await app.page.evaluate(async (id) => {
        // At once, since a small model may be there before its first progress is seen.
        const loading = tabtune.engine.loadModel(
          id,
          { contextLength: 2048 },
          "load",
          tabtune.callback(() => {}),
        );
        const cancelled = performance.now();
        void tabtune.engine.cancel("load");
        return await loading.then(
          () => ({ name: "loaded", milliseconds: 0 }),
          (error: Error) => ({ name: error.name, milliseconds: performance.now() - cancelled }),
        );
      }, id);
      expect(name).toBe("Cancelled");
      times.push(milliseconds);
    }
    expect(Math.min(...times)).toBeLessThan(LIMIT);
    expect(await loadModel(app.page, id, 2048)).toMatchObject({ value: {} });
    expect((await generate(app.page, turn("text", "after", 0))).value?.finish).not.toBe("cancelled");
  });
});
