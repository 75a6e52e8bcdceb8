// A visitor's way through the chat, with the page's own buttons and keys.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { App } from "./browser.ts";
import {
  answered,
  answers,
  box,
  CAN_CHAT,
  drop,
  limitAnswers,
  modelLoaded,
  PATIENCE,
  picture,
  questions,
  visit,
} from "./visitor.ts";

// Without the demo model and without reference checkpoints there is nobody to talk with.
describe.skipIf(!CAN_CHAT)("a visitor", { timeout: 2 * PATIENCE }, () => {
  let app: App;
  beforeAll(async () => {
    app = await visit();
    await app.context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await modelLoaded(app.page);
    await limitAnswers(app.page, 8);
  }, PATIENCE);
  afterAll(async () => {
    expect(app.errors).toEqual([]);
    await app.close();
  });

  it("asks about an example with one click", async () => {
    const { page } = app;
    const card = page.locator(".example").first();
    const question = (await card.locator(".example-question").textContent())!;
    await card.click();
    await answered(page, 1);
    expect(await questions(page).textContent()).toContain(question);
    // The other questions go on being offered.
    expect(await page.getByRole("list", { name: "Suggested questions" }).getByRole("button").count()).toBeGreaterThan(
      0,
    );
    const list = page.getByRole("list", { name: "Conversations" });
    await list.getByRole("button", { name: /^Delete/ }).click();
    await list.getByRole("link").waitFor({ state: "detached" });
  });

  it("drops a picture, asks about it, and asks again", async () => {
    const { page } = app;
    await drop(page, [picture("first.png"), picture("second.png", 64, 96)]);
    const chips = page.getByRole("list", { name: "Pictures to send" }).getByRole("listitem");
    await expect
      .poll(() => chips.allTextContents())
      .toEqual([
        expect.stringMatching(/first\.png.*96 × 64.* \d+ tokens/),
        expect.stringMatching(/second\.png.*64 × 96.* \d+ tokens/),
      ]);
    await chips.nth(1).getByRole("button", { name: "Remove second.png" }).click();
    await box(page).fill("Which one is the highest?");
    await box(page).press("Enter");
    await answered(page, 1);
    expect(await questions(page).textContent()).toContain("Which one is the highest?");
    expect(await page.locator(".stats").textContent()).toMatch(/first token.*prefill.*decode.*pictures.*context/);
    expect(await page.locator(".context-meter meter").getAttribute("aria-label")).toMatch(/\d+ of [\d,]+ tokens/);

    await box(page).fill("And the lowest?");
    await page.getByRole("button", { name: "Send" }).click();
    await answered(page, 2);
    const prefill = await page.locator(".stats").nth(1).locator("div", { hasText: "prefill" }).getAttribute("title");
    const [, read, kept] = prefill!.match(/^([\d,]+) prompt tokens were read; ([\d,]+) were still in the cache/)!;
    // The first turn, with its picture, was not read again.
    expect(Number(kept)).toBeGreaterThan(Number(read));
  });

  it("finds everything again after a reload", async () => {
    const { page } = app;
    const before = await answers(page).locator(".markdown").allTextContents();
    await page.reload();
    await answered(page, 2);
    expect(await answers(page).locator(".markdown").allTextContents()).toEqual(before);
    const shown = page.getByRole("list", { name: "Pictures of this message" }).locator("img");
    await expect.poll(() => shown.evaluate((img: HTMLImageElement) => img.naturalWidth)).toBe(96);
    expect(await page.title()).toContain("Which one is the highest?");
  });

  it("changes the first turn, asks for another answer, and takes that back", async () => {
    const { page } = app;
    await modelLoaded(page);
    await page.getByRole("button", { name: "Edit this message" }).first().click();
    const editor = page.getByRole("form", { name: "Edit the message" });
    await editor.getByRole("textbox").fill("How many are there?");
    await editor.getByRole("button", { name: "Send" }).click();
    await page.locator(".toast", { hasText: "what followed was dropped" }).waitFor();
    await answered(page, 1);
    expect(await questions(page).allTextContents()).toEqual([expect.stringContaining("How many are there?")]);

    const before = await answers(page).textContent();
    await page.getByRole("button", { name: "Answer again" }).click();
    await answers(page).waitFor({ state: "detached" });
    // Also while the new answer is being written.
    await page.locator(".toast", { hasText: "earlier answer" }).getByRole("button", { name: "Undo" }).click();
    await answered(page, 1);
    expect(await answers(page).textContent()).toBe(before);
  });

  it("stops an answer, then deletes a turn and brings it back", async () => {
    const { page } = app;
    await box(page).fill("Tell me a story.");
    await box(page).press("Enter");
    await page.getByRole("button", { name: "Stop the answer" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Stop the answer" }).waitFor({ state: "detached", timeout: 5_000 });
    await page
      .getByText("This message has no answer yet.")
      .or(page.getByText("Stopped.", { exact: true }))
      .first()
      .waitFor();

    const count = await questions(page).count();
    await page.getByRole("button", { name: "Delete this message and its answer" }).last().click();
    await expect.poll(() => questions(page).count()).toBe(count - 1);
    await page.locator(".toast", { hasText: "deleted" }).getByRole("button", { name: "Undo" }).click();
    await expect.poll(() => questions(page).count()).toBe(count);
  });

  it("renames, finds, deletes and brings back a chat", async () => {
    const { page } = app;
    const list = page.getByRole("list", { name: "Conversations" });
    await list.getByRole("link").hover();
    await list.getByRole("button", { name: /^Rename/ }).click();
    await page.getByRole("textbox", { name: "Name of this chat" }).fill("About bars");
    await page.keyboard.press("Enter");
    await list.getByRole("link", { name: "About bars" }).waitFor();
    await page.getByRole("searchbox", { name: "Search chats" }).fill("how many");
    await expect.poll(() => list.getByRole("link").allTextContents()).toEqual(["About bars"]);
    await page.getByRole("searchbox", { name: "Search chats" }).fill("nowhere to be found");
    await page.getByText("Nothing found.").waitFor();
    await page.getByRole("searchbox", { name: "Search chats" }).fill("");
    await list.getByRole("button", { name: "Delete About bars" }).click();
    await page.getByText("Your chats will be listed here.").waitFor();
    await page.locator(".toast", { hasText: "was deleted" }).getByRole("button", { name: "Undo" }).click();
    await list.getByRole("link", { name: "About bars" }).click();
    await expect.poll(() => questions(page).count()).toBe(2);
  });

  it("exports a chat and imports it with its pictures", async () => {
    const { page } = app;
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export this chat" }).click();
    const file = await download;
    expect(file.suggestedFilename()).toBe("About-bars.json");
    const buffer = readFileSync(await file.path());
    await page.getByLabel("Import a chat").setInputFiles({ name: "again.json", mimeType: "application/json", buffer });
    const links = page.getByRole("list", { name: "Conversations" }).getByRole("link", { name: "About bars" });
    await expect.poll(() => links.count()).toBe(2);
    await expect.poll(() => questions(page).count()).toBe(2);
    expect(await page.getByRole("list", { name: "Pictures of this message" }).locator("img").count()).toBe(1);
  });

  it("pastes a picture", async () => {
    const { page } = app;
    await page.getByRole("button", { name: "New chat" }).first().click();
    await page.evaluate(async () => {
      const canvas = new OffscreenCanvas(80, 60);
      canvas.getContext("2d")!.fillRect(0, 0, 40, 60);
      const blob = await canvas.convertToBlob({ type: "image/png" });
      await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    });
    await box(page).focus();
    await page.keyboard.press("Control+V");
    const chip = page.getByRole("list", { name: "Pictures to send" }).getByRole("listitem");
    await expect.poll(() => chip.textContent()).toMatch(/80 × 60.* tokens/);
  });
});
