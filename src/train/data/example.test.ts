import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { partsOf } from "./dataset.ts";
import { readDataset } from "./read_dataset.ts";

test("the example that comes with the app reads without a remark, and holds charts back that are not learnt", async () => {
  const file = new Blob([readFileSync("public/datasets/dots/dots.zip")]);
  const size = { width: 256, height: 256 };
  const { rows, issues, pictures } = await readDataset("dots", [{ path: "dots.zip", file }], {
    probe: async () => size,
  });
  expect(issues).toEqual([]);
  expect([rows.length, pictures.size]).toEqual([896, 224]);
  const parts = partsOf({ rows, split: { kind: "given" } });
  expect(parts.filter((part) => part === "heldBack").length).toBe(96);
  const shown = (wanted: string) => {
    const found = rows
      .filter((_, i) => parts[i] === wanted)
      .flatMap(({ messages }) => messages.flatMap((m) => m.parts));
    return new Set(found.flatMap((part) => (part.type === "image" ? [part.pictureId] : [])));
  };
  expect([shown("train").size, shown("heldBack").size]).toEqual([200, 24]);
  expect([...shown("heldBack")].filter((id) => shown("train").has(id))).toEqual([]);
});
