import { describe, expect, it } from "vitest";
import { commonPrefix, type Prompt, tokenKeys } from "./prompt.ts";

const pixels = async () => new Float32Array();
const image = (start: number, key: string) => ({ runs: [{ start, tokens: 2 }], grid: [1, 2, 4] as const, key, pixels });
const PAD = 9;

describe("reuse of a cached prompt", () => {
  const first: Prompt = { ids: [1, PAD, PAD, 2, 3], images: [image(1, "cat")] };

  it("goes on behind the common start", () => {
    const next: Prompt = { ids: [1, PAD, PAD, 2, 3, 4], images: [image(1, "cat")] };
    expect(commonPrefix(tokenKeys(first), tokenKeys(next))).toBe(5);
  });
  it("stops at a picture with other content, though its tokens look alike", () => {
    const next: Prompt = { ids: [1, PAD, PAD, 2, 3], images: [image(1, "dog")] };
    expect(commonPrefix(tokenKeys(first), tokenKeys(next))).toBe(1);
  });
  it("stops at the first other token, and at the end of the shorter", () => {
    expect(commonPrefix([1, 2, 3], [1, 9, 3])).toBe(1);
    expect(commonPrefix([], [1])).toBe(0);
  });
});
