// npm run box -- [--peers] [--dawn]: the built app, the command-line tools and playwright-core in .box/app/, for a machine with a GPU, Node.js
// and Chromium but without network; with what `npm run bench -- --peers` or `--dawn` needs (17 and 22 MB) if asked for.
// There: CHROME_PATH=… node .box/app/parity.mjs DIR --chrome-args "$CHROME_GPU_ARGS"
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bundleTools, copyPlaywright, TOOLS } from "./cli.mjs";
import { ensureInstalled, root } from "./install.mjs";
import { ensurePeers } from "./peers.mjs";

const { values } = parseArgs({ options: { peers: { type: "boolean" }, dawn: { type: "boolean" } } });
ensureInstalled();
const out = join(root, ".box/app");
rmSync(out, { recursive: true, force: true });
await bundleTools(TOOLS, out);
copyPlaywright(out);
if (values.peers) {
  const known = join(root, ".cache/tools/peers");
  ensurePeers(known);
  cpSync(known, join(out, "peers"), { recursive: true });
}
if (values.dawn) {
  // Its binary for this kind of machine alone.
  const wanted = join("dist", `${process.platform}-${process.platform === "darwin" ? "universal" : process.arch}`);
  const from = join(root, "node_modules/webgpu");
  for (const path of ["package.json", "index.js", wanted])
    cpSync(join(from, path), join(out, "node_modules/webgpu", path), { recursive: true });
}
console.log(`Packed into ${out}`);
