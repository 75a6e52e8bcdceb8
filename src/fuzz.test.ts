import { expect, test } from "vitest";
import { fuzz } from "../e2e/fuzz_run.ts";
import { fuzzTargets } from "../e2e/fuzz_targets.ts";

/** A few files for each parser, others than `npm run fuzz` begins with. */
const FILES = 150;

const targets = await fuzzTargets();
test.each(targets.map((target) => [target.name, target] as const))(
  "damaged files: %s",
  { timeout: 60_000 },
  async (_, target) => {
    const report = await fuzz(target, { count: FILES, seed: 20251125 });
    expect(report.findings).toEqual([]);
    const refused = Object.values(report.refused).reduce((sum, n) => sum + n, 0);
    expect(report.accepted + refused).toBe(FILES);
    // Damage that nothing notices would prove nothing.
    expect(refused).toBeGreaterThan(FILES / 10);
  },
);

test("a parser that fails is found: another error, a buffer beyond the file", async () => {
  const files = new Map([["f", new Uint8Array(100)]]);
  const bad = (read: () => Promise<void>) => ({ name: "bad", seeds: [files], read });
  let armed = false;
  const find = async (read: () => void) => {
    armed = false;
    const target = bad(async () => {
      if (armed) read();
      armed = true;
    });
    return (await fuzz(target, { count: 1 })).findings.map(({ what }) => what);
  };
  expect(await find(() => JSON.parse("{"))).toEqual([expect.stringMatching(/^threw SyntaxError/)]);
  expect(await find(() => void new Float32Array(1 << 20))).toEqual([expect.stringMatching(/asked for 4194304 bytes/)]);
  expect(await find(() => void new ArrayBuffer(70_000))).toEqual([expect.stringMatching(/asked for 70000/)]);
  expect(await find(() => undefined)).toEqual([]);
});
