// axe-core's rules on every screen and dialog, in both themes.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults } from "axe-core";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type App, openApp } from "./browser.ts";
import { answered, box, conversationFile, drop, PATIENCE, picture, RICH, visit } from "./visitor.ts";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** What axe finds, one line for each rule and element. */
async function faults(page: Page): Promise<string[]> {
  // Through the debugger, which the page's policy does not hold.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(
    async (tags): Promise<AxeResults> =>
      await (globalThis as unknown as { axe: typeof import("axe-core") }).axe.run(document, {
        runOnly: { type: "tag", values: tags },
      }),
    RULES,
  );
  return violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, any }) => `${id}: ${html.slice(0, 160)} ${any.map((check) => check.message).join(" ")}`),
  );
}

let app: App;
beforeAll(async () => {
  app = await visit();
}, PATIENCE);
afterAll(async () => {
  await app.close();
});

const close = async (page: Page) => {
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
};
/** Brings the page into a state worth looking at. */
const STATES: [name: string, show: (page: Page) => Promise<void>][] = [
  ["the first visit", async (page) => page.locator(".example").first().waitFor()],
  [
    "a chat with everything in it",
    async (page) => {
      await page.getByLabel("Import a chat").setInputFiles(conversationFile("All kinds", RICH));
      await answered(page, 3);
      await page.getByText("2 marks in words").click();
      await page.getByText("Thoughts").click();
      await drop(page, [picture("chart.png"), { name: "bad.zip", bytes: new TextEncoder().encode("PK\x03\x04") }]);
      await page.getByRole("button", { name: "Pixel budget of chart.png" }).click();
      await box(page).fill("Some words");
    },
  ],
  ["a turn being edited", async (page) => page.getByRole("button", { name: "Edit this message" }).first().click()],
  ["settings", async (page) => page.getByRole("button", { name: "System prompt and sampling" }).click()],
  [
    "shortcuts",
    async (page) => {
      await close(page);
      await page.getByRole("button", { name: "Keyboard shortcuts" }).click();
    },
  ],
  [
    "models",
    async (page) => {
      await close(page);
      await page.goto(`${app.url}#/models`);
      await page.getByText("Address", { exact: true }).click();
      await page.getByLabel("Address of the folder").fill(`${app.origin}/nowhere/`);
      await page.getByRole("button", { name: "Show what it takes" }).click();
      await page.getByRole("alert").waitFor();
    },
  ],
  [
    "self-test",
    async (page) => {
      await page.goto(`${app.url}#/selftest`);
      await page.getByLabel("Only kernels with").fill("rms_norm");
      await page.getByLabel("Measure times").uncheck();
      await page.getByRole("button", { name: "Run the self-test" }).click();
      await page.getByText(/cases passed/).waitFor({ timeout: PATIENCE });
    },
  ],
  ["about", async (page) => void (await page.goto(`${app.url}#/about`))],
];

it.each(STATES)("finds no fault with %s", { timeout: PATIENCE }, async (_, show) => {
  const { page } = app;
  await show(page);
  for (const colorScheme of ["light", "dark"] as const) {
    // Without animations: a colour half-way through one is nobody's text.
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    expect(await faults(page), colorScheme).toEqual([]);
  }
});

it("finds no fault with the page that says what is missing", async () => {
  const without = await openApp({ chromeArgs: "--disable-gpu" });
  try {
    await without.page.getByRole("heading", { name: "The browser found no usable GPU" }).waitFor();
    for (const colorScheme of ["light", "dark"] as const) {
      await without.page.emulateMedia({ colorScheme });
      expect(await faults(without.page), colorScheme).toEqual([]);
    }
  } finally {
    await without.close();
  }
});
