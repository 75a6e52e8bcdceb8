// What a visitor does with the page: its own buttons and keys, nothing of its API.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import type { BrowserContext, Locator, Page } from "playwright-core";
import { expect } from "vitest";
import { type App, type AppOptions, openApp } from "./browser.ts";
import { greyPng } from "./png.ts";

const EXAMPLES_IN_APP = existsSync("public/examples/index.json");
const DEMO_IN_APP = existsSync("public/models/demo/model.safetensors");
/** Takes the demo's place in a clone without it: its answers mean nothing, the page treats it alike. */
const STAND_IN = "../shared/reference/s-0/checkpoint";
/** False where there is no model at all to talk with. */
export const CAN_CHAT = DEMO_IN_APP || existsSync(STAND_IN);
/** A model that answers is loaded within this time, also on a software GPU that others use too. */
export const PATIENCE = 240_000;

export async function visit(options: AppOptions = {}): Promise<App> {
  const standIn: Record<string, string> =
    DEMO_IN_APP || !CAN_CHAT ? {} : { [`${options.base ?? "/"}models/demo/`]: STAND_IN };
  return await openApp({
    ...options,
    folders: { ...standIn, ...options.folders },
    prepare: async (context) => {
      if (!EXAMPLES_IN_APP) await serveExample(context);
      await options.prepare?.(context);
    },
  });
}

/** One example chart, where the app has none of its own. */
async function serveExample(context: BrowserContext): Promise<void> {
  const list = [{ file: "grey.png", title: "Grey", questions: ["What is this?", "How many are there?"] }];
  await context.route("**/examples/index.json", (route) => route.fulfill({ json: list }));
  await context.route("**/examples/grey.png", (route) =>
    route.fulfill({ contentType: "image/png", body: greyPng(64, 64) }),
  );
}

export async function modelLoaded(page: Page): Promise<void> {
  await page.locator(".chip-name", { hasText: "Demo" }).waitFor({ timeout: PATIENCE });
}

export interface LocalFile {
  name: string;
  type?: string;
  bytes: Uint8Array;
}
export const picture = (name: string, width = 96, height = 64): LocalFile => ({
  name,
  type: "image/png",
  bytes: greyPng(width, height),
});

/** Drops files in the middle of the page. */
export async function drop(page: Page, files: LocalFile[]): Promise<void> {
  const sent = files.map(({ name, type = "", bytes }) => ({
    name,
    type,
    base64: Buffer.from(bytes).toString("base64"),
  }));
  await page.evaluate((list) => {
    const dataTransfer = new DataTransfer();
    for (const { name, type, base64 } of list) {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      dataTransfer.items.add(new File([bytes], name, { type }));
    }
    const target = document.elementFromPoint(innerWidth / 2, innerHeight / 3)!;
    for (const type of ["dragenter", "dragover", "drop"])
      target.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
  }, sent);
}

/** Drops files from the disk on an element, as a visitor's file manager would. */
export async function dropFromDisk(page: Page, target: Locator, files: string[]): Promise<void> {
  const { x, y, width, height } = (await target.boundingBox())!;
  const devtools = await page.context().newCDPSession(page);
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"] as const)
    await devtools.send("Input.dispatchDragEvent", { type, x: x + width / 2, y: y + height / 2, data });
  await devtools.detach();
}

/** The answers of the open conversation that are complete. */
export const answers = (page: Page) => page.locator("article.assistant:has(footer)");
export const questions = (page: Page) => page.locator("article.user");
export const box = (page: Page) => page.getByRole("textbox", { name: "Message", exact: true });

/** Waits until the conversation has `count` complete answers and none is being written. */
export async function answered(page: Page, count: number): Promise<void> {
  await expect.poll(() => answers(page).count(), { timeout: PATIENCE }).toBe(count);
  await page.getByRole("button", { name: "Stop the answer" }).waitFor({ state: "detached", timeout: PATIENCE });
}

/** Keeps answers short, for this and every new chat, in the settings dialog. */
export async function limitAnswers(page: Page, tokens: number): Promise<void> {
  await page.getByRole("button", { name: "System prompt and sampling" }).click();
  const dialog = page.getByRole("dialog", { name: "Settings of this chat" });
  const field = dialog.getByRole("spinbutton", { name: /Most tokens of an answer/ });
  await field.fill(String(tokens));
  await field.press("Tab");
  await dialog.getByRole("button", { name: "Keep for new chats" }).click();
  await dialog.getByRole("button", { name: "Done" }).click();
  await dialog.waitFor({ state: "detached" });
}

/** True when something lies to the right of the window. */
export async function scrollsSideways(page: Page): Promise<boolean> {
  return await page.evaluate(() => {
    const scroller = document.scrollingElement!;
    const main = document.querySelector("main")!;
    return scroller.scrollWidth > innerWidth || main.scrollWidth > main.clientWidth;
  });
}

export interface Turn {
  role: "user" | "assistant";
  text: string;
  pictures?: LocalFile[];
}
/** A conversation as the page exports it, with everything that Markdown offers unless `turns` says otherwise. */
export function conversationFile(title: string, turns: Turn[]): { name: string; mimeType: string; buffer: Buffer } {
  const id = ({ bytes }: LocalFile) => createHash("sha256").update(bytes).digest("hex");
  const pictures = new Map(turns.flatMap(({ pictures = [] }) => pictures.map((p) => [id(p), p] as const)));
  const file = {
    ...{ format: "tabtune-conversation", version: 1, title, created: 1, system: "" },
    messages: turns.map(({ role, text, pictures = [] }) => ({
      role,
      parts: [...pictures.map((p) => ({ type: "image", pictureId: id(p) })), { type: "text", text }],
    })),
    pictures: [...pictures].map(([key, { name, bytes }]) => ({
      ...{ id: key, name, type: "image/png", data: Buffer.from(bytes).toString("base64") },
    })),
  };
  return { name: "chat.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(file)) };
}

export const RICH: Turn[] = [
  { role: "user", text: "Describe the chart.", pictures: [picture("chart.png", 300, 200)] },
  {
    role: "assistant",
    text: [
      "The chart **Fruit sales** has two bars. See [the source](https://example.com).",
      "| Fruit | Value |\n|:--|--:|\n| Apple | 12 |\n| Pear | 7 |",
      `\`\`\`python\nprint("${"a long line ".repeat(20)}")\n\`\`\``,
      "> The mean is $\\bar{x}_1$.\n\n$$\n\\sum_{i=1}^n x_i\n$$\n\n1. one\n2. two",
    ].join("\n\n"),
  },
  { role: "user", text: "Where are they?" },
  {
    role: "assistant",
    text: '```json\n[{"bbox_2d": [100, 200, 300, 900], "label": "Apple"}, {"point_2d": [700, 500], "label": "Pear"}]\n```',
  },
  { role: "user", text: "Think first." },
  { role: "assistant", text: "<think>\nApple is the higher one.\n</think>\n\nApple." },
];
