import { TabTuneError } from "../../errors.ts";
import type { Checkpoint, TensorInfo } from "../checkpoint.ts";
import type { FileSet } from "../file_set.ts";
import { samplePrint, sha256Hex } from "../fingerprint.ts";
import { parseJson } from "../json.ts";
import { RecentReads } from "../recent_reads.ts";
import { WithSmallFiles } from "../small_files.ts";
import { readOnnxGraph } from "./graph.ts";
import { type ModelShape, modelShape, parametersOf } from "./parameters.ts";
import { pickOnnx } from "./pick.ts";
import { partOfRows, type ReadTensor, type WeightRows, weightRows } from "./rows.ts";
import { textsOfFolder, textsOfGenai } from "./small_texts.ts";
import { type FoundWeights, findWeights } from "./weights.ts";

const CONFIG = "config.json";
const HEAD = "lm_head.weight";
const TEXT = "model.language_model.";
/**
 * Opens an ONNX export of a Qwen3-VL as a checkpoint: each weight under its Hugging Face name, found through the graphs. No weight is
 * read. Throws `BadCheckpoint` naming the first weight that is not found, `NotFound`, `BadInput`.
 */
export async function openOnnx(
  files: FileSet,
  listed: readonly string[],
  wanted: string | undefined,
  signal?: AbortSignal,
): Promise<Checkpoint> {
  const { folder, paths, notes } = await pickOnnx(files, listed, wanted, signal);
  const own = await textsOfFolder(files, folder, signal);
  if (own[CONFIG] === undefined && !(await files.has(CONFIG, signal))) {
    throw new TabTuneError(
      "NotFound",
      `${files.describe()}: expected ${CONFIG} of the model beside ${paths[0]}, found none (genai_config.json does not say enough). Copy it from the original model.`,
    );
  }
  const config = parseJson(own[CONFIG] ?? (await files.text(CONFIG, signal)), CONFIG);
  const graphs = await Promise.all(paths.map((path) => readOnnxGraph(files, path, signal)));
  const found = findWeights(graphs);
  const shape = modelShape(config);
  const remarks = settle(found, shape);
  const read: ReadTensor = ({ file, offset, bytes }, from = 0, length = bytes - from, readSignal) =>
    length === 0 ? Promise.resolve(new Uint8Array(0)) : files.read(file, offset + from, length, readSignal);
  const weights = rowsOf(found, shape, read);
  const parts = [...new Set([...weights.values()].flatMap((weight) => weight.parts))];
  await checkFiles(files, parts, signal);
  Object.assign(own, await textsOfGenai(files, folder, shape.config, own, signal));
  own[CONFIG] = JSON.stringify(shape.config);
  const tensors = new Map([...weights].map(([name, { info }]) => [name, info]));
  const used = [...new Set([...paths, ...parts.map(({ file }) => file)])];
  const prints = await Promise.all(used.map(async (path) => [path, await samplePrint(files, path, 0, signal)]));
  const identity = JSON.stringify([shape.config, [...tensors], prints]);
  return {
    files: new WithSmallFiles(files, paths, own, {}),
    config: shape.config,
    tensors,
    ranges: parts.map(({ file, offset, bytes }) => ({ path: file, offset, bytes })),
    fingerprint: await sha256Hex(new TextEncoder().encode(identity)),
    notes: [...notes, ...remarks],
    async readRows(name, row0, rows, rowSignal) {
      const weight = weights.get(name);
      if (!weight) throw bad(`expected a tensor "${name}", found none of that name.`);
      const total = weight.info.shape[0] ?? 1;
      if (!(row0 >= 0 && rows >= 0 && row0 + rows <= total)) {
        throw new TabTuneError("Internal", `${name}: rows ${row0} to ${row0 + rows} asked of ${total}.`);
      }
      return await weight.readRows(row0, rows, rowSignal);
    },
  };
}

/**
 * Makes the config say what the graphs compute: a head that is not the embedding's own tensor is a matrix by itself, and an export
 * without any of the DeepStack mergers runs without them. Returns remarks for the visitor.
 */
function settle({ weights }: FoundWeights, shape: ModelShape): string[] {
  const remarks: string[] = [];
  if (shape.isTied && weights.has(HEAD)) {
    const [head, embedding] = [weights.get(HEAD)!, weights.get(`${TEXT}embed_tokens.weight`)];
    const parts = (weight: typeof head) => (weight.kind === "dense" ? weight.tensor : weight.codes);
    if (embedding && parts(head) === parts(embedding)) weights.delete(HEAD);
    else {
      shape.untie();
      remarks.push("The export stores the head and the embedding apart; both are kept.");
    }
  }
  if (shape.taps > 0 && ![...weights.keys()].some((name) => name.includes("deepstack"))) {
    shape.dropDeepstack();
    remarks.push(
      "The export leaves out DeepStack: pictures are seen as the export sees them, not as the original model does.",
    );
  }
  return remarks;
}

/** Every weight that the config asks for, in its order; fused ones by their parts. Throws for the first that is missing, and for others. */
function rowsOf({ weights, strange }: FoundWeights, shape: ModelShape, read: ReadTensor): Map<string, WeightRows> {
  const recent = new RecentReads<Uint8Array<ArrayBuffer>>();
  const rows = new Map<string, WeightRows>();
  const left = new Set(weights.keys());
  for (const { name, fused } of parametersOf(shape)) {
    const weight = weights.get(name);
    if (weight) rows.set(name, weightRows(name, weight, read, recent));
    else {
      const whole = fused && weights.get(fused.name);
      if (!whole) throw missing(name, strange, [...left]);
      left.delete(fused.name);
      const stacked = weightRows(fused.name, whole, read, recent);
      if (stacked.info.shape[0] !== fused.total) {
        throw bad(
          `${fused.name}: expected ${fused.total} rows, found [${stacked.info.shape.join(", ")}]. Does ${CONFIG} belong to these files?`,
        );
      }
      rows.set(name, partOfRows(name, stacked, fused.row0, fused.rows));
    }
    left.delete(name);
  }
  const [other] = left;
  if (other)
    throw bad(`${other} is not a weight that the model of ${CONFIG} has. Does ${CONFIG} belong to these files?`);
  return rows;
}

function missing(name: string, strange: readonly string[], left: readonly string[]): TabTuneError {
  const seen = [...strange, ...left].slice(0, 3).join("; ") || "nothing that could be it";
  return bad(
    `${name} was not found in the ONNX files; what has no place is ${seen}. Is each part of the export there, and was it quantized to MatMulNBits under the exporter's names? Otherwise choose safetensors or GGUF.`,
  );
}

/** Every file is there and as long as what is read of it. */
async function checkFiles(files: FileSet, parts: readonly TensorInfo[], signal?: AbortSignal): Promise<void> {
  const ends = new Map<string, TensorInfo>();
  for (const part of parts) {
    const last = ends.get(part.file);
    if (!last || part.offset + part.bytes > last.offset + last.bytes) ends.set(part.file, part);
  }
  for (const [path, { name, offset, bytes }] of ends) {
    if (!(await files.has(path, signal))) {
      throw new TabTuneError(
        "NotFound",
        `${files.describe()}: ${name} lies in ${path}, which is missing. Add it and try again.`,
      );
    }
    const size = await files.size(path, signal);
    if (offset + bytes > size)
      throw bad(
        `${path}: ${name} ends at byte ${offset + bytes}, but the file has ${size}. It is truncated; download it again.`,
      );
  }
}

function bad(message: string): TabTuneError {
  return new TabTuneError("BadCheckpoint", message);
}
