import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import type { Page } from "playwright-core";

/** Largest values seen between `watchMemory` and `stop`, in bytes. */
export interface PeakMemory {
  /** JavaScript heaps of page and workers with their ArrayBuffers, as DevTools counts them. */
  javascript: number;
  /** Anonymous resident memory of the largest renderer process: everything the tab holds, an upper bound of the former. */
  renderer: number;
  /** The same of Chromium's main process, through which stored shards pass. */
  browser: number;
  /** All GPU memory in use on the first GPU by nvidia-smi; 0 where there is none. */
  gpu: number;
  samples: number;
}

/** Bytes in use on the first GPU, 0 without nvidia-smi. It may take a second, so nothing waits for it: this process serves files too. */
export async function gpuMemory(): Promise<number> {
  return await new Promise((resolve) => {
    execFile("nvidia-smi", ["--query-gpu=memory.used", "--format=csv,noheader,nounits"], (error, out) => {
      resolve(error ? 0 : Number.parseInt(out, 10) * 2 ** 20);
    });
  });
}

/** Anonymous resident bytes of the largest Chromium renderer and of the largest main process; 0 outside Linux. */
function processMemory(): { renderer: number; browser: number } {
  const largest = { renderer: 0, browser: 0 };
  if (process.platform !== "linux") return largest;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      if (!command.includes("--user-data-dir=") && !command.includes("--type=")) continue;
      const kind = command.includes("--type=renderer")
        ? "renderer"
        : command.includes("--type=")
          ? undefined
          : "browser";
      const anonymous = readFileSync(`/proc/${pid}/status`, "utf8").match(/RssAnon:\s+(\d+) kB/)?.[1];
      if (kind) largest[kind] = Math.max(largest[kind], Number(anonymous ?? 0) * 1024);
    } catch {
      // The process ended in between.
    }
  return largest;
}

interface HeapUsage {
  usedSize: number;
  embedderHeapUsedSize?: number;
  backingStorageSize?: number;
}
const heapBytes = (heap: HeapUsage) =>
  heap.usedSize + (heap.embedderHeapUsedSize ?? 0) + (heap.backingStorageSize ?? 0);

/** Samples memory a few times a second until stopped. Attach before the page's worker does anything large. */
export async function watchMemory(page: Page, milliseconds = 250): Promise<{ stop: () => Promise<PeakMemory> }> {
  const session = await page.context().newCDPSession(page);
  const peak: PeakMemory = { javascript: 0, renderer: 0, browser: 0, gpu: 0, samples: 0 };
  /** The last answer of each worker, by its session; workers answer when they next pause. */
  const workers = new Map<string, number>();
  session.on("Target.attachedToTarget", ({ sessionId }) => workers.set(sessionId, 0));
  session.on("Target.detachedFromTarget", ({ sessionId }) => workers.delete(sessionId));
  session.on("Target.receivedMessageFromTarget", ({ sessionId, message }) => {
    const { result } = JSON.parse(message) as { result?: HeapUsage };
    if (result?.usedSize) workers.set(sessionId, heapBytes(result));
  });
  // Not "flatten": the messages of a worker's own session then come through this one.
  await session.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });

  let id = 0;
  let running = true;
  const loop = (async () => {
    while (running) {
      const message = JSON.stringify({ id: ++id, method: "Runtime.getHeapUsage" });
      for (const sessionId of workers.keys())
        await session.send("Target.sendMessageToTarget", { sessionId, message }).catch(() => undefined);
      const own = heapBytes((await session.send("Runtime.getHeapUsage")) as HeapUsage);
      peak.javascript = Math.max(
        peak.javascript,
        [...workers.values()].reduce((sum, bytes) => sum + bytes, own),
      );
      const { renderer, browser } = processMemory();
      peak.renderer = Math.max(peak.renderer, renderer);
      peak.browser = Math.max(peak.browser, browser);
      peak.gpu = Math.max(peak.gpu, await gpuMemory());
      peak.samples++;
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
    }
  })().catch(() => undefined);
  return {
    async stop() {
      running = false;
      await loop;
      await session.detach().catch(() => undefined);
      return peak;
    },
  };
}
