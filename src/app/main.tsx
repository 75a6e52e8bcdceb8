// The order of the styles is their cascade.
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/frame.css";
import "./styles/chat.css";
import "./styles/markdown.css";
import "./styles/grounding.css";
import "./styles/composer.css";
import "./styles/dialogs.css";
import "./styles/screens.css";
import "./styles/narrow.css";
import { render } from "preact";
import { callback, startEngine } from "../api/index.ts";
import { restoreTheme } from "./actions/settings.ts";
import { start } from "./actions/start.ts";
import { watchForUpdates } from "./actions/update.ts";
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
  // In development it would only serve old files.
  if (import.meta.env.PROD) void watchForUpdates();
  await start();
}

void main();
