import { afterEach, expect, it } from "vitest";
import { type App, capabilities, openApp, waitForApp } from "./browser.ts";

let app: App | undefined;
afterEach(async () => {
  await app?.close();
  app = undefined;
});

it("comes up without an error in the console", async () => {
  app = await openApp();
  expect(await app.page.title()).toMatch(/TabTune/);
  expect(await app.page.evaluate(() => crossOriginIsolated)).toBe(true);
  expect(await capabilities(app.page)).toMatchObject({ ok: true });
  expect(app.errors).toEqual([]);
});

it("works under a sub-path", async () => {
  const paths: string[] = [];
  app = await openApp({ base: "/some/where/", onRequest: (path) => paths.push(path) });
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
  app = await openApp();
  const answer = await app.page.evaluate(async () => {
    const refused = async (url: string) =>
      await fetch(url).then(
        () => "fetched",
        (error: Error) => error.name,
      );
    const worker = (url: string) =>
      tabtune.engine.planImport({ kind: "url", base: url }, "bf16", "probe").then(
        () => "planned",
        (e: Error) => e.name,
      );
    return [await refused("https://example.com/"), await worker("https://example.com/model/")];
  });
  expect(answer[0]).toBe("TypeError");
  expect(answer[1]).not.toBe("planned");
  expect(app.requests.filter((url) => !url.startsWith(app!.origin) && !/^(blob|data):/.test(url))).toEqual([]);
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
