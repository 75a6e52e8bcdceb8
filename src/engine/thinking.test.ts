import { expect, test } from "vitest";
import type { GenerateOptions, GenerateTimes, Session } from "./session.ts";
import { generateWithin } from "./thinking.ts";

const CLOSE = 90;
const END = 99;
const end = { close: CLOSE, closing: [10, CLOSE, 11] };
const times = { promptTokens: 3, newTokens: 0, contextUsed: 0, firstTokenMilliseconds: 5, decodeMilliseconds: 10 };

/** A model that says what is planned, three tokens at a time; the call's number counts from 0. */
function model(answers: number[][]): Pick<Session, "generate"> & { calls: number[][] } {
  const calls: number[][] = [];
  return {
    calls,
    generate: async (_, generated, { onTokens, maxTokens }) => {
      const say = [...answers[calls.push([...generated]) - 1]!];
      while (say.length > 0) {
        const ids = say.splice(0, Math.min(3, maxTokens - generated.length));
        generated.push(...ids);
        if (onTokens(ids) || ids.includes(END)) break;
        if (generated.length >= maxTokens) return { finish: "length", times: { ...times } as GenerateTimes };
      }
      return { finish: "stop", times: { ...times, newTokens: generated.length } as GenerateTimes };
    },
  };
}

async function run(answers: number[][], budget: number, more: { maxTokens?: number; stopAt?: number } = {}) {
  const session = model(answers);
  const generated: number[] = [];
  const heard: number[] = [];
  const options = {
    settings: { ends: [END] },
    maxTokens: more.maxTokens ?? 100,
    onTokens: (ids: number[]) => {
      heard.push(...ids);
      return more.stopAt !== undefined && heard.includes(more.stopAt);
    },
  } as unknown as GenerateOptions;
  const { finish, times } = await generateWithin(budget, end, session, { ids: [], images: [] }, generated, options);
  expect(heard).toEqual(generated);
  return { generated, finish, times, calls: session.calls };
}

test("thoughts beyond the budget are ended, exactly there, and the answer follows", async () => {
  const { generated, finish, calls, times } = await run(
    [
      [1, 2, 3, 4, 5, 6, 7, 8],
      [50, 51, END],
    ],
    5,
  );
  expect(generated).toEqual([1, 2, 3, 4, 5, 10, CLOSE, 11, 50, 51, END]);
  expect(calls[1]).toEqual([1, 2, 3, 4, 5, 10, CLOSE, 11]);
  expect([finish, times.newTokens, times.decodeMilliseconds]).toEqual(["stop", 11, 25]);
});

test("thoughts that end in time are left alone, also when they end on the last token of the budget", async () => {
  const { generated, calls } = await run([[1, 2, 3, 4, 5, CLOSE, 50, 51, 52, END]], 5);
  expect(generated).toEqual([1, 2, 3, 4, 5, CLOSE, 50, 51, 52, END]);
  expect(calls).toHaveLength(1);
});

test("an end of the turn, a stop string and the limit of tokens end it all", async () => {
  expect((await run([[1, 2, END]], 2)).generated).toEqual([1, 2, END]);
  expect((await run([[1, 2, 3, 4, 5, 6]], 4, { stopAt: 4 })).generated).toEqual([1, 2, 3, 4]);
  expect(await run([[1, 2, 3, 4, 5, 6]], 4, { maxTokens: 6 })).toMatchObject({ finish: "length" });
  expect(await run([[1, 2, 3, 4, 5, 6]], 10, { maxTokens: 6 })).toMatchObject({ finish: "length" });
});
