import { join } from "node:path";
import { buildApp, isBuilt } from "../scripts/build.mjs";
import { root } from "../scripts/install.mjs";

/** Vitest's global set-up for the browser tests: one build, apart from dist/ so that nobody else empties it meanwhile. */
export async function setup(): Promise<void> {
  const out = join(root, ".cache/test/dist");
  process.env.TABTUNE_DIST = out;
  // Vitest sets NODE_ENV to "test"; the build under test is the one that visitors get.
  const mode = process.env.NODE_ENV;
  process.env.NODE_ENV = "production";
  if (!isBuilt(out)) await buildApp({ out, quiet: true });
  process.env.NODE_ENV = mode;
}
