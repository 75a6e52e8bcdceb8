import { readFileSync } from "node:fs";
import { join } from "node:path";
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
});
