import { existsSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import type { DataRow } from "./data/row.ts";
import { planRun } from "./plan.ts";
import { DEFAULT_SETTINGS } from "./settings.ts";
import { encodeRows } from "./tokens/encode_rows.ts";
import { RowTokenizer } from "./tokens/row_tokenizer.ts";

const FOLDER = "../shared/reference/s-0/checkpoint";

describe.skipIf(!existsSync(FOLDER))("a run planned on a small checkpoint", () => {
  const names = ["tokenizer.json", "chat_template.jinja", "processor_config.json"];
  let config: unknown;
  let tokenizer: RowTokenizer;
  beforeAll(() => {
    config = JSON.parse(readFileSync(`${FOLDER}/config.json`, "utf8"));
    const texts = Object.fromEntries(names.map((name) => [name, readFileSync(`${FOLDER}/${name}`, "utf8")]));
    tokenizer = new RowTokenizer(texts, config);
  });
  const row = (id: string, answer: string, pictureId?: string): DataRow => ({
    id,
    messages: [
      {
        role: "user",
        parts: [...(pictureId ? [{ type: "image" as const, pictureId }] : []), { type: "text", text: "q" }],
      },
      { role: "assistant", parts: [{ type: "text", text: answer }] },
    ],
  });
  const sizeOf = (id: string) => {
    if (id === "gone") throw new Error("this picture is gone");
    return id === "thin" ? { width: 1, height: 900 } : { width: 64, height: 64 };
  };
  const options = { turns: "all", maxTokens: 60 } as const;

  test("rows over the limit are listed with their length and never cut; impossible ones say why", async () => {
    const rows = [row("a", "5", "p"), row("b", "word ".repeat(10_000)), row("c", "6", "thin"), row("d", "7", "gone")];
    const { examples, tooLong, failed } = await encodeRows(tokenizer, rows, sizeOf, options);
    expect(examples.map((e) => e.rowId)).toEqual(["a"]);
    expect(tooLong.map((t) => t.rowId)).toEqual(["b"]);
    expect(tooLong[0]!.tokens).toBeGreaterThan(10_000);
    expect(failed.map((f) => f.rowId)).toEqual(["c", "d"]);
    expect(failed[0]!.message).toMatch(/too long and thin/);
    expect(failed[1]!.message).toBe("this picture is gone");
  });

  test("steps, tokens and rates", async () => {
    const rows = Array.from({ length: 21 }, (_, i) => row(`${i}`, "5"));
    const { examples: encoded } = await encodeRows(tokenizer, rows, sizeOf, options);
    const plan = planRun(DEFAULT_SETTINGS, { config, parameters: 1_000_000 }, encoded);
    // 8 examples to a step: two full ones and one of five, three times.
    expect([plan.stepsPerEpoch, plan.steps, plan.examples]).toEqual([3, 9, 21]);
    // "5", <|im_end|> and the line break.
    expect(plan.trainedTokens).toBe(21 * 3);
    expect(plan.tokens).toBe(21 * plan.longest);
    expect(plan.rates.length).toBe(9);
    expect(plan.rates[5]!.rate).toBe(2e-4);
    expect(plan.trainableLine).toBe("Trainable parameters = 104,448 of 1,104,448 (9.46% trained)");
    const short = planRun({ ...DEFAULT_SETTINGS, maxSteps: 4, epochs: 300 }, { config, parameters: 1 }, encoded);
    expect(short.steps).toBe(4);
    expect(planRun({ ...DEFAULT_SETTINGS, maxSteps: 50 }, { config, parameters: 1 }, encoded).steps).toBe(50);
    expect(planRun({ ...DEFAULT_SETTINGS, maxSteps: 50 }, { config, parameters: 1 }, []).steps).toBe(0);
    const long = planRun({ ...DEFAULT_SETTINGS, epochs: 300 }, { config, parameters: 1 }, encoded);
    expect([long.steps, long.rates.length]).toEqual([900, 180]);
  });

  test("stops when it is cancelled, and lets others run meanwhile", async () => {
    const controller = new AbortController();
    const rows = Array.from({ length: 100_000 }, (_, i) => row(`${i}`, "5"));
    setTimeout(() => controller.abort(), 20);
    const started = performance.now();
    await expect(encodeRows(tokenizer, rows, sizeOf, { ...options, signal: controller.signal })).rejects.toThrow(
      /cancelled/,
    );
    expect(performance.now() - started).toBeLessThan(2000);
  });
});
