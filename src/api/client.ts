import * as Comlink from "comlink";
import type { EngineApi } from "./protocol.ts";
import type { TrainApi } from "./train_protocol.ts";

export type EngineClient = Comlink.Remote<EngineApi & TrainApi>;

/** Starts the engine's worker and returns its interface. Callbacks given to it must go through `callback`. */
export function startEngine(): EngineClient {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "engine" });
  return Comlink.wrap<EngineApi & TrainApi>(worker);
}

/** Marks a function so that the worker can call it. */
// biome-ignore lint/suspicious/noExplicitAny: comlink's own signature
export function callback<F extends (...args: any[]) => void>(fn: F): F {
  return Comlink.proxy(fn);
}
