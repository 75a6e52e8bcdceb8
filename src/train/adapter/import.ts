import { TabTuneError } from "../../errors.ts";
import { baseName, FileTree } from "../data/file_tree.ts";
import { CONFIG_FILE, WEIGHTS_FILE } from "./peft.ts";

/** The two files of an adapter. */
export interface AdapterFiles {
  config: string;
  weights: Uint8Array<ArrayBuffer>;
}

/** Finds an adapter in a dropped folder, its files or a zip of them. Throws `BadInput` that says which file is missing. */
export async function findAdapter(
  dropped: readonly { path: string; file: Blob }[],
  signal?: AbortSignal,
): Promise<AdapterFiles> {
  const { files } = await FileTree.open(dropped, signal);
  const configs = files.filter(({ path }) => baseName(path) === CONFIG_FILE);
  const [config] = configs;
  if (!config)
    throw missing(
      CONFIG_FILE,
      files.map(({ path }) => path),
    );
  if (configs.length > 1) {
    const paths = configs.map(({ path }) => path).join(", ");
    throw new TabTuneError(
      "BadInput",
      `Expected one adapter, found ${configs.length} (${paths}). Drop one of these folders alone.`,
    );
  }
  const folder = config.path.slice(0, -CONFIG_FILE.length);
  const weights = files.find(({ path }) => path === folder + WEIGHTS_FILE);
  if (!weights)
    throw missing(
      WEIGHTS_FILE,
      files.map(({ path }) => path),
    );
  return {
    config: await (await config.blob(signal)).text(),
    weights: new Uint8Array(await (await weights.blob(signal)).arrayBuffer()),
  };
}

function missing(name: string, paths: readonly string[]): TabTuneError {
  const found = paths.slice(0, 4).join(", ");
  const isPickle = paths.some((path) => path.endsWith(".bin"));
  const remedy = isPickle
    ? "A .bin file can run programs and is not opened: save the adapter with safe_serialization=True."
    : "Drop the whole folder that PEFT saved.";
  return new TabTuneError(
    "BadInput",
    `An adapter needs ${CONFIG_FILE} and ${WEIGHTS_FILE}: ${name} is missing, found ${found}. ${remedy}`,
  );
}
