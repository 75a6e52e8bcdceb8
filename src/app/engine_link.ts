import type { EngineClient } from "../api/index.ts";

let linked: EngineClient | undefined;

/** Called once, before anything else of the page. */
export function linkEngine(client: EngineClient): void {
  linked = client;
}

/** The worker's interface. */
export function engine(): EngineClient {
  if (!linked) throw new Error("the engine is not linked yet");
  return linked;
}
