// npm run box: the built app, the command-line tools and playwright-core in .box/app/, for a machine with a GPU, Node.js and
// Chromium but without network. There: CHROME_PATH=… node .box/app/parity.mjs DIR --chrome-args "$CHROME_GPU_ARGS"
import { rmSync } from "node:fs";
import { join } from "node:path";
import { bundleTools, copyPlaywright, TOOLS } from "./cli.mjs";
import { ensureInstalled, root } from "./install.mjs";

ensureInstalled();
const out = join(root, ".box/app");
rmSync(out, { recursive: true, force: true });
await bundleTools(TOOLS, out);
copyPlaywright(out);
console.log(`Packed into ${out}`);
