import type { Page } from "playwright-core";
import type {
  GenerateEvent,
  GenerateResult,
  LoadedModel,
  Message,
  ModelRecord,
  ModelSource,
  Sampling,
  WeightScheme,
} from "../src/api/index.ts";

/** How a call ended: its value, or the error's code and message. Errors lose their name on the way out of the page. */
export type Outcome<T> = { value: T; error?: undefined } | { value?: undefined; error: string; message: string };

/** Imports a checkpoint, weights as they are unless another scheme is named. */
export async function importSource(
  page: Page,
  source: ModelSource,
  scheme: WeightScheme = "bf16",
): Promise<Outcome<ModelRecord>> {
  return await page.evaluate(
    async ({ source, scheme }): Promise<Outcome<ModelRecord>> => {
      const ignore = tabtune.callback(() => undefined);
      return await tabtune.engine.importModel(source, scheme, "import", ignore).then(
        (value) => ({ value }),
        (error: Error) => ({ error: error.name, message: error.message }),
      );
    },
    { source, scheme },
  );
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

/** Flips a bit in the first shard of a stored model. */
export async function damageShard(page: Page, id: string): Promise<void> {
  await page.evaluate(async (model) => {
    const done = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const database = await done(indexedDB.open("tabtune-weights"));
    const key = [model, "data", 0];
    const blob = (await done(database.transaction("shards").objectStore("shards").get(key))) as Blob;
    const bytes = new Uint8Array(await blob.arrayBuffer());
    bytes[bytes.length >> 1]! ^= 1;
    const change = database.transaction("shards", "readwrite");
    change.objectStore("shards").put(new Blob([bytes]), key);
    // Not when the request succeeded: a reload would still undo it.
    await new Promise((resolve, reject) => {
      change.oncomplete = resolve;
      change.onabort = () => reject(change.error);
    });
    database.close();
  }, id);
}

export interface Turn {
  messages: Message[];
  /** Pictures by the ids of the messages. */
  pictures: { id: string; url: string; minPixels?: number; maxPixels?: number }[];
  sampling?: Partial<Sampling>;
  /** Destroy the GPU device when this many pieces of text have come. */
  loseDeviceAfter?: number;
  /** Cancel when so many events of a kind have come: progress of a stage, or pieces of text. */
  cancelAfter?: { kind: "encoding" | "prefill" | "text"; count: number };
}

export type Answer = GenerateResult & {
  events: GenerateEvent[];
  /** From the cancel to the answer's end. */
  cancelMilliseconds?: number;
};

/** Greedy, 8 tokens, unless said otherwise. */
export async function generate(page: Page, turn: Turn): Promise<Outcome<Answer>> {
  return await page.evaluate(async (turn): Promise<Outcome<Answer>> => {
    const taskId = `answer ${Math.random()}`;
    const events: GenerateEvent[] = [];
    const kindOf = (event: GenerateEvent) => (event.type === "progress" ? event.stage : event.type);
    let cancelled = 0;
    const onEvent = tabtune.callback((event: GenerateEvent) => {
      events.push(event);
      const count = (kind: string) => events.filter((e) => kindOf(e) === kind).length;
      if (event.type === "text" && count("text") === turn.loseDeviceAfter)
        void (tabtune.engine as unknown as { debugLoseDevice(): Promise<void> }).debugLoseDevice();
      if (!cancelled && turn.cancelAfter && count(turn.cancelAfter.kind) >= turn.cancelAfter.count) {
        cancelled = performance.now();
        void tabtune.engine.cancel(taskId);
      }
    });
    const pictures = await Promise.all(
      turn.pictures.map(async ({ url, ...picture }) => ({
        ...picture,
        name: url.split("/").at(-1)!,
        blob: await (await fetch(url)).blob(),
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
      ...turn.sampling,
    };
    return await tabtune.engine.generate({ messages: turn.messages, pictures, sampling }, taskId, onEvent).then(
      (result) => ({
        value: { ...result, events, ...(cancelled ? { cancelMilliseconds: performance.now() - cancelled } : {}) },
      }),
      (error: Error) => ({ error: error.name, message: error.message }),
    );
  }, turn);
}

export interface Asked extends Pick<Turn, "sampling" | "loseDeviceAfter"> {
  question: string;
  /** Addresses of pictures to show before the question. */
  pictures?: string[];
  maxPixels?: number;
}

/** One question without a history. */
export async function ask(
  page: Page,
  { question, pictures = [], maxPixels, ...rest }: Asked,
): Promise<Outcome<Answer>> {
  const shown = pictures.map((url) => ({ id: `${url} ${maxPixels}`, url, ...(maxPixels ? { maxPixels } : {}) }));
  const parts = [
    ...shown.map(({ id }) => ({ type: "image" as const, pictureId: id })),
    { type: "text" as const, text: question },
  ];
  return await generate(page, { messages: [{ role: "user", parts }], pictures: shown, ...rest });
}
