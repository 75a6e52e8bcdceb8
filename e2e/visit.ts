// What a visitor does with a checkpoint, for tools that time it: imports it, comes back, loads it, asks about a picture.
import type { GenerateResult, LoadedModel, ModelRecord, ModelSource, WeightScheme } from "../src/api/index.ts";
import { type App, waitForApp } from "./browser.ts";

/** Says on the page's console how far it is. */
export async function importCheckpoint({ page }: App, source: ModelSource, scheme: WeightScheme): Promise<ModelRecord> {
  return await page.evaluate(
    async ({ source, scheme }): Promise<ModelRecord> => {
      let shown = 0;
      const onProgress = tabtune.callback((p: { phase: string; bytesDone: number; bytesTotal: number }) => {
        if (performance.now() < shown + 10_000) return;
        shown = performance.now();
        console.log(`${p.phase}: ${(p.bytesDone / 1e6).toFixed(0)} of ${(p.bytesTotal / 1e6).toFixed(0)} MB`);
      });
      return await tabtune.engine.importModel(source, scheme, "import", onProgress);
    },
    { source, scheme },
  );
}

/** Opens the page again and loads a stored model; `opened` is when, by this process's clock in milliseconds. */
export async function reopen({ page, errors }: App, id: string): Promise<{ loaded: LoadedModel; opened: number }> {
  const opened = performance.now();
  await page.reload();
  await waitForApp(page, errors);
  const loaded = await page.evaluate(
    async (id): Promise<LoadedModel> =>
      await tabtune.engine.loadModel(
        id,
        {},
        "load",
        tabtune.callback(() => undefined),
      ),
    id,
  );
  return { loaded, opened };
}

/** Asks about a square bar chart, greedily; `firstToken` is when it came, by the clock of `reopen`. */
export async function askAboutPicture(
  { page }: App,
  { defaults }: LoadedModel,
  question: string,
  maxTokens: number,
  side = 448,
): Promise<{ answer: GenerateResult; firstToken: number }> {
  const asked = performance.now();
  const answer = await page.evaluate(
    async ({ question, maxTokens, defaults, side }): Promise<GenerateResult> => {
      const canvas = new OffscreenCanvas(side, side);
      const draw = canvas.getContext("2d")!;
      draw.fillStyle = "white";
      draw.fillRect(0, 0, side, side);
      draw.scale(side / 448, side / 448);
      for (let bar = 0; bar < 5; bar++) {
        draw.fillStyle = ["#c33", "#3a3", "#36c", "#c80", "#939"][bar]!;
        const height = 60 + ((bar * 97 + question.length * 31) % 300);
        draw.fillRect(40 + bar * 80, 430 - height, 50, height);
      }
      const blob = await canvas.convertToBlob({ type: "image/png" });
      const picture = { id: question, name: "chart.png", blob };
      return await tabtune.engine.generate(
        {
          messages: [
            {
              role: "user",
              parts: [
                { type: "image", pictureId: picture.id },
                { type: "text", text: question },
              ],
            },
          ],
          pictures: [picture],
          sampling: { ...defaults, temperature: 0, maxTokens },
        },
        question,
        tabtune.callback(() => undefined),
      );
    },
    { question, maxTokens, defaults, side },
  );
  return { answer, firstToken: asked + answer.stats.firstTokenMilliseconds };
}
