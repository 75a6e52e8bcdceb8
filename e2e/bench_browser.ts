import type { BenchApi, BenchOptions, BenchRow } from "../src/api/bench_protocol.ts";
import { type App, capabilities } from "./browser.ts";

/** The name of the GPU that the page's worker computes on. */
export async function gpuName({ page }: App): Promise<string> {
  const gpu = await capabilities(page);
  if (!gpu.ok) throw new Error(`no GPU: ${gpu.found}`);
  return `${gpu.vendor} ${gpu.architecture} ${gpu.description}`.trim();
}

/** Runs the benchmark in the app's own worker. */
export async function benchInBrowser({ page }: App, options: BenchOptions, onRow: (row: BenchRow) => void) {
  await page.exposeFunction("benchRow", onRow);
  await page.evaluate(async (options) => {
    const { benchRow } = globalThis as unknown as { benchRow: (row: BenchRow) => Promise<void> };
    const shown: Promise<void>[] = [];
    const onRow = tabtune.callback((row: BenchRow) => shown.push(benchRow(row)));
    await (tabtune.engine as unknown as BenchApi).debugBench(options, onRow);
    // Rows travel by a channel of their own and may come after the end.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await Promise.all(shown);
  }, options);
}
