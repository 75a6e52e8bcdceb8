// Finds a Chromium for the tests and, for `npm test`, gets one when there is none.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { root } from "./install.mjs";

const NAMES = [
  "chromium",
  "chromium-browser",
  "google-chrome",
  "google-chrome-stable",
  "chrome",
  "chromium-headless-shell",
];
const PLACES = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
  ...["PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"].flatMap((name) => [
    join(process.env[name] ?? "", "Google/Chrome/Application/chrome.exe"),
    join(process.env[name] ?? "", "Microsoft/Edge/Application/msedge.exe"),
  ]),
];

/** Where a usable Chromium is: CHROME_PATH, one on the PATH, one in its usual place, Playwright's own; or undefined. */
export async function findBrowser() {
  if (process.env.CHROME_PATH) return process.env.CHROME_PATH;
  const onPath = (process.env.PATH ?? "").split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
  const found = [...onPath, ...PLACES].find((path) => existsSync(path));
  if (found) return found;
  const { chromium } = await import("playwright-core");
  const own = chromium.executablePath();
  return own && existsSync(own) ? own : undefined;
}

/** @param {string} command @param {string[]} args */
const run = (command, args) =>
  spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
  }).status === 0;

/** Like findBrowser, but installs one: Debian's package as root, else Playwright's. Exits with a message when that fails. */
export async function ensureBrowser() {
  let path = await findBrowser();
  if (path) return path;
  console.log("No Chromium found: installing one for the tests …");
  if (process.getuid?.() === 0 && existsSync("/usr/bin/apt-get") && run("apt-get", ["update", "-qq"]))
    run("apt-get", ["install", "-y", "-qq", "chromium"]);
  path = await findBrowser();
  if (!path) run(process.execPath, [join(root, "node_modules/playwright-core/cli.js"), "install", "chromium"]);
  path ??= await findBrowser();
  if (path) return path;
  console.error("The browser tests need Chromium or Chrome. Install one, or set CHROME_PATH to its program.");
  process.exit(1);
}
