import { shown, TabTuneError } from "../errors.ts";
import type { Checkpoint, TensorInfo } from "./checkpoint.ts";
import type { FileSet } from "./file_set.ts";
import { samplePrint, sha256Hex } from "./fingerprint.ts";
import { openGguf } from "./gguf/open.ts";
import { type GgufChoice, ggufPaths } from "./gguf/pick.ts";
import { parseJson } from "./json.ts";
import { openOnnx } from "./onnx/open.ts";
import { onnxPaths } from "./onnx/pick.ts";
import { readQuantized } from "./quantized/quantized.ts";
import type { QuantizedWeight } from "./quantized/raw_tensors.ts";
import { readSafetensorsHeader } from "./safetensors.ts";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const MAX_WEIGHT_FILES = 1000;

/**
 * Opens a Hugging Face style folder: config.json and the headers of its safetensors file or files; or GGUF or ONNX files, where one is
 * chosen or there is nothing else. No weight is read.
 * Throws `BadCheckpoint` for anything malformed and `NotFound` when there is no checkpoint at all.
 */
export async function openCheckpoint(
  files: FileSet,
  signal?: AbortSignal,
  choice: GgufChoice = {},
): Promise<Checkpoint> {
  const wanted = choice.language;
  const [gguf, onnx] = [await ggufPaths(files, signal), await onnxPaths(files, signal)];
  const isOther = wanted === undefined && !(await hasSafetensors(files, signal));
  if (wanted?.endsWith(".onnx") || (isOther && onnx.length > 0 && gguf.length === 0)) {
    return await openOnnx(files, onnx, wanted, signal);
  }
  if (wanted !== undefined || (isOther && gguf.length > 0)) return await openGguf(files, gguf, choice, signal);
  const config = await readJson(files, "config.json", signal);
  const weightFiles = await findWeightFiles(files, signal);
  const tensors = new Map<string, TensorInfo>();
  const prints: unknown[] = [];
  for (const path of weightFiles.paths) {
    const { tensors: found, header } = await readSafetensorsHeader(files, path, signal);
    for (const tensor of found) {
      const other = tensors.get(tensor.name);
      if (other) {
        throw bad(
          `tensor "${tensor.name}" is in both ${other.file} and ${path}. Keep the files of one checkpoint only.`,
        );
      }
      tensors.set(tensor.name, tensor);
    }
    prints.push([path, await sha256Hex(header), await samplePrint(files, path, 8 + header.length, signal)]);
  }
  for (const [name, file] of weightFiles.expected) {
    if (!tensors.has(name)) {
      throw bad(
        `${INDEX} says that tensor "${name}" is in ${file}, but it is not. The files belong to different versions.`,
      );
    }
  }
  const fingerprint = await sha256Hex(new TextEncoder().encode(JSON.stringify([config, prints])));
  const ranges = [...tensors.values()].map(({ file, offset, bytes }) => ({ path: file, offset, bytes }));
  const quantized = new Map<string, QuantizedWeight>();
  const read = (tensor: TensorInfo, offset = 0, bytes = tensor.bytes - offset, readSignal?: AbortSignal) =>
    files.read(tensor.file, tensor.offset + offset, bytes, readSignal);
  for (const weight of await readQuantized({ tensors, config, read }, signal)) {
    for (const part of weight.parts) tensors.delete(part);
    if (tensors.has(weight.info.name)) {
      throw bad(`${weight.info.name} is there both dense and quantized. Keep the files of one checkpoint only.`);
    }
    tensors.set(weight.info.name, weight.info);
    quantized.set(weight.info.name, weight);
  }
  return {
    files,
    config,
    tensors,
    ranges,
    fingerprint,
    readRows: (name, row0, rows, rowSignal) => readRows(files, tensors, quantized, name, row0, rows, rowSignal),
  };
}

async function readRows(
  files: FileSet,
  tensors: Map<string, TensorInfo>,
  quantized: ReadonlyMap<string, QuantizedWeight>,
  name: string,
  row0: number,
  rows: number,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const tensor = tensors.get(name);
  if (!tensor) throw bad(`expected a tensor "${name}", found none of that name.`);
  const total = tensor.shape[0] ?? 1;
  if (!(row0 >= 0 && rows >= 0 && row0 + rows <= total)) {
    throw new TabTuneError("Internal", `${name}: rows ${row0} to ${row0 + rows} asked of ${total}.`);
  }
  const weight = quantized.get(name);
  if (weight) return await weight.readRows(row0, rows, signal);
  const rowBytes = total === 0 ? 0 : tensor.bytes / total;
  if (rows * rowBytes === 0) return new Uint8Array(0);
  return await files.read(tensor.file, tensor.offset + row0 * rowBytes, rows * rowBytes, signal);
}

async function hasSafetensors(files: FileSet, signal?: AbortSignal): Promise<boolean> {
  return (await files.list(signal))?.some(({ path }) => path.endsWith(".safetensors")) ?? false;
}

async function readJson(files: FileSet, path: string, signal?: AbortSignal): Promise<unknown> {
  if (!(await files.has(path, signal))) {
    const other = otherFormat((await files.list(signal)) ?? []);
    throw new TabTuneError(
      "NotFound",
      `${files.describe()}: expected a folder with config.json and model.safetensors, found ${other ?? `no ${path}`}. Choose the folder of a Hugging Face checkpoint in safetensors, or GGUF or ONNX files.`,
    );
  }
  return parseJson(await files.text(path, signal), path);
}

interface WeightFiles {
  paths: string[];
  /** [tensor, file] of the index; empty without one. */
  expected: [string, string][];
}

/** An index counts only if every file that it names is there; otherwise the single file, otherwise the only one there is. */
async function findWeightFiles(files: FileSet, signal?: AbortSignal): Promise<WeightFiles> {
  const listing = await files.list(signal);
  const single = await files.has(SINGLE, signal);
  // A place that cannot list its files is asked for no more than it must be.
  if ((listing || !single) && (await files.has(INDEX, signal))) {
    const index = await readIndex(files, signal);
    const missing: string[] = [];
    for (const path of index.paths) if (!(await files.has(path, signal))) missing.push(path);
    if (missing.length === 0) return index;
    if (!single) {
      throw new TabTuneError(
        "NotFound",
        `${files.describe()}: ${INDEX} names ${index.paths.length} weight files, of which ${missing.length} are missing: ${missing.slice(0, 3).join(", ")}${missing.length > 3 ? ", …" : ""}. Add them and try again.`,
      );
    }
  }
  if (single) return { paths: [SINGLE], expected: [] };
  const others = (listing ?? []).filter(({ path }) => path.endsWith(".safetensors") && !path.includes("/"));
  if (others.length === 1) return { paths: [others[0]!.path], expected: [] };
  throw new TabTuneError(
    "NotFound",
    `${files.describe()}: expected ${SINGLE} or ${INDEX}, found ${others.length ? `${others.length} safetensors files and no index` : (otherFormat(listing ?? []) ?? "neither")}. Only safetensors, GGUF and ONNX checkpoints can be read.`,
  );
}

/** Files of formats that are not read. */
const OTHERS: readonly [path: RegExp, format: string][] = [
  [/\.onnx[_.]data(_\d+)?$/, "weights of an ONNX export without its .onnx files"],
  [/\.(bin|pt|pth)$/, "PyTorch files"],
  [/\.(mnn|rknn|nexa|dlc|om|mlpackage|mlmodelc|task|litertlm)$/, "a build for one kind of device"],
];

function otherFormat(listing: readonly { path: string }[]): string | undefined {
  if (listing.some(({ path }) => path.endsWith(".safetensors"))) return undefined;
  for (const [sign, format] of OTHERS) {
    const found = listing.find(({ path }) => sign.test(path));
    if (found) return `${format} (${found.path})`;
  }
  return undefined;
}

async function readIndex(files: FileSet, signal?: AbortSignal): Promise<WeightFiles> {
  const index = await readJson(files, INDEX, signal);
  const map = typeof index === "object" && index !== null ? (index as Record<string, unknown>).weight_map : undefined;
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw bad(`${INDEX}: expected an object "weight_map", found none.`);
  }
  const expected: [string, string][] = [];
  const paths = new Set<string>();
  for (const [name, path] of Object.entries(map)) {
    if (typeof path !== "string" || !isSafePath(path)) {
      throw bad(`${INDEX}: tensor "${name}": expected the name of a file in the same folder, found ${shown(path)}.`);
    }
    expected.push([name, path]);
    paths.add(path);
  }
  if (paths.size === 0 || paths.size > MAX_WEIGHT_FILES) {
    throw bad(`${INDEX}: expected 1 to ${MAX_WEIGHT_FILES} weight files, found ${paths.size}.`);
  }
  return { paths: [...paths].sort(), expected };
}

/** Names come from an untrusted repository: nothing that leads out of the folder. */
function isSafePath(path: string): boolean {
  return path.endsWith(".safetensors") && !/\\|:|^\/|[?#]/.test(path) && !path.split("/").includes("..");
}

function bad(message: string): TabTuneError {
  return new TabTuneError("BadCheckpoint", message);
}
