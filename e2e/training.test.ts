import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type App, openApp } from "./browser.ts";
import { learnTitles } from "./learning_case.ts";
import { openReference } from "./reference.ts";
import { compareSlopes } from "./train_gradients_case.ts";
import { compareTraining, debugTrain, loadReference, trainRequest } from "./train_parity_case.ts";

const folder = (name: string) => `../shared/reference/${name}`;

// One page for all: most of a first run on a software GPU is compiling.
let app: App;
beforeAll(async () => {
  app = await openApp({
    engineOnly: true,
    folders: { "/s-0/": folder("s-0"), "/m-0/": folder("m-0"), "/demo/": "public/models/demo" },
  });
});
afterAll(async () => {
  await app?.close();
});

// Written by make_reference.py from transformers and PEFT; not part of a clone.
const isThere = existsSync(folder("s-0")) && existsSync(folder("m-0"));
describe.skipIf(!isThere)("training, against transformers and PEFT", { timeout: 300_000 }, () => {
  const base = (name: string) => `${app.origin}/${name}/`;
  beforeAll(async () => {
    await loadReference(app, base("s-0"));
  });

  async function slopesAgree(options: Parameters<typeof compareSlopes>[3]): Promise<void> {
    const { loss, slopes } = await compareSlopes(app, folder("s-0"), base("s-0"), options);
    expect(loss).toBeLessThan(1e-5);
    expect(slopes.filter(({ error }) => !(error < 1e-4))).toEqual([]);
  }

  it("s-0 agrees from the first gradient to the last logit", async () => {
    expect(await compareTraining(app, openReference(folder("s-0")), base("s-0"))).toMatchObject({ pass: true });
  });

  it("with dropout and 8-bit moments is the same bit for bit when repeated, and another with another seed", async () => {
    const request = trainRequest(openReference(folder("s-0")), base("s-0"));
    const steps = request.steps.slice(1, 3);
    const short = { ...request, dropout: 0.1, optimizer: "adamw8" as const, steps, withLogits: false };
    const first = await debugTrain(app, short);
    expect(await debugTrain(app, short)).toEqual(first);
    expect(first.planned).toBe(first.allocated);
    const other = await debugTrain(app, { ...short, steps: short.steps.slice(0, 1).map((s) => ({ ...s, seed: 100 })) });
    expect(other.losses[0]).not.toBe(first.losses[0]);
  });

  // The reference folders train the language layers alone; here every layer that can carry a pair has one.
  it("gradients of every linear layer, tower and mergers included, are the slopes of the float64 model", async () => {
    await slopesAgree({ scheme: "bf16", tower: true });
  });

  it("gradients through 4-bit weights are the slopes of the float64 model with these weights opened", async () => {
    await loadReference(app, base("s-0"), "q4a32");
    await slopesAgree({ scheme: "q4a32", tower: false });
  });

  // The whole run of this one, four times as expensive: npm run parity -- ../shared/reference/m-0 --train
  it("m-0 agrees in its first steps", async () => {
    await loadReference(app, base("m-0"));
    expect(await compareTraining(app, openReference(folder("m-0")), base("m-0"), 3)).toMatchObject({ pass: true });
  });
});

it.skipIf(!existsSync("public/models/demo/model.safetensors"))(
  "the demo learns a kind of chart and a language it has never seen, on charts held back too",
  { timeout: 600_000 },
  async () => {
    const heldBack = 4;
    const run = await learnTitles(app, `${app.origin}/demo/`, heldBack);
    expect(run).toMatchObject({ state: "finished", steps: 8 });
    expect(run.log).toHaveLength(8);
    const [before, after] = [run.evaluations[0]!, run.evaluations.at(-1)!];
    expect(before.examples).toBe(heldBack);
    expect(after.loss).toBeLessThan(before.loss / 3);
    expect(after.relaxed - before.relaxed).toBeGreaterThanOrEqual(0.3);
    expect(run.adapterId).toBeDefined();
  },
);
