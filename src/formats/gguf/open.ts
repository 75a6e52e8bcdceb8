import { TabTuneError } from "../../errors.ts";
import type { Checkpoint, TensorInfo } from "../checkpoint.ts";
import type { FileSet } from "../file_set.ts";
import { samplePrint, sha256Hex } from "../fingerprint.ts";
import { WithSmallFiles } from "../small_files.ts";
import { checkPair, configOf, generationOf, preprocessorOf } from "./config.ts";
import { type GgufFile, readGgufFile } from "./container.ts";
import { Metadata } from "./metadata.ts";
import { type NamedTensor, nameTensors } from "./names.ts";
import { type GgufChoice, pickGguf } from "./pick.ts";
import { tokenizerOf } from "./tokenizer.ts";

/**
 * Opens the two GGUF files of a Qwen3-VL as a checkpoint: tensors under Hugging Face names, config, tokenizer, template and preprocessor
 * settings from the metadata. No weight is read.
 * Throws `BadCheckpoint`, `UnsupportedModel`, `NotFound` (no such file, or half of the pair), `BadInput` (which of several?).
 */
export async function openGguf(
  files: FileSet,
  paths: readonly string[],
  choice: GgufChoice,
  signal?: AbortSignal,
): Promise<Checkpoint> {
  const pair = await pickGguf(files, paths, choice, signal);
  const language = await Promise.all(pair.language.map((path) => readGgufFile(files, path, signal)));
  const vision = await readGgufFile(files, pair.vision, signal);
  const [first] = language as [GgufFile];
  checkParts(language);
  checkPair(first, vision);
  const tensors = nameTensors(language, vision);
  const tokenizer = tokenizerOf(first);
  const config = configOf(first, vision, tensors, tokenizer.added);
  const template = new Metadata(first).text("tokenizer.chat_template");
  const own = {
    "config.json": JSON.stringify(config),
    "tokenizer.json": tokenizer.json,
    ...(template === undefined ? {} : { "chat_template.jinja": template }),
  };
  const defaults = {
    "generation_config.json": JSON.stringify(generationOf(first)),
    "preprocessor_config.json": JSON.stringify(preprocessorOf(vision, config)),
  };
  const prints = await Promise.all(
    [...language, vision].map(async ({ path, head }) => [
      path,
      await sha256Hex(head),
      await samplePrint(files, path, head.length, signal),
    ]),
  );
  const licence = files.licence ?? new Metadata(first).text("general.license");
  const set = new WithSmallFiles(files, [...pair.language, pair.vision], own, defaults, licence);
  return {
    files: set,
    config,
    tensors,
    ranges: [...tensors.values()].map(({ file, offset, bytes }) => ({ path: file, offset, bytes })),
    fingerprint: await sha256Hex(new TextEncoder().encode(JSON.stringify([config, prints]))),
    notes: pair.notes,
    readRows: (name, row0, rows, rowSignal) => readRows(files, tensors, name, row0, rows, rowSignal),
  };
}

function checkParts(language: readonly GgufFile[]): void {
  const first = new Metadata(language[0]!);
  const count = first.number("split.count", 1);
  if (count !== Math.max(1, language.length) && count !== 0) {
    throw first.bad("split.count", `${language.length}, the parts that its name says`, count);
  }
}

async function readRows(
  files: FileSet,
  tensors: ReadonlyMap<string, NamedTensor>,
  name: string,
  row0: number,
  rows: number,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const tensor = tensors.get(name);
  if (!tensor) throw new TabTuneError("BadCheckpoint", `expected a tensor "${name}", found none of that name.`);
  const total = tensor.shape[0]!;
  if (!(row0 >= 0 && rows >= 0 && row0 + rows <= total)) {
    throw new TabTuneError("Internal", `${name}: rows ${row0} to ${row0 + rows} asked of ${total}.`);
  }
  if (rows === 0) return new Uint8Array(0);
  const read = ({ file, offset, bytes }: TensorInfo) => {
    const rowBytes = bytes / total;
    return files.read(file, offset + row0 * rowBytes, rows * rowBytes, signal);
  };
  const slices = await Promise.all(tensor.slices.map(read));
  return slices.length === 1 ? slices[0]! : interleave(slices, rows * tensor.shape[1]!);
}

/** [count, n] of each slice to [count, slices, n]: of the patch embedding, n are the bytes of one channel of one patch. */
function interleave(slices: Uint8Array[], count: number): Uint8Array<ArrayBuffer> {
  const n = slices[0]!.length / count;
  const out = new Uint8Array(slices.length * count * n);
  for (const [t, slice] of slices.entries()) {
    for (let i = 0; i < count; i++) out.set(slice.subarray(i * n, (i + 1) * n), (i * slices.length + t) * n);
  }
  return out;
}
