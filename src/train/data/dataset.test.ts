import { describe, expect, test } from "vitest";
import { openZip } from "../../formats/index.ts";
import { type Dataset, DatasetEditor, datasetHash, partsOf } from "./dataset.ts";
import { exportDataset } from "./export_dataset.ts";
import { readDataset } from "./read_dataset.ts";
import type { DataRow } from "./row.ts";

const row = (id: string, answer = "5", ...pictures: string[]): DataRow => ({
  id,
  messages: [
    {
      role: "user",
      parts: [...pictures.map((pictureId) => ({ type: "image" as const, pictureId })), { type: "text", text: "q" }],
    },
    { role: "assistant", parts: [{ type: "text", text: answer }] },
  ],
});
const random = (seed: number, heldBack: number) => ({ kind: "random", seed, heldBack }) as const;
const set = (...rows: DataRow[]): Dataset => ({ rows, split: random(1, 0.25) });
const ids = (editor: DatasetEditor) => editor.dataset.rows.map((r) => r.id).join("");

describe("edits", () => {
  test("put, delete and split, and each way back and forth", () => {
    const editor = new DatasetEditor(set(row("a"), row("b")));
    editor.apply({ kind: "put", row: row("c"), at: 1 });
    editor.apply({ kind: "put", row: row("d") });
    editor.apply({ kind: "put", row: row("a", "new") });
    editor.apply({ kind: "delete", ids: ["b", "d"] });
    editor.apply({ kind: "split", split: random(2, 0.5) });
    expect(ids(editor)).toBe("ac");
    expect(editor.dataset.rows[0]).toEqual(row("a", "new"));
    const seen: string[] = [];
    while (editor.canUndo) {
      editor.undo();
      seen.push(ids(editor));
    }
    expect(seen).toEqual(["ac", "acbd", "acbd", "acb", "ab"]);
    expect(editor.dataset).toEqual(set(row("a"), row("b")));
    while (editor.canRedo) editor.redo();
    expect(ids(editor)).toBe("ac");
    editor.undo();
    editor.apply({ kind: "delete", ids: ["a"] });
    expect(editor.canRedo).toBe(false);
  });

  test.each([
    ["a row without an answer", { kind: "put", row: row("x", " ") }, /turn 2 \(assistant\).*empty answer/],
    ["a share that leaves nothing", { kind: "split", split: random(1, 1) }, /Share held back.*found 1/],
    ["a share that is no number", { kind: "split", split: random(1, Number.NaN) }, /found NaN/],
    ["a broken seed", { kind: "split", split: random(0.5, 0.1) }, /Seed.*0\.5/],
    ["a split that the source had not", { kind: "split", split: { kind: "given" } }, /held no rows back/],
  ] as const)("%s is refused and nothing has changed", (_, edit, message) => {
    const editor = new DatasetEditor(set(row("a")));
    expect(() => editor.apply(edit)).toThrow(message);
    expect([ids(editor), editor.canUndo]).toEqual(["a", false]);
  });
});

describe("split", () => {
  const rows = Array.from({ length: 200 }, (_, i) => row(`${i}`, "5", `p${Math.floor(i / 4)}`));

  test("is decided by the seed, holds its share back, and never shows a held-back picture in training", () => {
    const parts = partsOf({ rows, split: random(3407, 0.1) });
    expect(parts.filter((p) => p === "heldBack").length).toBe(20);
    expect(partsOf({ rows, split: random(3407, 0.1) })).toEqual(parts);
    expect(partsOf({ rows, split: random(3408, 0.1) })).not.toEqual(parts);
    const sides = new Map<string, Set<string>>();
    rows.forEach((_, i) => {
      const picture = `p${Math.floor(i / 4)}`;
      sides.set(picture, (sides.get(picture) ?? new Set()).add(parts[i]!));
    });
    expect([...sides.values()].every((s) => s.size === 1)).toBe(true);
  });

  test("keeps rows together that share pictures by way of a third row", () => {
    const chain = [row("a", "1", "p"), row("b", "1", "q"), row("c", "1", "p", "q"), row("d", "1", "r")];
    for (let seed = 0; seed < 20; seed++) {
      const [a, b, c] = partsOf({ rows: chain, split: random(seed, 0.5) });
      expect([b, c]).toEqual([a, a]);
    }
  });

  test("nothing held back, one picture only, or as the source says", () => {
    expect(new Set(partsOf({ rows, split: random(1, 0) }))).toEqual(new Set(["train"]));
    expect(partsOf({ rows: rows.slice(0, 4), split: random(1, 0.5) })).toEqual(Array(4).fill("train"));
    const given = [row("a"), { ...row("b"), part: "heldBack" as const }];
    expect(partsOf({ rows: given, split: { kind: "given" } })).toEqual(["train", "heldBack"]);
  });
});

test("the hash is of what is learnt: not of ids, but of every text, picture, order and the split", async () => {
  const base = await datasetHash(set(row("a", "5", "p"), row("b")));
  expect(base).toMatch(/^[0-9a-f]{64}$/);
  expect(await datasetHash(set(row("x", "5", "p"), row("y")))).toBe(base);
  const others = [
    set(row("a", "6", "p"), row("b")),
    set(row("a", "5", "q"), row("b")),
    set(row("b"), row("a", "5", "p")),
    { ...set(row("a", "5", "p"), row("b")), split: random(2, 0.25) },
  ];
  for (const other of others) expect(await datasetHash(other)).not.toBe(base);
});

test("an export read again is the same data set, its split included", async () => {
  const pictures = new Map([1, 2].map((n) => [`${n}`.repeat(64), new Blob([`picture ${n}`], { type: "image/png" })]));
  const [a, b] = [...pictures.keys()];
  const rows = [row("a", 'ä\n"5"', a!), row("b", "6", a!, b!), row("c", "7"), row("d", "8", b!)];
  const dataset: Dataset = { rows, split: random(5, 0.25) };
  const zip = await exportDataset(dataset, async (id) => pictures.get(id)!);
  expect((await openZip(zip, "z")).filter((f) => f.path.startsWith("pictures/")).length).toBe(2);
  const probe = async () => ({ width: 1, height: 1 });
  const again = await readDataset("again", [{ path: "z.zip", file: zip }], { probe });
  expect(again.issues).toEqual([]);
  const parts = partsOf(dataset);
  const texts = (list: readonly DataRow[]) =>
    list.map((r) => r.messages.map((m) => m.parts.filter((p) => p.type === "text")));
  // The held-back file comes first by name.
  const order = [...rows.filter((_, i) => parts[i] === "heldBack"), ...rows.filter((_, i) => parts[i] === "train")];
  expect(texts(again.rows)).toEqual(texts(order));
  expect(partsOf({ rows: again.rows, split: { kind: "given" } }).sort()).toEqual([...parts].sort());
  expect(again.pictures.size).toBe(2);
});
