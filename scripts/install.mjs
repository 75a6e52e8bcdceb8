// Makes sure that Node is new enough and that node_modules is what package-lock.json says. Node built-ins only:
// this runs before anything is installed.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** @param {string} path */
const readJson = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));

/** Exits with a message when Node is older than package.json's `engines` asks for. */
export function checkNode() {
  const wanted = readJson("package.json").engines.node.replace(/[^0-9.]/g, "");
  const [major, minor] = wanted.split(".").map(Number);
  const [haveMajor, haveMinor] = process.versions.node.split(".").map(Number);
  if (haveMajor > major || (haveMajor === major && haveMinor >= minor)) return;
  console.error(
    `TabTune needs Node.js ${wanted} or later; this is ${process.versions.node}. Get it from https://nodejs.org`,
  );
  process.exit(1);
}

/** The first package that is missing or of another version than package-lock.json says, or undefined. */
function firstMissing() {
  const installed = "node_modules/.package-lock.json";
  if (!existsSync(join(root, installed))) return "node_modules";
  const have = readJson(installed).packages;
  for (const [path, entry] of Object.entries(readJson("package-lock.json").packages)) {
    if (path === "") continue;
    const found = have[path];
    // Optional packages are for one platform each; npm installs those that fit.
    if (!found ? !entry.optional && !entry.devOptional : found.version !== entry.version) return path;
    if (found && !existsSync(join(root, path, "package.json"))) return path;
  }
  return undefined;
}

/** Runs `npm ci` when something is missing; exits with a message when that fails. Needs no network otherwise. */
export function ensureInstalled() {
  checkNode();
  const missing = firstMissing();
  if (!missing) return;
  console.log(`Installing packages (${missing} is missing or of another version) …`);
  const args = ["ci", "--include=dev", "--no-audit", "--no-fund"];
  const npm = process.env.npm_execpath;
  const done = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: ["ignore", "inherit", "inherit"] })
    : spawnSync("npm", args, {
        cwd: root,
        stdio: ["ignore", "inherit", "inherit"],
        shell: process.platform === "win32",
      });
  if (done.status === 0) return;
  console.error("npm ci did not succeed. Packages are fetched once and need the network: see its message above.");
  process.exit(1);
}
