import type { Page } from "playwright-core";
import type { Capabilities, SelfTestRow, SelfTestSummary } from "../src/api/index.ts";

export interface SelfTestResult {
  capabilities: Capabilities;
  rows: SelfTestRow[];
  summary: SelfTestSummary;
}

/** Runs the kernel cases in the page's worker, as the self-test page does. */
export async function runSelfTest(page: Page, options: { filter?: string; timing: boolean }): Promise<SelfTestResult> {
  return await page.evaluate(async (options) => {
    const rows: SelfTestRow[] = [];
    const capabilities = await tabtune.engine.capabilities();
    const onRow = tabtune.callback((row: SelfTestRow) => rows.push(row));
    const summary = await tabtune.engine.selfTest(options, "self-test", onRow);
    // Rows travel by a channel of their own and may come after the summary.
    for (let i = 0; i < 100 && rows.length < summary.passed + summary.failed; i++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    return { capabilities, rows, summary };
  }, options);
}
