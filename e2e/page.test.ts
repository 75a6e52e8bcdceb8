import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { type App, capabilities, openApp, waitForApp } from "./browser.ts";
import { ask, importSource, loadModel } from "./engine_calls.ts";
import { visit } from "./visitor.ts";

let app: App | undefined;
afterEach(async () => {
  await app?.close();
  app = undefined;
});

it("comes up without an error in the console", async () => {
  app = await visit();
  expect(await app.page.title()).toMatch(/TabTune/);
  expect(await app.page.evaluate(() => crossOriginIsolated)).toBe(true);
  expect(await capabilities(app.page)).toMatchObject({ ok: true });
  expect(app.errors).toEqual([]);
});

it("works under a sub-path", async () => {
  const paths: string[] = [];
  app = await visit({ base: "/some/where/", onRequest: (path) => paths.push(path) });
  expect(await capabilities(app.page)).toMatchObject({ ok: true });
  expect(paths.filter((path) => !path.startsWith("/some/where/"))).toEqual([]);
  expect(app.errors).toEqual([]);
});

it("explains what is missing in a browser without WebGPU", async () => {
  // No flag of Chromium takes the interface away, so it is deleted before the page's and the worker's first line.
  app = await openApp({
    prepare: async (context) => {
      await context.addInitScript(() => Reflect.deleteProperty(Navigator.prototype, "gpu"));
      await context.route("**/worker/*.js", async (route) => {
        const response = await route.fetch();
        const body = `Reflect.deleteProperty(WorkerNavigator.prototype, "gpu");${await response.text()}`;
        await route.fulfill({ response, body });
      });
    },
  });
  expect(await app.page.evaluate(() => "gpu" in navigator)).toBe(false);
  expect(await capabilities(app.page)).toMatchObject({
    ok: false,
    reason: "no-webgpu",
  });
  await expect.poll(() => app!.page.textContent("body"), { timeout: 10_000 }).toMatch(/WebGPU[\s\S]*(Chrome|Edge)/);
});

it("explains what to do when there is no GPU adapter", async () => {
  app = await openApp({ chromeArgs: "--disable-gpu" });
  const found = await capabilities(app.page);
  expect(found).toMatchObject({ ok: false, reason: "no-adapter" });
  await expect.poll(() => app!.page.textContent("body"), { timeout: 10_000 }).toContain(found.ok ? "" : found.remedy);
});

it("keeps every other host out, of the page and of the worker", async () => {
  let reached = 0;
  const other = createServer((_, response) => {
    reached++;
    response.writeHead(200, { "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin" });
    response.end("reached");
  });
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const { port } = other.address() as AddressInfo;
  try {
    app = await openApp({ extraArgs: ["--host-resolver-rules=MAP other.test 127.0.0.1"] });
    const get = async (url: string) =>
      await fetch(url).then(
        () => "fetched",
        (error: Error) => error.name,
      );
    const worker = app.page.workers().find((w) => w.url().includes("/worker/"))!;
    const url = `http://other.test:${port}/`;
    expect([await app.page.evaluate(get, url), await worker.evaluate(get, url)]).toEqual(["TypeError", "TypeError"]);
    expect(reached).toBe(0);
    // The same server under a name that the policy allows: it was the policy that refused.
    const local = `http://localhost:${port}/`;
    expect([await app.page.evaluate(get, local), await worker.evaluate(get, local)]).toEqual(["fetched", "fetched"]);
    expect(reached).toBe(2);
  } finally {
    other.close();
  }
});

it("asks only its own server for anything when it is opened", async () => {
  app = await openApp();
  await app.page.waitForLoadState("networkidle");
  expect(app.requests.length).toBeGreaterThan(2);
  expect(app.requests.filter((url) => !url.startsWith(app!.origin) && !/^(blob|data):/.test(url))).toEqual([]);
  expect(await app.context.cookies()).toEqual([]);
});

it("comes up again without a network", async () => {
  app = await openApp({ serviceWorker: true });
  const { page } = app;
  const kept = () =>
    page.evaluate(async () => {
      const { active } = await navigator.serviceWorker.ready;
      const files = (
        await Promise.all((await caches.keys()).map(async (name) => (await caches.open(name)).keys()))
      ).flat();
      return { state: active?.state, files: files.map((request) => new URL(request.url).pathname) };
    });
  await expect.poll(async () => (await kept()).state, { timeout: 30_000 }).toBe("activated");
  expect((await kept()).files).toContain("/index.html");
  await app.stopServer();
  await page.reload();
  await waitForApp(page, app.errors);
  expect(await capabilities(page)).toMatchObject({ ok: true });
});

it.skipIf(!existsSync("public/models/demo/model.safetensors"))(
  "answers with the demo model without a network, from the first visit on",
  { timeout: 300_000 },
  async () => {
    app = await openApp({ serviceWorker: true });
    const { page } = app;
    const kept = () =>
      page.evaluate(async () =>
        (await (await caches.open("tabtune-models")).keys()).map(({ url }) => new URL(url).pathname),
      );
    await expect.poll(kept, { timeout: 60_000 }).toContain("/models/demo/model.safetensors");
    await app.stopServer();
    await page.reload();
    await waitForApp(page, app.errors);
    const { value } = await importSource(page, { kind: "demo" });
    expect(value).toMatchObject({ state: "complete" });
    expect(await loadModel(page, value!.id)).toMatchObject({ value: { id: value!.id } });
    expect((await ask(page, { question: "Who are you?" })).value?.stats.newTokens).toBeGreaterThan(0);
  },
);
