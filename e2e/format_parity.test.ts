import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { runFormatParity } from "./format_parity.ts";

// Written by make_reference.py; not part of a clone. The other forms: `npm run parity -- DIR --format X`.
const folder = "../shared/reference/s-0";

describe.skipIf(!existsSync(folder))("a quantized checkpoint gives the logits of its dequantized weights", () => {
  it.each([
    ["nf4", { kept: 20, rounded: 5 }],
    ["mlx", { kept: 29, rounded: 0 }],
  ] as const)("%s", { timeout: 300_000 }, async (format, counts) => {
    const [report] = await runFormatParity(folder, format, { only: ["text"] });
    expect(report).toMatchObject({ pass: true, ...counts });
  });
});
