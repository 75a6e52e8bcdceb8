// The page's screens by keyboard, on a phone, in both themes, and with what visitors get wrong.
import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { App } from "./browser.ts";
import { damageShard, storedModels } from "./engine_calls.ts";
import {
  answered,
  box,
  CAN_CHAT,
  conversationFile,
  drop,
  PATIENCE,
  picture,
  questions,
  RICH,
  scrollsSideways,
  visit,
} from "./visitor.ts";

const SCREENS = ["#/models", "#/selftest", "#/about"];
/** A checkpoint that is not the page's own demo. */
const OTHER = "../shared/reference/m-0/checkpoint";

describe("the page", { timeout: PATIENCE }, () => {
  let app: App;
  let readLater: () => Promise<void> = async () => {};
  beforeAll(async () => {
    app = await visit({
      folders: existsSync(OTHER) ? { "/other/": OTHER } : {},
      prepare: async (context) => {
        // Reading the other checkpoint can be made to wait, as on a slow line.
        await context.route("**/other/model.safetensors", async (route) => {
          await readLater();
          await route.continue().catch(() => {});
        });
      },
    });
  }, PATIENCE);
  afterAll(async () => {
    await app.close();
  });

  it("says what each bad file is and loses nothing", async () => {
    const { page } = app;
    await box(page).fill("Words that must stay");
    await drop(page, [
      picture("good.png"),
      { name: "cat.png", type: "image/png", bytes: new TextEncoder().encode("PK\x03\x04 and more") },
      { name: "empty.jpg", type: "image/jpeg", bytes: new Uint8Array() },
      { name: "notes.txt", type: "text/plain", bytes: new TextEncoder().encode("Dear all,") },
      { name: "model.safetensors", bytes: new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]) },
    ]);
    const notices = page.getByRole("alert");
    await expect
      .poll(() => notices.allTextContents())
      .toEqual([
        expect.stringMatching(/cat\.png.*ZIP archive/),
        expect.stringMatching(/empty\.jpg is empty/),
        expect.stringMatching(/notes\.txt.*plain text/),
        expect.stringMatching(/model\.safetensors.*Models page/),
      ]);
    await page.getByRole("list", { name: "Pictures to send" }).getByText("good.png").waitFor();
    expect(await box(page).inputValue()).toBe("Words that must stay");
    for (let left = 4; left > 0; left--) await notices.first().getByRole("button", { name: "Dismiss" }).click();
    await page.getByRole("button", { name: "Remove good.png" }).click();
    await box(page).fill("");
  });

  it("shows an imported chat: tables, code, formulas, boxes, thoughts", async () => {
    const { page } = app;
    await page.getByLabel("Import a chat").setInputFiles(conversationFile("All kinds", RICH));
    await answered(page, 3);
    expect(await page.locator("article table td").allTextContents()).toEqual(["Apple", "12", "Pear", "7"]);
    // A link leads out of the page, not the page away.
    const link = page.getByRole("link", { name: "the source" });
    expect([await link.getAttribute("target"), await link.getAttribute("rel")]).toEqual([
      "_blank",
      "noopener noreferrer nofollow",
    ]);
    expect(await page.locator("article .math").allTextContents()).toEqual(["\\bar{x}_1", "\\sum_{i=1}^n x_i"]);
    await page.getByRole("button", { name: /Enlarge chart\.png with 2 marks/ }).click();
    const labels = page.getByRole("dialog").locator(".mark-label");
    await expect.poll(() => labels.allTextContents()).toEqual(["Apple", "Pear"]);
    await page.keyboard.press("Escape");
    await page.getByText("2 marks in words").click();
    await page.getByText("Apple: 10 % to 30 % from the left, 20 % to 90 % from the top").waitFor();
    const thoughts = page.locator("details.thoughts");
    expect(await thoughts.evaluate((details: HTMLDetailsElement) => details.open)).toBe(false);
  });

  it("is worked by keyboard alone", async () => {
    const { page } = app;
    const focused = () =>
      page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent);
    await page.keyboard.press("Control+Shift+O");
    await expect.poll(focused).toBe("Message");
    await page.keyboard.type("Hello");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("there");
    expect(await box(page).inputValue()).toBe("Hello\nthere");
    await page.keyboard.press("Control+A");
    await page.keyboard.press("Delete");
    await page.evaluate(() => (document.activeElement as HTMLElement).blur());
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("/");
    expect(await focused()).toBe("Message");
    await page.keyboard.press("Control+K");
    expect(await focused()).toBe("Search chats");
    await page.keyboard.type("kinds");
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("All kinds");
    await page.keyboard.press("Enter");
    await answered(page, 3);
    // The first stop of the page, before its brand.
    await page.locator(".brand").focus();
    await page.keyboard.press("Shift+Tab");
    expect(await focused()).toBe("Skip to the message box");
    await page.keyboard.press("Enter");
    expect(await focused()).toBe("Message");
  });

  it("fits a phone, in the dark too", async () => {
    const { page } = app;
    await page.setViewportSize({ width: 360, height: 640 });
    try {
      expect(await scrollsSideways(page)).toBe(false);
      expect((await box(page).boundingBox())!.y).toBeLessThan(640);
      await page.getByRole("button", { name: "Open the menu" }).click();
      await page.getByRole("button", { name: "Dark", exact: true }).click();
      expect(await page.evaluate(() => getComputedStyle(document.body).backgroundColor)).toBe("rgb(23, 24, 26)");
      for (const screen of SCREENS) {
        await page.locator(`.screens a[href="${screen}"]`).click();
        await page.locator("main.page").waitFor();
        expect(await scrollsSideways(page), screen).toBe(false);
        await page.getByRole("button", { name: "Open the menu" }).click();
      }
      await page.getByRole("button", { name: "Light", exact: true }).click();
      expect(await page.evaluate(() => getComputedStyle(document.body).backgroundColor)).toBe("rgb(247, 246, 243)");
      await page.keyboard.press("Escape");
      await expect.poll(() => page.locator("#sidebar").isVisible()).toBe(false);
    } finally {
      await page.setViewportSize({ width: 1280, height: 900 });
    }
  });

  it("stays quick and where it is in a conversation of 200 turns", async () => {
    const { page } = app;
    const turns = Array.from({ length: 100 }, (_, i) => [
      { role: "user" as const, text: `Question ${i + 1}` },
      { role: "assistant" as const, text: `**Answer ${i + 1}.** ${RICH[1]!.text}` },
    ]).flat();
    await page.getByLabel("Import a chat").setInputFiles(conversationFile("Long", turns));
    await answered(page, 100);
    const place = () => page.locator(".scroller").evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight);
    await expect.poll(place).toBeLessThan(2);
    // Only what can be seen is laid out.
    const laidOut = await page.evaluate(
      () =>
        [...document.querySelectorAll("article")].filter((e) => e.checkVisibility({ contentVisibilityAuto: true }))
          .length,
    );
    expect(laidOut).toBeGreaterThan(0);
    await page.locator(".scroller").evaluate((e) => e.scrollTo(0, e.scrollHeight / 2));
    await page.getByRole("button", { name: "To the end" }).click();
    await expect.poll(place).toBeLessThan(60);
  });

  it.skipIf(!existsSync(OTHER))("imports a model, mends it, and deletes it", async () => {
    const { page } = app;
    await page.goto(`${app.url}#/models`);
    await page.getByText("Address", { exact: true }).click();
    await page.getByLabel("Address of the folder").fill(`${app.origin}/nowhere/`);
    await page.getByRole("button", { name: "Show what it takes" }).click();
    await page
      .getByRole("alert")
      .filter({ hasText: /nowhere.*config\.json/ })
      .waitFor();
    await page.getByLabel("Address of the folder").fill(`${app.origin}/other/`);
    await page.getByRole("button", { name: "Show what it takes" }).click();
    const plan = page.getByRole("region", { name: "Import of other" });
    // The last words come when memory has been tried.
    await expect
      .poll(() => plan.textContent(), { timeout: PATIENCE })
      .toMatch(/Parameters7\.5 M.*To store.*Storage is enough.*GPU memory that it takes.*processor/s);

    // The line stalls when the weights are asked for; the visitor gives up.
    let release = () => {};
    const stalled = new Promise<void>((stall) => {
      readLater = () => {
        stall();
        return new Promise((resolve) => {
          release = resolve;
        });
      };
    });
    await plan.getByRole("button", { name: "Import" }).click();
    await stalled;
    const importing = page.getByRole("region", { name: "Importing other" });
    await importing.getByRole("button", { name: "Cancel" }).click();
    await importing.waitFor({ state: "detached", timeout: 5_000 });
    readLater = async () => {};
    release();

    await page.getByRole("button", { name: "Show what it takes" }).click();
    await plan.getByRole("button", { name: "Import" }).click();
    const stored = page.getByRole("region", { name: "Stored in this browser" });
    const model = stored.getByRole("listitem").filter({ hasText: "other" });
    await model.getByText("in use").waitFor({ timeout: PATIENCE });

    const record = (await storedModels(page)).find(({ name }) => name === "other")!;
    await damageShard(page, record.id);
    // The page loads what was used last, finds it damaged, and looks at all of it on its own.
    await page.reload();
    await model.getByText(/Part 1 of this model is damaged/).waitFor({ timeout: PATIENCE });
    await model.getByRole("button", { name: "Go on with the import" }).click();
    await plan.getByRole("button", { name: /^(Import|Go on)/ }).click();
    await model.getByText("in use").waitFor({ timeout: PATIENCE });
    await model.getByRole("button", { name: "Check" }).click();
    await model.getByText("All is well").waitFor({ timeout: PATIENCE });

    await model.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("dialog", { name: "Delete other?" }).getByRole("button", { name: "Delete" }).click();
    await model.waitFor({ state: "detached" });
    expect(await page.getByRole("region", { name: "In use" }).textContent()).toContain("No model is loaded");
  });

  it("tests the kernels and shows the table", async () => {
    const { page } = app;
    await page.goto(`${app.url}#/selftest`);
    await page.getByLabel("Only kernels with").fill("scatter");
    await page.getByRole("button", { name: "Run the self-test" }).click();
    await page.getByText(/All \d+ cases passed/).waitFor({ timeout: PATIENCE });
    expect(await page.locator(".ceilings").textContent()).toMatch(/Copying.*B\/s.*Arithmetic.*FLOP\/s/);
    const rows = page.locator(".results tbody tr");
    expect(await rows.count()).toBeGreaterThan(2);
    expect(await rows.first().textContent()).toMatch(/ok.*scatter/);
    await page.getByLabel("Only kernels with").fill("scatter nothing-of-that-name");
    await page.getByText("No row has these words.").waitFor();
  });

  it.skipIf(!CAN_CHAT)("keeps its place while an answer grows below", async () => {
    const { page } = app;
    await page.goto(`${app.url}#/`);
    await page.getByLabel("Import a chat").setInputFiles(conversationFile("Reading", [...RICH, ...RICH]));
    await answered(page, 6);
    await page.locator(".chip-name", { hasText: /Demo|No model/ }).waitFor({ timeout: PATIENCE });
    await page.locator(".scroller").evaluate((e) => e.scrollTo(0, 0));
    await box(page).fill("Go on.");
    await box(page).press("Enter");
    await page.getByRole("button", { name: "Stop the answer" }).waitFor();
    // Sending leads to the end; scrolling up again is respected.
    await page.locator(".scroller").evaluate((e) => e.scrollTo(0, 10));
    await page.waitForTimeout(1_500);
    expect(await page.locator(".scroller").evaluate((e) => e.scrollTop)).toBe(10);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Stop the answer" }).waitFor({ state: "detached" });
    expect(await questions(page).count()).toBe(7);
  });
});
