import "./app.css";
import { render } from "preact";
import { callback, startEngine } from "../api/index.ts";
import { restoreTheme } from "./actions/settings.ts";
import { start } from "./actions/start.ts";
import { App } from "./app.tsx";
import { linkEngine } from "./engine_link.ts";

async function main(): Promise<void> {
  restoreTheme();
  const engine = startEngine();
  linkEngine(engine);
  const root = document.querySelector("#app")!;
  root.replaceChildren();
  render(<App />, root);
  // For the console, and for tests.
  Object.assign(globalThis, { tabtune: { engine, callback } });
  // Keeps the page usable without a network. In development it would only serve old files.
  if (import.meta.env.PROD) void navigator.serviceWorker?.register("sw.js").catch(() => {});
  await start();
}

void main();
