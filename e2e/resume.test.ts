import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type App, openApp, waitForApp } from "./browser.ts";
import { importUrl, loadModel, storedModels } from "./engine_calls.ts";
import { RandomCheckpoint } from "./random_checkpoint.ts";

/* An import whose tab is closed in the middle goes on where it stopped, and ends as if nothing had happened. */

/** 40 MB as bf16: two shards. */
const checkpoint = new RandomCheckpoint(
  {
    ...{ layers: 1, hidden: 512, heads: 4, kvHeads: 2, headDim: 128, ffn: 512, tied: true, vocabulary: 36_000 },
    vision: { depth: 1, hidden: 64, heads: 2, ffn: 64, taps: [], positions: 16 },
  },
  { files: 2 },
);

/** SHA-256 of every stored shard of a model, in order. */
async function hashes(page: Page, id: string): Promise<string[]> {
  return await page.evaluate(async (id) => {
    const open = indexedDB.open("tabtune-weights");
    await new Promise((resolve) => {
      open.onsuccess = resolve;
    });
    const store = open.result.transaction("shards").objectStore("shards");
    const request = store.getAll(IDBKeyRange.bound([id, "data"], [id, "data", []]));
    await new Promise((resolve) => {
      request.onsuccess = resolve;
    });
    open.result.close();
    const out: string[] = [];
    for (const blob of request.result as Blob[]) {
      const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
      out.push(Array.from(new Uint8Array(digest), (b) => b.toString(16).padStart(2, "0")).join(""));
    }
    return out;
  }, id);
}

describe("an import whose tab is closed in the middle", () => {
  let app: App;
  const profile = mkdtempSync(join(tmpdir(), "profile-"));
  let slow = true;
  beforeAll(async () => {
    app = await openApp({
      engineOnly: true,
      folders: { "/model/": checkpoint.folder, "/again/": checkpoint.folder },
      profile,
    });
    // From the second shard on, weights come slowly until the tab is closed.
    let bytes = 0;
    await app.context.route("**/model/*.safetensors", async (route) => {
      const range = (await route.request().headerValue("range")) ?? "";
      const [from, to] = (range.match(/\d+/g) ?? ["0", "0"]).map(Number);
      const isSecond = bytes > 34e6;
      bytes += to! - from! + 1;
      if (slow && isSecond) await new Promise((resolve) => setTimeout(resolve, 30_000));
      await route.continue().catch(() => undefined);
    });
  });
  afterAll(async () => {
    await app?.close();
    checkpoint.remove();
    rmSync(profile, { recursive: true, force: true });
  });

  it("goes on where it stopped, and the bytes are those of an undisturbed one", async () => {
    const base = `${app.origin}/model/`;
    const first = await app.openTab();
    const began = importUrl(first, base).catch(() => undefined);
    // Until the first shard is stored.
    await expect
      .poll(async () => (await storedModels(app.page)).map(({ bytesStored }) => bytesStored > 0), { timeout: 60_000 })
      .toEqual([true]);
    await first.close();
    await began;
    slow = false;
    const [half] = await storedModels(app.page);
    expect(half).toMatchObject({ state: "importing" });
    expect(half!.bytesStored).toBeLessThan(half!.bytesTotal);
    expect((await loadModel(app.page, half!.id)).error).toBe("NotFound");

    await app.page.reload();
    await waitForApp(app.page, app.errors);
    const plan = await app.page.evaluate(
      async (base) => await tabtune.engine.planImport({ kind: "url", base }, "bf16", "plan"),
      base,
    );
    expect(plan.bytesAlreadyStored).toBe(half!.bytesStored);
    expect(await importUrl(app.page, base)).toMatchObject({ value: { id: half!.id, state: "complete" } });

    const again = await importUrl(app.page, `${app.origin}/again/`);
    expect(await hashes(app.page, half!.id)).toEqual(await hashes(app.page, again.value!.id));
    expect((await hashes(app.page, half!.id)).length).toBeGreaterThan(1);
    expect(await loadModel(app.page, half!.id)).toMatchObject({ value: { id: half!.id } });
  });

  it("deleting gives the room back", async () => {
    const before = await app.page.evaluate(async () => (await tabtune.engine.storageEstimate()).used);
    for (const { id } of await storedModels(app.page))
      await app.page.evaluate(async (id) => await tabtune.engine.deleteModel(id), id);
    expect(await storedModels(app.page)).toEqual([]);
    // The browser clears the files of deleted records some twenty seconds later.
    await expect
      .poll(async () => await app.page.evaluate(async () => (await tabtune.engine.storageEstimate()).used), {
        timeout: 90_000,
      })
      .toBeLessThan(before / 2);
  });
});
