// A new version of the page: said when it is there, taken when the visitor reloads, never half of one and half of the other.
import { cpSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type App, openApp, waitForApp } from "./browser.ts";

const folder = mkdtempSync(join(tmpdir(), "update-"));
const built = process.env.TABTUNE_DIST;
let app: App;

/** Gives the page's script another name, as a build of changed source does, and the service worker a list with that name. */
function publishNewVersion(name: string): void {
  const assets = join(folder, "assets");
  const old = readFileSync(join(folder, "index.html"), "utf8").match(/assets\/([\w.-]+\.js)/)![1]!;
  expect(readdirSync(assets)).toContain(old);
  renameSync(join(assets, old), join(assets, name));
  for (const file of ["index.html", "sw.js"]) {
    const path = join(folder, file);
    const text = readFileSync(path, "utf8");
    expect(text).toContain(`assets/${old}`);
    writeFileSync(
      path,
      text.replaceAll(`assets/${old}`, `assets/${name}`).replace(/VERSION = "[^"]+"/, `VERSION = "${name}"`),
    );
  }
}

beforeAll(async () => {
  cpSync(built!, folder, { recursive: true });
  process.env.TABTUNE_DIST = folder;
  app = await openApp({ base: "/some/where/", serviceWorker: true });
});
afterAll(async () => {
  await app?.close();
  process.env.TABTUNE_DIST = built!;
  rmSync(folder, { recursive: true });
});

const scripts = () =>
  app.page.evaluate(() => [...document.querySelectorAll("script")].map(({ src }) => src.split("/").at(-1)));

it("is offered to an open page and taken when the visitor reloads", async () => {
  const { page } = app;
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  publishNewVersion("index-second.js");
  await page.evaluate(async () => (await navigator.serviceWorker.ready).update());
  const notice = page.getByText("A new version of TabTune is ready.");
  await notice.waitFor();
  // Until then the old page has all its files, also without the server.
  expect(await scripts()).not.toContain("index-second.js");
  await page.getByRole("button", { name: "Reload" }).click();
  await expect.poll(() => scripts().catch(() => []), { timeout: 20_000 }).toEqual(["index-second.js"]);
  await waitForApp(page);
  await expect.poll(() => notice.count()).toBe(0);
});

it("comes by itself with the first reload after it was published, and is there without a network then", async () => {
  const { page } = app;
  publishNewVersion("index-third.js");
  await page.reload();
  await waitForApp(page);
  expect(await scripts()).toEqual(["index-third.js"]);
  const kept = () =>
    page.evaluate(async () => {
      const files = await Promise.all((await caches.keys()).map(async (name) => (await caches.open(name)).keys()));
      const { waiting } = await navigator.serviceWorker.ready;
      return { paths: files.flat().map(({ url }) => new URL(url).pathname), waiting: waiting !== null };
    });
  // The page is the new version already: the worker that holds it takes over unasked.
  await expect
    .poll(
      async () => {
        const { paths, waiting } = await kept();
        return [
          waiting,
          paths.some((path) => path.endsWith("index-third.js")),
          paths.some((path) => path.includes("second")),
        ];
      },
      { timeout: 20_000 },
    )
    .toEqual([false, true, false]);
  expect(await page.getByText("A new version of TabTune is ready.").count()).toBe(0);
  await app.stopServer();
  await page.reload();
  await waitForApp(page);
  expect(await scripts()).toEqual(["index-third.js"]);
});
