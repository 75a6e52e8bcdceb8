import { resolve } from "node:path";
import type { DebugApi, DebugCache, DebugForward, DebugRequest } from "../src/api/debug_protocol.ts";
import type { Message } from "../src/api/index.ts";
import { type App, type AppOptions, openApp, usesHalfPrecision } from "./browser.ts";
import { type CaseReport, compareCase } from "./compare_case.ts";
import { openReference, type ReferenceCase } from "./reference.ts";

/** On which device a comparison runs. */
export type DeviceArgs = Pick<AppOptions, "chromeArgs" | "without" | "defaultLimits">;

/** The case's messages in the engine's own form; pictures are taken in order. */
export function debugRequest(wanted: ReferenceCase, base: string): DebugRequest {
  const pictures = (wanted.images ?? []).map((name) => ({ name, url: `${base}images/${name}.png` }));
  let next = 0;
  const messages = wanted.messages.map(({ role, content }) => ({
    role: role as Message["role"],
    parts:
      typeof content === "string"
        ? [{ type: "text" as const, text: content }]
        : content.flatMap((part): Message["parts"] => {
            if (part.type === "text") return [{ type: "text", text: part.text ?? "" }];
            return part.type === "image" ? [{ type: "image", pictureId: pictures[next++]!.name }] : [];
          }),
  }));
  const last = wanted.logits_rows?.match(/^last (\d+)$/)?.[1];
  const rows = last ? { lastRows: Number(last) } : {};
  if (wanted.frames === undefined) return { messages, pictures, ...rows };
  const urls = Array.from({ length: wanted.frames }, (_, i) => `${base}images/video_${i}.png`);
  return { messages, pictures, ...rows, video: { urls, fps: wanted.fps! } };
}

async function runCase(app: App, request: DebugRequest): Promise<{ forward: DebugForward; greedy: number[] }> {
  return await app.page.evaluate(async (request) => {
    const engine = tabtune.engine as unknown as DebugApi;
    const forward = await engine.debugForward(request);
    return { forward, greedy: await engine.debugGreedy({ ...request, maxNewTokens: 24 }) };
  }, request);
}

interface ParityOptions {
  /** Cases by name; all of them by default. */
  only?: string[];
  /** Called with each report as it is made. */
  onReport?: (report: CaseReport) => void;
  /** How keys and values are kept. */
  cache?: DebugCache;
}

/** Opens Chromium for one folder written by make_reference.py and compares its cases. */
export async function runParity(folder: string, options: ParityOptions & DeviceArgs = {}): Promise<CaseReport[]> {
  const { chromeArgs, without = [], defaultLimits = false } = options;
  const app = await openApp({
    engineOnly: true,
    chromeArgs,
    without,
    defaultLimits,
    folders: { "/reference/": resolve(folder) },
  });
  try {
    return await compareFolder(app, folder, `${app.origin}/reference/`, options);
  } finally {
    await app.close();
  }
}

/** Runs the cases of such a folder through the app, weights as they are. @param base where it is served */
export async function compareFolder(
  app: App,
  folder: string,
  base: string,
  { only, onReport, cache = "f32" }: ParityOptions = {},
): Promise<CaseReport[]> {
  const reference = openReference(resolve(folder));
  const names = only ?? Object.keys(reference.cases);
  const unknown = names.filter((name) => !(name in reference.cases));
  if (unknown.length)
    throw new Error(`no case named ${unknown.join(", ")}; there are ${Object.keys(reference.cases).join(", ")}`);
  await app.page.evaluate(
    async ({ base, kv }) => await (tabtune.engine as unknown as DebugApi).debugLoad({ base, kv }),
    { base: `${base}checkpoint/`, kv: cache },
  );
  const coarse = { halfPrecision: await usesHalfPrecision(app.page), cache };
  const reports: CaseReport[] = [];
  for (const name of names) {
    const { forward, greedy } = await runCase(app, debugRequest(reference.cases[name]!, base));
    const report = compareCase(reference, name, forward, greedy, coarse);
    onReport?.(report);
    reports.push(report);
  }
  return reports;
}
