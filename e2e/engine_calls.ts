import type { Page } from "playwright-core";
import type {
  GenerateEvent,
  GenerateResult,
  LoadedModel,
  ModelRecord,
  ModelSource,
  Sampling,
} from "../src/api/index.ts";

/** How a call ended: its value, or the error's code and message. Errors lose their name on the way out of the page. */
export type Outcome<T> = { value: T; error?: undefined } | { value?: undefined; error: string; message: string };

/** Imports a checkpoint, weights as they are. */
export async function importSource(page: Page, source: ModelSource): Promise<Outcome<ModelRecord>> {
  return await page.evaluate(async (source): Promise<Outcome<ModelRecord>> => {
    const ignore = tabtune.callback(() => undefined);
    return await tabtune.engine.importModel(source, "bf16", "import", ignore).then(
      (value) => ({ value }),
      (error: Error) => ({ error: error.name, message: error.message }),
    );
  }, source);
}

export const importUrl = (page: Page, base: string) => importSource(page, { kind: "url", base });

export async function loadModel(page: Page, id: string, contextLength = 1024): Promise<Outcome<LoadedModel>> {
  return await page.evaluate(
    async ({ id, contextLength }): Promise<Outcome<LoadedModel>> => {
      const ignore = tabtune.callback(() => undefined);
      return await tabtune.engine.loadModel(id, { contextLength }, "load", ignore).then(
        (value) => ({ value }),
        (error: Error) => ({ error: error.name, message: error.message }),
      );
    },
    { id, contextLength },
  );
}

/** Models in storage, with their state. */
export async function storedModels(page: Page): Promise<ModelRecord[]> {
  return await page.evaluate(async (): Promise<ModelRecord[]> => await tabtune.engine.listModels());
}

export interface Asked {
  question: string;
  /** Addresses of pictures to show before the question. */
  pictures?: string[];
  maxPixels?: number;
  sampling?: Partial<Sampling>;
  /** Destroy the GPU device when this many pieces of text have come. */
  loseDeviceAfter?: number;
}

/** Greedy unless said otherwise. */
export async function ask(page: Page, asked: Asked): Promise<Outcome<GenerateResult & { events: GenerateEvent[] }>> {
  return await page.evaluate(async (asked): Promise<Outcome<GenerateResult & { events: GenerateEvent[] }>> => {
    const events: GenerateEvent[] = [];
    const onEvent = tabtune.callback((event: GenerateEvent) => {
      events.push(event);
      if (event.type === "text" && events.filter(({ type }) => type === "text").length === asked.loseDeviceAfter)
        void (tabtune.engine as unknown as { debugLoseDevice(): Promise<void> }).debugLoseDevice();
    });
    const pictures = await Promise.all(
      (asked.pictures ?? []).map(async (url) => ({
        id: `${url} ${asked.maxPixels}`,
        name: url.split("/").at(-1)!,
        blob: await (await fetch(url)).blob(),
        ...(asked.maxPixels ? { maxPixels: asked.maxPixels } : {}),
      })),
    );
    const sampling: Sampling = {
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      seed: 0,
      maxTokens: 8,
      stop: [],
      ...asked.sampling,
    };
    const parts = [
      ...pictures.map(({ id }) => ({ type: "image" as const, pictureId: id })),
      { type: "text" as const, text: asked.question },
    ];
    const request = { messages: [{ role: "user" as const, parts }], pictures, sampling };
    return await tabtune.engine.generate(request, `ask ${asked.question}`, onEvent).then(
      (result) => ({ value: { ...result, events } }),
      (error: Error) => ({ error: error.name, message: error.message }),
    );
  }, asked);
}
