// npm start: installs what is missing, builds if something changed, serves the app on localhost and opens it.
//   --port N      another port than 4410 (the next free one is taken when it is busy)
//   --no-open     only print the address
import { spawn } from "node:child_process";
import { join } from "node:path";
import { ensureInstalled, root } from "./install.mjs";

const wanted = Number(process.argv[process.argv.indexOf("--port") + 1]) || 4410;
ensureInstalled();
const { buildApp, isBuilt } = await import("./build.mjs");
const { serve } = await import("./serve.mjs");

if (!isBuilt()) {
  console.log("Building the page …");
  await buildApp({ quiet: true });
}
const { url, port } = await serve({ "/": join(root, "dist") }, { port: wanted, attempts: 50 });
console.log(`TabTune is at ${url}/   (Ctrl+C stops it)`);
if (port !== wanted)
  console.log(
    `Port ${wanted} is taken. A browser keeps models and chats per address: those of port ${wanted} are not shown here.`,
  );

const display = process.platform !== "linux" || process.env.DISPLAY || process.env.WAYLAND_DISPLAY;
if (!process.argv.includes("--no-open") && !process.env.CI && display) {
  const [command, ...args] =
    process.platform === "darwin"
      ? ["open", `${url}/`]
      : process.platform === "win32"
        ? ["cmd", "/c", "start", "", `${url}/`]
        : ["xdg-open", `${url}/`];
  const opened = spawn(command, args, { stdio: "ignore", detached: true });
  opened.on("error", () => console.log("Open that address in Chrome, Edge or another browser with WebGPU."));
  opened.unref();
}
