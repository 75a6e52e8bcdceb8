import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openReference } from "./reference.ts";
import { debugTrain, openTrainApp, runTrainParity, trainRequest } from "./train_parity_case.ts";

// Written by make_reference.py from transformers and PEFT; not part of a clone.
describe.each(["s-0", "m-0"])("the training run of %s", (name) => {
  const folder = `../shared/reference/${name}`;
  it.skipIf(!existsSync(folder))("agrees from the first gradient to the last logit", { timeout: 300_000 }, async () => {
    expect(await runTrainParity(folder)).toMatchObject({ pass: true });
  });
});

describe("a short run", () => {
  const folder = "../shared/reference/s-0";
  it.skipIf(!existsSync(folder))(
    "with dropout and 8-bit moments is the same bit for bit when repeated, and another with another seed",
    { timeout: 300_000 },
    async () => {
      const reference = openReference(folder);
      const app = await openTrainApp(reference);
      try {
        const request = trainRequest(reference, app.origin);
        const short = { ...request, dropout: 0.1, optimizer: "adamw8" as const, steps: request.steps.slice(1, 4) };
        const first = await debugTrain(app, short);
        const second = await debugTrain(app, short);
        expect(second).toEqual(first);
        expect(first.planned).toBe(first.allocated);
        const other = await debugTrain(app, {
          ...short,
          steps: short.steps.map((s) => ({ ...s, seed: s.seed + 100 })),
        });
        expect(other.losses[0]).not.toBe(first.losses[0]);
      } finally {
        await app.close();
      }
    },
  );
});
