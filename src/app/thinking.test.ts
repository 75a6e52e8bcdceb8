import { expect, it } from "vitest";
import { splitThinking, THOUGHTS } from "./thinking.ts";

it("leaves plain answers alone", () => {
  expect(splitThinking("Use <b> tags")).toEqual({ thoughts: "", thoughtsEnded: true, text: "Use <b> tags" });
});

it("folds from the first word on", () => {
  expect(splitThinking(`${THOUGHTS}Let me see`)).toEqual({ thoughts: "Let me see", thoughtsEnded: false, text: "" });
  expect(splitThinking(`${THOUGHTS}Let me see\n</think>\n\nFour.`)).toEqual({
    thoughts: "Let me see",
    thoughtsEnded: true,
    text: "Four.",
  });
});

it("knows an answer by its closing tag alone", () => {
  expect(splitThinking("hm\n</think>\n\nYes.").text).toBe("Yes.");
});

it("follows an opening tag that the model writes itself", () => {
  expect(splitThinking("<think>\nhm")).toEqual({ thoughts: "hm", thoughtsEnded: false, text: "" });
  expect(splitThinking("<think>\n\n</think>\n\nHi")).toEqual({ thoughts: "", thoughtsEnded: true, text: "Hi" });
});

it("does not cut an answer that talks about the tags", () => {
  const text = "Models write <think> and then </think>.";
  expect(splitThinking(text)).toEqual({ thoughts: "", thoughtsEnded: true, text });
});
