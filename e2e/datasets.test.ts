import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DatasetDraft, DatasetSummary, SeenPicture, SeenRow, TrainingPlan } from "../src/api/index.ts";
import { writeZip } from "../src/formats/index.ts";
import { type App, openApp } from "./browser.ts";
import { SMALL_CHECKPOINT } from "./checkpoint.ts";
import { importUrl } from "./engine_calls.ts";
import { greyPng } from "./png.ts";

let app: App;
const folder = mkdtempSync(join(tmpdir(), "datasets-"));

beforeAll(async () => {
  const broken = greyPng(64, 96);
  const rows = ["image,question,answer", "a.png,How many?,5", "b.png,How many?,6", "c.png,How many?,7"];
  const zip = await writeZip([
    { path: "set/data.csv", data: rows.join("\n") },
    { path: "set/a.png", data: greyPng(64, 96) },
    { path: "set/b.png", data: greyPng(700, 500) },
    // The header is whole, the pixels are not: only a decoder finds it.
    { path: "set/c.png", data: broken.subarray(0, 50) },
  ]);
  writeFileSync(join(folder, "set.zip"), Buffer.from(await zip.arrayBuffer()));
  for (const codec of ["zstd", "snappy"]) {
    writeFileSync(join(folder, `${codec}.parquet`), readFileSync(`src/formats/testdata/chartqa_${codec}.parquet`));
  }
  const folders: Record<string, string> = { "/data/": folder };
  if (SMALL_CHECKPOINT) folders["/checkpoint/"] = SMALL_CHECKPOINT;
  app = await openApp({ folders });
});
afterAll(async () => {
  await app?.close();
  rmSync(folder, { recursive: true });
});

/** Reads a served file as if it had been dropped. */
const read = (name: string) =>
  app.page.evaluate(async (name): Promise<DatasetDraft> => {
    const file = await (await fetch(`/data/${name}`)).blob();
    const ignore = tabtune.callback(() => undefined);
    return await tabtune.engine.readDataset({ kind: "files", name, files: [{ path: name, file }] }, "read", ignore);
  }, name);

describe("data sets in the browser", () => {
  it("unpacks a zip, decodes every picture, and reports the damaged one", async () => {
    const draft = await read("set.zip");
    expect(draft).toMatchObject({ rowsRead: 3, rows: 2, pictures: 2, formats: ["columns"] });
    expect(draft.issues).toMatchObject([{ severity: "error", file: "set/data.csv", row: 3, field: "picture" }]);
    expect(draft.issues[0]!.found).toMatch(/c\.png.*damaged/);
  });

  it.each(["zstd", "snappy"])("reads parquet with %s under the page's policy", async (codec) => {
    expect(await read(`${codec}.parquet`)).toMatchObject({ rows: 2, pictures: 2, issues: [] });
  });

  it("reads the example that comes with the app", async () => {
    const draft = await app.page.evaluate(async (): Promise<DatasetDraft> => {
      const ignore = tabtune.callback(() => undefined);
      return await tabtune.engine.readDataset({ kind: "example" }, "read", ignore);
    });
    expect(draft).toMatchObject({ rows: 896, pictures: 224, issues: [] });
  });

  it("stores, survives a reload, edits, exports, and reads its own export", async () => {
    const draft = await read("set.zip");
    const stored = await app.page.evaluate(
      async (id): Promise<DatasetSummary> => await tabtune.engine.storeDataset(id, "Mine"),
      draft.id,
    );
    await app.page.reload();
    const again = await app.page.evaluate(async () => {
      const { engine, callback } = tabtune;
      const [summary] = await engine.listDatasets();
      const { rows } = await engine.datasetRows(summary!.id, { from: 0, count: 9 });
      const part = rows[0]!.messages[0]!.parts[0]!;
      const picture = await engine.datasetPicture(part.type === "image" ? part.pictureId : "");
      const edited = await engine.editDataset(summary!.id, { kind: "delete", ids: [rows[1]!.id] });
      const undone = await engine.editDataset(summary!.id, { kind: "undo" });
      const file = await engine.exportDataset(summary!.id);
      const files = [{ path: "export.zip", file }];
      const draft = await engine.readDataset(
        { kind: "files", name: "x", files },
        "r",
        callback(() => undefined),
      );
      return { summary: summary!, name: picture.name, size: picture.blob.size, edited, undone, draft };
    });
    expect(again.summary).toMatchObject({ id: stored.id, hash: stored.hash, rows: 2, pictures: 2 });
    expect([again.name, again.size]).toEqual(["a.png", greyPng(64, 96).length]);
    expect([again.edited.rows, again.undone.rows, again.undone.hash]).toEqual([1, 2, stored.hash]);
    expect(again.draft).toMatchObject({ rows: 2, pictures: 2, issues: [] });
  });

  it.skipIf(!SMALL_CHECKPOINT)("shows what a model will see, without loading it", async () => {
    const model = await importUrl(app.page, `${app.origin}/checkpoint/`);
    expect(model.error).toBeUndefined();
    const seen = await app.page.evaluate(
      async (modelId): Promise<{ row: SeenRow; picture: SeenPicture; plan: TrainingPlan }> => {
        const { engine, callback } = tabtune;
        const settings = { ...(await engine.defaultTrainSettings()), maxPixels: 96 * 96 };
        const [{ id }] = (await engine.listDatasets()) as [DatasetSummary];
        const { rows } = await engine.datasetRows(id, { from: 0, count: 9 });
        const row = await engine.inspectRow(modelId, id, rows[1]!.id, settings);
        const picture = await engine.seenPicture(modelId, row.pictures[0]!.pictureId, settings.maxPixels);
        const plan = await engine.planTraining(
          modelId,
          id,
          settings,
          "plan",
          callback(() => undefined),
        );
        return { row, picture, plan };
      },
      model.value!.id,
    );
    const [shown] = seen.row.pictures;
    expect(shown).toMatchObject({ width: 700, height: 500, resizedWidth: 96, resizedHeight: 64, tokens: 6 });
    expect([seen.picture.width, seen.picture.height]).toEqual([96, 64]);
    expect(
      seen.row.spans
        .filter((span) => span.trained)
        .map((span) => span.text)
        .join(""),
    ).toBe("6<|im_end|>\n");
    expect(seen.plan).toMatchObject({
      problems: [],
      plan: { examples: 1, heldBackExamples: 1, tooLong: [], failed: [] },
    });
  });

  it("breaks no rule of the page and asks no other host", () => {
    expect(app.errors.filter((text) => /policy|refused|uncaught/i.test(text))).toEqual([]);
    expect(app.requests.filter((url) => !url.startsWith(app.origin) && !/^(blob|data):/.test(url))).toEqual([]);
  });
});
