import { describe, expect, it } from "vitest";
import { StopStrings } from "./stop_strings.ts";

function run(stops: string[], pieces: string[]) {
  const filter = new StopStrings(stops);
  const shown = pieces.map((p) => filter.push(p));
  return { shown, text: shown.join("") + filter.flush(), stopped: filter.stopped };
}

describe("StopStrings", () => {
  it("passes text through when there is nothing to stop at", () => {
    expect(run([], ["a", "b"])).toEqual({ shown: ["a", "b"], text: "ab", stopped: false });
  });
  it("cuts at a stop string that arrives in pieces, and never shows its start", () => {
    expect(run(["END"], ["one E", "N", "D two"])).toEqual({ shown: ["one ", "", ""], text: "one ", stopped: true });
  });
  it("gives held text back when it turns out to be something else", () => {
    expect(run(["END"], ["E", "N", "Z"])).toEqual({ shown: ["", "", "ENZ"], text: "ENZ", stopped: false });
    expect(run(["END"], ["the E"])).toEqual({ shown: ["the "], text: "the E", stopped: false });
  });
  it("takes the earliest of several, and overlapping starts", () => {
    expect(run(["aab", "b"], ["xaab"]).text).toBe("x");
    expect(run(["aab"], ["aa", "ab"]).text).toBe("a");
  });
});
