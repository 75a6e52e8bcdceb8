// A visitor's way from files to an adapter, with the page's own buttons, on a software GPU: few rows, few steps. In the middle the tab is
// closed and the newest checkpoint damaged; the run must end as one that nothing happened to. Another one is stopped by hand.
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RunEvent } from "../src/api/index.ts";
import { type App, waitForApp } from "./browser.ts";
import { colourPng } from "./png.ts";
import { answered, box, CAN_CHAT, limitAnswers, modelLoaded, PATIENCE, scrollsSideways, visit } from "./visitor.ts";

const NAMES = Array.from({ length: 6 }, (_, i) => `chart${i}.png`);
const TABLE = [
  "image,question,answer",
  ...NAMES.map((name, i) => `${name},How many bars?,${i + 2}`),
  "missing.png,What is this?,7",
  `chart0.png,Say much,${"many words ".repeat(5000)}`,
].join("\n");
const STEPS = 4;

/** A chart of `bars` bars. */
const draw = (name: string, bars: number) => ({
  name,
  mimeType: "image/png",
  buffer: colourPng(64, 64, (x, y) => {
    const bar = Math.floor(x / 8);
    return bar < bars && x % 8 > 2 && 64 - y < 7 * (bar + 1) ? [20, 110, 100] : [255, 255, 255];
  }),
});

const rows = (page: Page) => page.getByRole("region", { name: "Rows" }).locator("tbody tr");
const set = (page: Page, name: string, value: string) => page.getByLabel(name, { exact: true }).fill(value);
const start = (page: Page) => page.getByRole("button", { name: "Start training" });

/** Stands in for the browser's wake locks. @returns how many are held */
async function countWakeLocks(page: Page): Promise<() => Promise<number>> {
  const held = await page.evaluateHandle(() => {
    const count = { now: 0 };
    navigator.wakeLock.request = async () => {
      count.now++;
      return { release: async () => void count.now-- } as unknown as WakeLockSentinel;
    };
    return count;
  });
  return async () => await held.evaluate(({ now }) => now);
}

/** What the engine says to the newest run while somebody else holds the lock that training takes. */
async function goOnWhileAnotherTabTrains(page: Page): Promise<string> {
  return await page.evaluate(
    async () =>
      await navigator.locks.request("tabtune-training", async () => {
        const { engine, callback } = tabtune;
        const [run] = await engine.listRuns();
        const onEvent = callback(() => undefined);
        return await engine.resumeRun(run!.id, "second", onEvent).then(
          () => "it began",
          (error: Error) => error.message,
        );
      }),
  );
}

/** Changes one byte of the newest stored checkpoint. */
async function damageNewestCheckpoint(page: Page): Promise<number> {
  return await page.evaluate(async () => {
    const open = indexedDB.open("tabtune-records");
    await new Promise((resolve) => {
      open.onsuccess = resolve;
    });
    const range = IDBKeyRange.bound(["run-checkpoint"], ["run-checkpoint", []]);
    const done = async <T>(request: IDBRequest<T>) => {
      await new Promise((resolve) => {
        request.onsuccess = resolve;
      });
      return request.result;
    };
    const store = () => open.result.transaction("records", "readwrite").objectStore("records");
    const keys = await done(store().getAllKeys(range));
    const all = await done(store().getAll(range));
    const newest = all.reduce((best, { step }, i) => (step > all[best].step ? i : best), 0);
    const part = all[newest].buffers[0];
    const bytes = new Uint8Array(await part.blob.arrayBuffer());
    bytes[0]! ^= 1;
    part.blob = new Blob([bytes]);
    await done(store().put(all[newest], keys[newest]!));
    open.result.close();
    return all[newest].step;
  });
}

/** True when the newest run has a stored checkpoint. */
async function hasCheckpoint(page: Page): Promise<boolean> {
  return await page.evaluate(async () => {
    const [run] = await tabtune.engine.listRuns();
    const open = indexedDB.open("tabtune-records");
    const keys = await new Promise<IDBValidKey[]>((resolve) => {
      open.onsuccess = () => {
        const range = IDBKeyRange.bound(["run-checkpoint"], ["run-checkpoint", []]);
        const request = open.result.transaction("records").objectStore("records").getAllKeys(range);
        request.onsuccess = () => resolve(request.result);
      };
    });
    open.result.close();
    return keys.some((key) => (key as string[])[1]!.startsWith(run!.id));
  });
}

/** Tells the page that it is no longer to be seen, or that it is again. */
async function setVisibility(page: Page, state: "hidden" | "visible"): Promise<void> {
  await page.evaluate((state) => {
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, state);
}

describe.skipIf(!CAN_CHAT)("a visitor who trains", { timeout: 2 * PATIENCE }, () => {
  let app: App;
  beforeAll(async () => {
    app = await visit();
    await modelLoaded(app.page);
    await limitAnswers(app.page, 4);
  }, PATIENCE);
  afterAll(async () => {
    await app?.close();
  });

  it("drops files, reads what is wrong with them, and sees what the model sees", async () => {
    const { page } = app;
    await page.getByRole("navigation", { name: "Screens" }).getByRole("link", { name: "Train" }).click();
    await page
      .getByLabel("Choose files")
      .setInputFiles([
        ...NAMES.map((name, i) => draw(name, i + 2)),
        { name: "data.csv", mimeType: "text/csv", buffer: Buffer.from(TABLE) },
      ]);
    await page.getByRole("heading", { name: "7 rows can be learnt" }).waitFor();
    expect(await page.getByRole("region", { name: "Report" }).locator("tbody tr").allTextContents()).toEqual([
      expect.stringMatching(/left out.*data\.csv, row 7.*missing\.png.*Drop the folder/),
    ]);
    await page.getByLabel("Name").fill("Bars");
    await page.getByRole("button", { name: "Keep these 7 rows" }).click();
    await expect.poll(() => rows(page).count()).toBe(7);
    await page.getByRole("button", { name: "What the model sees of row 3" }).last().click();
    const dialog = page.getByRole("dialog", { name: "Row 3, as the model sees it" });
    const tokens = dialog.getByRole("region", { name: "Tokens" });
    await tokens.waitFor();
    // The answer, the end of the turn and the newline are learnt, and nothing else.
    expect((await tokens.locator("mark .token").allTextContents()).join("")).toMatch(/^4<\|im_end\|>↵?$/);
    await dialog.getByRole("img", { name: /^Picture 1 at the size/ }).waitFor();
    await page.keyboard.press("Escape");
  });

  it("is told what cannot be used, what is left out, and what a run takes", async () => {
    const { page } = app;
    await page.getByRole("link", { name: "Next: settings" }).click();
    await page.getByText(/^Trainable parameters = [\d,]+ of [\d,]+/).waitFor();
    await page.getByText(/^Row 7: \d\d,\d{3} tokens, over the limit/).waitFor();
    await set(page, "Learning rate", "much");
    await expect.poll(() => start(page).isDisabled()).toBe(true);
    await set(page, "Learning rate", "2e-3");
    await set(page, "Rank", "8");
    await page.getByText("All settings").click();
    // Four tokens a picture.
    await page.getByLabel(/^Picture pixels/).fill("4096");
    await set(page, "Batch", "2");
    await set(page, "Accumulation", "1");
    await set(page, "Most steps", String(STEPS));
    await set(page, "Warm-up", "0");
    await set(page, "Checkpoint every", "1");
    await page.getByRole("row", { name: /^Steps 4,/ }).waitFor();
    await page.getByText(/^GPU memory: /).click();
    await set(page, "This GPU has GB", "0.01");
    await page.getByText(/^This run would not fit. It needs \d+(\.\d+)? MB, and 9 MB/).waitFor();
    expect(await start(page).isDisabled()).toBe(true);
    await page.getByRole("button", { name: "One row at a time, as many to a step" }).click();
    await expect.poll(() => page.getByLabel("Batch", { exact: true }).inputValue()).toBe("1");
    expect(await page.getByLabel("Accumulation", { exact: true }).inputValue()).toBe("2");
    await set(page, "This GPU has GB", "");
    // Packed into one sequence again: products make tiles of 64 rows, and one row of data has 30 tokens.
    await set(page, "Batch", "2");
    await set(page, "Accumulation", "1");
    await expect.poll(() => start(page).isDisabled()).toBe(false);
    await page.setViewportSize({ width: 390, height: 844 });
    expect(await scrollsSideways(page)).toBe(false);
    await page.setViewportSize({ width: 1280, height: 900 });
  });

  it("trains; pauses, closes the tab, damages a checkpoint, goes on, and loses nothing", async () => {
    const { page } = app;
    const awake = await countWakeLocks(page);
    await page.getByLabel("Name of the run").fill("First run");
    await start(page).click();
    await page.getByText(/^step 1 of 4/).waitFor({ timeout: PATIENCE });
    expect(await awake()).toBe(1);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByRole("heading", { name: "“First run” is paused" }).waitFor({ timeout: PATIENCE });
    expect(await awake()).toBe(0);
    expect(await goOnWhileAnotherTabTrains(page)).toMatch(/under way in this or another tab. Pause or stop it there/);
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByText(/^step 3 of 4/).waitFor({ timeout: PATIENCE });
    // The tab goes away in the middle of a step.
    await page.evaluate(() => addEventListener("beforeunload", (event) => event.stopImmediatePropagation(), true));
    await page.reload();
    await waitForApp(page, app.errors);
    const newest = await damageNewestCheckpoint(page);
    await page.goto(`${app.url}#/train/run`);
    await page.getByRole("heading", { name: "“First run” was interrupted" }).waitFor();
    await page.getByRole("button", { name: "Go on" }).click();
    await page.getByText(`The checkpoint of step ${newest} is damaged`).waitFor({ timeout: PATIENCE });
    await page.getByRole("heading", { name: "“First run” has finished" }).waitFor({ timeout: PATIENCE });
    await page.getByRole("img", { name: /^Loss, latest: loss [\d.e-]+/ }).waitFor();

    const { runs, notes } = await page.evaluate(async () => {
      const { engine, callback } = tabtune;
      const [{ model, dataset, settings }] = (await engine.listRuns()) as [Awaited<ReturnType<typeof engine.loadRun>>];
      const start = (name: string, onEvent: (event: RunEvent) => void) =>
        engine.startRun(model.id, dataset.id, settings, { name, patience: 0 }, name, callback(onEvent));
      await start("Undisturbed", () => {});
      // The device is lost once, while a step is under way.
      let losses = 0;
      const notes: string[] = [];
      await start("Reset", (event) => {
        if (event.type === "note") notes.push(event.message);
        if (event.type !== "step" || event.record.step !== 2 || losses++ > 0) return;
        void (engine as unknown as { debugLoseDevice(): Promise<void> }).debugLoseDevice();
      });
      const runs = (await engine.listRuns()).map(({ log, evaluations }) => ({
        log: log.map(({ loss }) => loss),
        scores: evaluations.map(({ loss }) => loss),
      }));
      return { runs, notes };
    });
    expect(notes).toEqual(["The GPU was reset. The run goes on from its last checkpoint."]);
    const [reset, undisturbed, first] = runs;
    expect(undisturbed!.log).toHaveLength(STEPS);
    expect(first).toEqual(undisturbed);
    expect(reset).toEqual(undisturbed);
  });

  it("takes the adapter along, proved, with the log; chats with it", async () => {
    const { page } = app;
    await page.goto(`${app.url}#/train/history`);
    await page.getByRole("link", { name: "First run" }).click();
    for (const [button, file] of [
      ["Adapter for PEFT, vLLM", /^First-run-peft\.zip$/],
      ["For llama.cpp (GGUF)", /^First-run-lora\.gguf$/],
      ["Log as CSV", /^First-run-log\.csv$/],
    ] as const) {
      const download = page.waitForEvent("download", { timeout: PATIENCE });
      await page.getByRole("button", { name: button }).click();
      expect((await download).suggestedFilename()).toMatch(file);
    }
    await page
      .getByText(/put on the model: over \d+ tokens its logits are the same/)
      .first()
      .waitFor();
    await page.getByRole("button", { name: "Chat with it" }).click();
    await box(page).fill("How many?");
    await page.keyboard.press("Enter");
    await answered(page, 1);
    await page.getByRole("article", { name: /Demo.* \+ First run/ }).waitFor();
    await page.getByRole("button", { name: "Compare with the base model" }).click();
    const beside = page.getByRole("dialog", { name: "With and without the adapter" });
    for (const name of ["Base model", "First run"]) {
      const column = beside.getByRole("region", { name });
      await expect.poll(() => column.getAttribute("aria-busy"), { timeout: PATIENCE }).toBe("false");
      expect(await column.locator("p").first().textContent()).toMatch(/\S/);
    }
    await page.keyboard.press("Escape");
  });

  it("stops a run in its middle: the best adapter is offered and answers, the history says so", async () => {
    const { page } = app;
    await page.goto(`${app.url}#/train/settings`);
    await page.getByText("All settings").click();
    await set(page, "Most steps", "30");
    await set(page, "Evaluate every", "1");
    await set(page, "Checkpoint every", "1000");
    await page.getByLabel("Name of the run").fill("Cut short");
    await start(page).click();
    await page.getByText(/^step 1 of 30/).waitFor({ timeout: PATIENCE });
    expect(await hasCheckpoint(page)).toBe(false);
    await setVisibility(page, "hidden");
    await expect.poll(() => hasCheckpoint(page), { timeout: PATIENCE }).toBe(true);
    await setVisibility(page, "visible");
    await page.getByText(/^step [234] of 30/).waitFor({ timeout: PATIENCE });
    await page.getByRole("button", { name: "Stop and keep the best" }).click();
    await page.getByRole("heading", { name: "“Cut short” was stopped" }).waitFor({ timeout: PATIENCE });
    const { log, evaluations, adapterStep } = await page.evaluate(async () => (await tabtune.engine.listRuns())[0]!);
    expect(log.length).toBeGreaterThanOrEqual(2);
    expect(log.length).toBeLessThan(30);
    const best = evaluations.toSorted((a, b) => b.relaxed - a.relaxed || a.loss - b.loss)[0]!;
    expect(best.step).toBeGreaterThan(0);
    expect(adapterStep).toBe(best.step);
    await page.getByRole("button", { name: "Chat with it" }).click();
    await box(page).fill("How many?");
    await page.keyboard.press("Enter");
    await answered(page, 1);
    await page.getByRole("article", { name: /Demo.* \+ Cut short/ }).waitFor();
    // Another adapter and none at all in the same conversation: the model stays where it is.
    for (const [i, name] of ["First run", "No adapter"].entries()) {
      await page.getByLabel("Adapter of this chat").selectOption(name);
      await box(page).fill("How many?");
      await page.keyboard.press("Enter");
      await answered(page, i + 2);
      const article = name === "No adapter" ? /Demo(?!.* \+ )/ : new RegExp(`Demo.* \\+ ${name}`);
      await page.getByRole("article", { name: article }).last().waitFor();
    }
    await page.goto(`${app.url}#/train/history`);
    await page.getByRole("listitem").filter({ hasText: "Cut short" }).getByText("stopped", { exact: true }).waitFor();
    for (const name of ["First run", "Cut short"]) await page.getByLabel(`Compare ${name}`, { exact: true }).check();
    const beside = page.getByRole("region", { name: "2 runs compared" });
    await beside.getByRole("row", { name: /^Most steps (4 30|30 4)$/ }).waitFor();
  });

  it("types rows in, and takes one back", async () => {
    const { page } = app;
    await page.goto(`${app.url}#/train/data`);
    await page.getByRole("button", { name: "Other data" }).click();
    await page.getByRole("button", { name: "Type rows in" }).click();
    for (const [i, answer] of ["Two", "Three"].entries()) {
      await page.getByLabel("Question of the new row").fill("How many?");
      await page.getByLabel("Answer of the new row").fill(answer);
      await page.keyboard.press("Enter");
      await expect.poll(() => rows(page).count()).toBe(i + 1);
    }
    await page.getByRole("button", { name: "Undo" }).click();
    await expect.poll(() => rows(page).allTextContents()).toEqual([expect.stringContaining("Two")]);
    await page.getByRole("button", { name: "Redo" }).click();
    await expect.poll(() => rows(page).count()).toBe(2);
  });
});
