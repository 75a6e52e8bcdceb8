import { describe, expect, it } from "vitest";
import { describeMark, parseGrounding } from "./grounding.ts";

const box = (x1: number, y1: number, x2: number, y2: number, label = "") => ({ kind: "box", x1, y1, x2, y2, label });

describe("parseGrounding", () => {
  it("reads a fenced list of boxes with labels", () => {
    const text =
      'Here:\n```json\n[\n\t{"bbox_2d": [100, 200, 500, 1000], "label": "a {brace} and \\"quote\\""},\n\t{"bbox_2d": [0,0,10,10]}\n]\n```\nDone.';
    expect(parseGrounding(text)).toEqual({
      marks: [box(0.1, 0.2, 0.5, 1, 'a {brace} and "quote"'), box(0, 0, 0.01, 0.01)],
      outside: 0,
    });
  });

  it("reads points, single and several", () => {
    const text = '{"point_2d": [250, 750], "label": "eye"} {"point_2d": [[0,1],[1000,1000]]}';
    expect(parseGrounding(text).marks).toEqual([
      { kind: "point", x: 0.25, y: 0.75, label: "eye" },
      { kind: "point", x: 0, y: 0.001, label: "" },
      { kind: "point", x: 1, y: 1, label: "" },
    ]);
  });

  it("finds objects inside objects and turned corners", () => {
    const text = '{"objects": [{"bbox_2d": [500, 600, 100, 200], "label": "x"}]}';
    expect(parseGrounding(text).marks).toEqual([box(0.1, 0.2, 0.5, 0.6, "x")]);
  });

  it("shows what is complete while the rest is being written", () => {
    const text = '```json\n[{"bbox_2d":[1,2,3,4],"label":"one"},{"bbox_2d":[5,6,7';
    expect(parseGrounding(text).marks).toEqual([box(0.001, 0.002, 0.003, 0.004, "one")]);
  });

  it("reads box tokens, with several boxes for one name", () => {
    const text =
      "<|object_ref_start|>the dogs<|object_ref_end|><|box_start|>(10,20),(30,40)(50, 60),(70,80)<|box_end|> <|box_start|>(5,5)<|box_end|>";
    expect(parseGrounding(text).marks).toEqual([
      box(0.01, 0.02, 0.03, 0.04, "the dogs"),
      box(0.05, 0.06, 0.07, 0.08, "the dogs"),
      { kind: "point", x: 0.005, y: 0.005, label: "" },
    ]);
  });

  it("counts what is off the grid and draws nothing for it", () => {
    expect(parseGrounding('{"bbox_2d":[0,0,1920,1080]} {"bbox_2d":[-1,0,5,5]}')).toEqual({ marks: [], outside: 2 });
  });

  it.each([
    "no marks here",
    '{"bbox_2d": [1,2,3]}',
    '{"bbox_2d": ["1","2","3","4"]}',
    '{"bbox_2d": [1,2,3,null]}',
    '"bbox_2d": {{{{',
    "the key bbox_2d alone",
    "<|box_start|>(1,2),(3<|box_end|>".replace("(1,2),", ""),
  ])("finds nothing in %s", (text) => expect(parseGrounding(text)).toEqual({ marks: [], outside: 0 }));

  it("stays quick on hostile text", () => {
    const started = performance.now();
    expect(parseGrounding(`"bbox_2d"${"{".repeat(20_000)}`).marks).toEqual([]);
    expect(parseGrounding(`[${'{"bbox_2d":[1,2,3,4]},'.repeat(5_000)}]`).marks).toHaveLength(500);
    expect(performance.now() - started).toBeLessThan(3_000);
  });
});

it("describes marks in words", () => {
  const { marks } = parseGrounding('{"bbox_2d":[100,200,500,600],"label":"cat"}{"point_2d":[250,500]}');
  expect(marks.map(describeMark)).toEqual([
    "cat: 10 % to 50 % from the left, 20 % to 60 % from the top",
    "Point 2: 25 % from the left, 50 % from the top",
  ]);
});
