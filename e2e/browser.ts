import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { findBrowser } from "../scripts/find_browser.mjs";
import { serve } from "../scripts/serve.mjs";
import type { DebugApi } from "../src/api/debug_protocol.ts";
import type { Capabilities, callback, EngineClient } from "../src/api/index.ts";

declare global {
  /** What the page exposes for tests and for the console. */
  var tabtune: { engine: EngineClient; callback: typeof callback };
}

/** SwiftShader: WebGPU on the CPU, the same everywhere. */
const SOFTWARE_GPU = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  // Workgroup memory is zeroed by a loop, as on other systems. By the extension SwiftShader compiles a store for each of its words:
  // three quarters of all compiling.
  "--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension",
];
const QUIET = [
  "--no-first-run",
  "--disable-quic",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export interface AppOptions {
  /** Chromium arguments that choose the GPU; else CHROME_GPU_ARGS, else SwiftShader. */
  chromeArgs?: string | undefined;
  /** Added to either. */
  extraArgs?: string[];
  /** Path under which the app is served, with slashes: "/" or "/some/where/". */
  base?: string;
  /** More folders to serve: URL prefix → folder. */
  folders?: Record<string, string>;
  /** A profile that is kept; else a fresh one that is deleted afterwards. */
  profile?: string;
  /** Service workers are blocked unless a test is about them: they would answer in the server's place. */
  serviceWorker?: boolean;
  /** The page finds no demo model, so it loads none by itself: for tests and tools that drive the engine. */
  engineOnly?: boolean;
  /** The engine's device does without these WebGPU features. */
  without?: string[];
  /** The engine's device has the specification's default limits. */
  defaultLimits?: boolean;
  viewport?: { width: number; height: number };
  colorScheme?: "light" | "dark";
  /** Called with the path of each request that reaches the server. */
  onRequest?: (path: string) => void;
  /** Called before the first page is opened, for routes and init scripts. */
  prepare?: (context: BrowserContext) => Promise<void>;
}

export interface App {
  page: Page;
  context: BrowserContext;
  /** Address of the page. */
  url: string;
  /** Address of the server, without a slash at its end. */
  origin: string;
  /** Every request that Chromium made, from any page or worker. */
  requests: string[];
  /** Console errors and uncaught exceptions so far. */
  errors: string[];
  /** Opens the app in one more tab. */
  openTab: () => Promise<Page>;
  stopServer: () => Promise<void>;
  close: () => Promise<void>;
}

/** The built app: TABTUNE_DIST, or dist/ beside this program, or dist/ where it was started. */
function distFolder(): string {
  const beside = fileURLToPath(new URL("./dist", import.meta.url));
  const folder = process.env.TABTUNE_DIST ?? (existsSync(beside) ? beside : "dist");
  if (!existsSync(folder)) throw new Error(`no built app in ${folder}: run npm run build first`);
  return folder;
}

export async function openApp(options: AppOptions = {}): Promise<App> {
  const { base = "/" } = options;
  const server = await serve(
    { ...options.folders, [base]: distFolder() },
    options.onRequest ? { onRequest: options.onRequest } : {},
  );
  const executablePath = await findBrowser();
  if (!executablePath) throw new Error("no Chromium found: set CHROME_PATH");
  const gpu = options.chromeArgs ?? process.env.CHROME_GPU_ARGS;
  const libraries = process.env.CHROME_LIBRARY_PATH;
  const context = await chromium.launchPersistentContext(options.profile ?? "", {
    executablePath,
    args: [...QUIET, ...(gpu ? gpu.split(/\s+/).filter(Boolean) : SOFTWARE_GPU), ...(options.extraArgs ?? [])],
    env: { ...process.env, ...(libraries ? { LD_LIBRARY_PATH: libraries } : {}) } as Record<string, string>,
    serviceWorkers: options.serviceWorker ? "allow" : "block",
    viewport: options.viewport ?? { width: 1280, height: 900 },
    ...(options.colorScheme ? { colorScheme: options.colorScheme } : {}),
  });
  const url = `${server.url}${base}`;
  const requests: string[] = [];
  const errors: string[] = [];
  context.on("request", (request) => requests.push(request.url()));
  context.on(
    "console",
    (message) => message.type() === "error" && errors.push(`${message.text()} (${message.location().url})`),
  );
  context.on("weberror", (error) => errors.push(String(error.error())));

  async function openTab(page?: Page): Promise<Page> {
    const tab = page ?? (await context.newPage());
    await tab.goto(url);
    await waitForApp(tab, errors);
    return tab;
  }
  const close = async () => {
    await context.close();
    await server.close();
  };
  try {
    if (options.engineOnly) await context.route("**/models/demo/**", (route) => route.fulfill({ status: 404 }));
    await options.prepare?.(context);
    const page = await openTab(context.pages()[0]);
    const { without = [], defaultLimits = false } = options;
    if (without.length > 0 || defaultLimits) {
      await page.evaluate(async (options) => await (tabtune.engine as unknown as DebugApi).debugDevice(options), {
        without,
        defaultLimits,
      });
    }
    return { page, context, url, origin: server.url, requests, errors, openTab, stopServer: server.close, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What a tool's --without and --default-limits say of the engine's device. */
export function deviceOptions(values: { without?: string; "default-limits"?: boolean }) {
  return {
    ...(values.without ? { without: values.without.split(",") } : {}),
    ...(values["default-limits"] ? { defaultLimits: true } : {}),
  };
}

/** Waits until the page has exposed its engine; the error says what the page's console said. */
export async function waitForApp(page: Page, errors: string[] = []): Promise<void> {
  try {
    await page.waitForFunction(() => "tabtune" in globalThis, undefined, { timeout: 30_000 });
  } catch (cause) {
    throw new Error(`the page did not come up at ${page.url()}: ${String(cause)}\n${errors.join("\n")}`, { cause });
  }
}

/** True when the engine makes products in f16, on matrix units or not: other tolerances hold then. Ask after a model is loaded. */
export async function usesHalfPrecision(page: Page): Promise<boolean> {
  const found = await capabilities(page);
  return found.ok && found.halfPrecision;
}

/** What the page's worker says about the GPU. */
export async function capabilities(page: Page): Promise<Capabilities> {
  return await page.evaluate(async (): Promise<Capabilities> => await tabtune.engine.capabilities());
}
