import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GenerateEvent, Message, Sampling } from "../src/api/index.ts";
import { type App, openApp } from "./browser.ts";
import { generate, importUrl, loadModel, type Outcome, type Turn } from "./engine_calls.ts";
import { colourPng } from "./png.ts";
import { RandomCheckpoint } from "./random_checkpoint.ts";

/* How answers come about, through the page's engine: a small random model that writes printable characters, one byte a token. */

const checkpoint = new RandomCheckpoint(
  {
    ...{ layers: 2, hidden: 64, heads: 4, kvHeads: 2, headDim: 32, ffn: 128, tied: false, vocabulary: 263 },
    vision: { depth: 2, hidden: 64, heads: 2, ffn: 96, taps: [0, 1], positions: 64 },
  },
  { isPrintable: true },
);
const pictures = mkdtempSync(join(tmpdir(), "pictures-"));
for (const [name, size] of Object.entries({ a: 128, b: 192 })) {
  writeFileSync(
    join(pictures, `${name}.png`),
    colourPng(size, size, (x, y) => [x & 255, y & 255, (x * y) & 255]),
  );
}

const system = (text: string): Message => ({ role: "system", parts: [{ type: "text", text }] });
const user = (text: string, ...ids: string[]): Message => ({
  role: "user",
  parts: [...ids.map((pictureId) => ({ type: "image" as const, pictureId })), { type: "text", text }],
});
const assistant = (text: string): Message => ({ role: "assistant", parts: [{ type: "text", text }] });
const encoded = (events: GenerateEvent[]) => events.some((e) => e.type === "progress" && e.stage === "encoding");
const value = <T>(outcome: Outcome<T>): T => {
  expect(outcome).toMatchObject({ value: {} });
  return outcome.value!;
};

describe("answers", () => {
  let app: App;
  let model: string;
  beforeAll(async () => {
    app = await openApp({ engineOnly: true, folders: { "/model/": checkpoint.folder, "/pictures/": pictures } });
    model = value(await importUrl(app.page, `${app.origin}/model/`)).id;
    value(await loadModel(app.page, model));
  });
  afterAll(async () => {
    await app?.close();
    checkpoint.remove();
    rmSync(pictures, { recursive: true });
  });

  const answer = async (turn: Omit<Turn, "pictures"> & { pictures?: Turn["pictures"] }) =>
    value(await generate(app.page, { pictures: [], ...turn }));
  const shown = (id: string, more: object = {}) => ({ id, url: `${app.origin}/pictures/${id}.png`, ...more });

  describe("what the cache holds is not computed again", () => {
    const question = [system("Be brief."), user("What is it?", "a")];
    const seen = () => ({ pictures: [shown("a")] });

    it("the next turn prefills only what is new, and answers as a cold model does", async () => {
      const first = await answer({ messages: question, ...seen(), sampling: { maxTokens: 12 } });
      expect(first.stats.reusedTokens).toBe(0);
      expect(encoded(first.events)).toBe(true);
      const messages = [...question, assistant(first.text), user("And now?")];
      const next = await answer({ messages, ...seen(), sampling: { maxTokens: 12 } });
      // The question, and all of the answer but its last token, which no one has needed yet.
      expect(next.stats.reusedTokens).toBe(first.stats.promptTokens + first.stats.newTokens - 1);
      expect(encoded(next.events)).toBe(false);
      value(await loadModel(app.page, model));
      const cold = await answer({ messages, ...seen(), sampling: { maxTokens: 12 } });
      expect(cold.stats.reusedTokens).toBe(0);
      expect(cold.text).toBe(next.text);
    });

    it("an edit of an early turn keeps the pictures, and reuses what comes before it", async () => {
      await answer({ messages: question, ...seen() });
      const edited = await answer({ messages: [system("Be long!"), ...question.slice(1)], ...seen() });
      // "<|im_start|>system\nBe " and the end of the template's own words.
      expect(edited.stats.reusedTokens).toBe(1 + "system\nBe ".length);
      expect(encoded(edited.events)).toBe(false);
    });

    it("a picture at another budget is encoded anew, at a size already seen it is not", async () => {
      await answer({ messages: question, ...seen() });
      const small = await answer({ messages: question, pictures: [shown("a", { maxPixels: 64 * 64 })] });
      expect(encoded(small.events)).toBe(true);
      expect(small.events.find((e) => e.type === "pictures")?.pictures[0]).toMatchObject({
        width: 128,
        resizedWidth: 64,
        tokens: 4,
      });
      const large = await answer({ messages: question, pictures: [shown("a", { minPixels: 256 * 256 })] });
      expect(large.events.find((e) => e.type === "pictures")?.pictures[0]).toMatchObject({
        resizedWidth: 256,
        tokens: 64,
      });
      expect(encoded((await answer({ messages: question, ...seen() })).events)).toBe(false);
    });

    it("several pictures of different sizes in several turns", async () => {
      const two = [
        ...question,
        assistant("One."),
        user("And this, beside it?", "b", "a"),
        assistant("Two."),
        user("So?"),
      ];
      const both = { pictures: [shown("a"), shown("b")] };
      const warm = await answer({ messages: two, ...both });
      value(await loadModel(app.page, model));
      const cold = await answer({ messages: two, ...both });
      expect(cold.text).toBe(warm.text);
      expect(cold.events.find((e) => e.type === "pictures")?.pictures.map((p) => p.tokens)).toEqual([16, 36, 16]);
    });
  });

  describe("sampling", () => {
    const messages = [user("Say something.")];
    const say = async (sampling: Partial<Sampling>) =>
      await answer({ messages, sampling: { maxTokens: 24, ...sampling } });

    it("a seed repeats an answer, another one gives another", async () => {
      const hot = { temperature: 1.2, seed: 5 };
      const first = (await say(hot)).text;
      expect((await say(hot)).text).toBe(first);
      expect((await say({ ...hot, seed: 6 })).text).not.toBe(first);
    });

    it("top-k 1, a tiny top-p and a min-p of 1 are greedy, whatever the temperature", async () => {
      const greedy = (await say({})).text;
      for (const cut of [{ topK: 1 }, { topP: 1e-6 }, { minP: 1 }]) {
        expect((await say({ temperature: 2, seed: 9, ...cut })).text).toBe(greedy);
      }
    });

    it("penalties keep an answer from repeating itself", async () => {
      const distinct = (text: string) => new Set(text).size;
      const greedy = (await say({})).text;
      expect(distinct((await say({ presencePenalty: 100 })).text)).toBe(24);
      expect(distinct((await say({ repetitionPenalty: 50 })).text)).toBeGreaterThan(distinct(greedy));
    });

    it("stops at a stop string wherever tokens cut it, and shows nothing of it", async () => {
      const greedy = (await say({})).text;
      expect(greedy).toHaveLength(24);
      const stop = greedy.slice(6, 11);
      const { text, finish, events } = await say({ stop: ["never seen", stop] });
      expect(finish).toBe("stop");
      expect(text).toBe(greedy.slice(0, greedy.indexOf(stop)));
      const pieces = events.flatMap((e) => (e.type === "text" ? [e.text] : []));
      expect(pieces.join("")).toBe(text);
      // A stop string that begins but does not end is shown after all.
      expect((await say({ stop: [`${greedy.slice(-2)}more`] })).text).toBe(greedy);
    });

    it("says why it ended: length, context", async () => {
      expect((await say({})).finish).toBe("length");
      const long = await answer({ messages: [user("x".repeat(990))], sampling: { maxTokens: 400 } });
      expect(long.finish).toBe("context");
      expect(long.stats.contextUsed).toBe(long.stats.contextLength);
      const beyond = await generate(app.page, { messages: [user("x".repeat(1100))], pictures: [] });
      expect(beyond.error).toBe("ContextFull");
      expect(beyond.value === undefined && beyond.message).toMatch(/11\d\d tokens and the context holds 1024/);
    });
  });
});
