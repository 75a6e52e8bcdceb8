import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type App, openApp } from "./browser.ts";
import { importSource, storedModels } from "./engine_calls.ts";
import { type HubFiles, HubServer } from "./hub_server.ts";
import { RandomCheckpoint } from "./random_checkpoint.ts";

/* A repository in a real browser: redirects to another host, a token, a mirror that the page's policy does not name. */

const MIRROR = "https://mirror.test";
const checkpoint = new RandomCheckpoint({
  ...{ layers: 1, hidden: 128, heads: 2, kvHeads: 1, headDim: 64, ffn: 128, tied: true, vocabulary: 2000 },
  vision: { depth: 1, hidden: 64, heads: 2, ffn: 64, taps: [], positions: 16 },
});

/** What is stored of a model, shard by shard. */
async function shardHashes(page: Page, id: string): Promise<string[]> {
  return await page.evaluate(async (model) => {
    const done = <T>(request: IDBRequest<T>) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
    const database = await done(indexedDB.open("tabtune-weights"));
    const shards = database.transaction("shards").objectStore("shards");
    const found = await done(shards.getAll(IDBKeyRange.bound([model, "data"], [model, "data", []])));
    database.close();
    const hash = async (shard: Blob) =>
      String(new Uint8Array(await crypto.subtle.digest("SHA-256", await shard.arrayBuffer())));
    return await Promise.all((found as Blob[]).map(hash));
  }, id);
}

describe("a repository", () => {
  let app: App;
  let hub: HubServer;
  const source = (more: { endpoint?: string; token?: string } = {}) => ({
    ...{ kind: "hub" as const, repo: hub.repo, endpoint: hub.endpoint },
    ...more,
  });
  beforeAll(async () => {
    const names = [
      "config.json",
      "tokenizer.json",
      "tokenizer_config.json",
      "chat_template.jinja",
      "model.safetensors",
    ];
    const files: HubFiles = {};
    for (const name of names) {
      try {
        files[name] = readFileSync(join(checkpoint.folder, name));
      } catch {}
    }
    hub = await HubServer.open(files);
    app = await openApp({ engineOnly: true });
    // A mirror under a name that no policy mentions: what reaches it is sent on to the server.
    await app.context.route(`${MIRROR}/**`, async (route) => {
      const url = route.request().url().replace(MIRROR, hub.endpoint);
      const answer = await fetch(url, { headers: await route.request().allHeaders(), redirect: "follow" });
      const headers: Record<string, string> = {};
      answer.headers.forEach((value, name) => {
        headers[name] = value;
      });
      await route.fulfill({
        status: answer.status,
        headers: { ...headers, "access-control-allow-origin": "*", "access-control-expose-headers": "*" },
        body: Buffer.from(await answer.arrayBuffer()),
      });
    });
  });
  afterAll(async () => {
    await app?.close();
    await hub?.close();
    checkpoint.remove();
  });

  it("is imported through redirects to another host, which never sees the token", async () => {
    hub.token = "hf_secret";
    hub.gated = true;
    const refused = await importSource(app.page, source());
    expect([refused.error, refused.value === undefined && refused.message]).toEqual([
      "Network",
      expect.stringMatching(/gated/),
    ]);
    const { value } = await importSource(app.page, source({ token: "hf_secret" }));
    expect(value).toMatchObject({
      state: "complete",
      source: expect.stringContaining(hub.branches.main!.slice(0, 12)),
    });
    const cdn = hub.requests.filter(({ host }) => host === "cdn");
    expect(cdn.length).toBeGreaterThan(0);
    expect(cdn.filter(({ authorization }) => authorization !== undefined)).toEqual([]);
  });

  it("comes from a mirror that a visitor names, and only the worker made for that may reach it", async () => {
    hub.token = undefined;
    hub.gated = false;
    for (const { id } of await storedModels(app.page))
      await app.page.evaluate(async (id) => await tabtune.engine.deleteModel(id), id);
    const get = async (url: string) =>
      await fetch(url).then(
        () => "fetched",
        (error: Error) => error.name,
      );
    const engine = app.page.workers().find((worker) => worker.url().includes("/worker/"))!;
    const url = `${MIRROR}/api/models/${hub.repo}/revision/main`;
    expect([await app.page.evaluate(get, url), await engine.evaluate(get, url)]).toEqual(["TypeError", "TypeError"]);
    const { value, ...failed } = await importSource(app.page, source({ endpoint: MIRROR }));
    expect(failed).toEqual({});
    expect(value).toMatchObject({ state: "complete", source: expect.stringContaining("mirror.test") });
  });

  it("is exported as a folder and as a zip file, which others open as they are", async () => {
    const [model] = await storedModels(app.page);
    const opened = await app.page.evaluate(async (id) => {
      const { engine, callback } = tabtune;
      const ignore = callback(() => undefined);
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle("shared", { create: true });
      await engine.exportModel(id, folder, "export", ignore);
      const files: { path: string; file: Blob }[] = [];
      const walk = async (at: FileSystemDirectoryHandle, path: string) => {
        const entries = (at as unknown as { values(): AsyncIterable<FileSystemHandle> }).values();
        for await (const entry of entries) {
          if (entry.kind === "directory") await walk(entry as FileSystemDirectoryHandle, `${path}${entry.name}/`);
          else files.push({ path: path + entry.name, file: await (entry as FileSystemFileHandle).getFile() });
        }
      };
      await walk(folder, "");
      const file = await root.getFileHandle("shared.zip", { create: true });
      await engine.exportModel(id, file, "export", ignore);
      const zip = await engine.exportModel(id, undefined, "export", ignore);
      const open = async (name: string, list: { path: string; file: Blob }[]) => {
        const source = { kind: "files" as const, name, files: list };
        return await engine.importModel(source, "q4a32", "import", ignore);
      };
      return [
        await open("folder", files),
        await open("written", [{ path: "written.zip", file: await file.getFile() }]),
        await open("built", [{ path: "built.zip", file: zip! }]),
      ];
    }, model!.id);
    for (const record of opened) {
      expect(record).toMatchObject({ state: "complete", name: model!.name, bytesStored: model!.bytesStored });
    }
    expect(new Set(opened.map(({ id }) => id)).size).toBe(3);
    const damaged = await app.page.evaluate(
      async (id) =>
        await tabtune.engine.verifyModel(
          id,
          "verify",
          tabtune.callback(() => undefined),
        ),
      opened[0]!.id,
    );
    expect(damaged).toEqual({ damaged: [] });
  });

  it("is paused by a visitor and goes on: the same bytes, and nothing that was stored comes again", {
    timeout: 240_000,
  }, async () => {
    const { page } = app;
    // In two shards, of which the first takes the file's first 32 MiB.
    const large = new RandomCheckpoint({
      ...{ layers: 1, hidden: 128, heads: 2, kvHeads: 1, headDim: 64, ffn: 128, tied: true, vocabulary: 140_000 },
      vision: { depth: 1, hidden: 64, heads: 2, ffn: 64, taps: [], positions: 16 },
    });
    const names = ["config.json", "tokenizer.json", "chat_template.json", "model.safetensors"];
    hub.commit("large", Object.fromEntries(names.map((name) => [name, readFileSync(join(large.folder, name))])));
    large.remove();
    const { value: undisturbed } = await importSource(page, { ...source(), revision: "large" });
    const expected = await shardHashes(page, undisturbed!.id);
    expect(expected.length).toBe(2);
    await page.evaluate(async (id) => await tabtune.engine.deleteModel(id), undisturbed!.id);

    await page.goto(`${app.url}#/models`);
    await page.getByRole("textbox", { name: /^Model/ }).fill(`${hub.repo}/tree/large`);
    await page.getByText("Another address of the Hub").click();
    await page.getByRole("textbox", { name: /^Mirror/ }).fill(hub.endpoint);
    await page.getByRole("textbox", { name: /^Mirror/ }).press("Tab");
    await page.getByRole("radio", { name: /^16-bit/ }).check();
    await page.getByRole("button", { name: "Show what it takes" }).click();
    const start = page.getByRole("button", { name: "Import", exact: true });
    await start.waitFor();
    const begin = (range: string | undefined) => Number(/\d+/.exec(range ?? "0")![0]);
    const length = (range: string | undefined) => Number(/\d+$/.exec(range ?? "0")![0]) + 1 - begin(range);
    const SECOND_SHARD = 30 << 20;
    // A piece of the second shard, no sample that a plan takes.
    const isSecond = (range: string | undefined) => begin(range) > SECOND_SHARD && length(range) > 1 << 20;
    let release = () => {};
    const hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    hub.fault = ({ host, range }) => (host === "cdn" && isSecond(range) ? { hold } : undefined);
    hub.requests.length = 0;
    await start.click();
    await expect.poll(() => hub.requests.some(({ range }) => isSecond(range))).toBe(true);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByRole("heading", { name: /is paused$/ }).waitFor();
    const half = (await storedModels(page)).find(({ state }) => state === "importing")!;
    expect(half).toMatchObject({ scheme: "bf16" });
    release();
    hub.fault = () => undefined;
    hub.requests.length = 0;
    await page.getByRole("button", { name: "Go on", exact: true }).click();
    await expect.poll(async () => (await storedModels(page)).find(({ id }) => id === half.id)?.state).toBe("complete");
    expect(await shardHashes(page, half.id)).toEqual(expected);
    const again = hub.requests.filter(({ host, range }) => host === "cdn" && begin(range) <= SECOND_SHARD);
    const bytes = again.reduce((sum, { range }) => sum + length(range), 0);
    // The header, and the samples that tell one checkpoint from another.
    expect(bytes).toBeLessThan(2 << 20);
  });
});
