import { TabTuneError } from "../../errors.ts";
import type { FileSet } from "../file_set.ts";

/** The model files of one export, and what was chosen among several, for the visitor. */
export interface OnnxFiles {
  /** The folder that they lie in, with a slash at its end; empty for the top. */
  folder: string;
  paths: string[];
  notes: string[];
}

interface Candidate {
  path: string;
  folder: string;
  part: Part;
  /** What the file's name ends in; empty for a plain one. */
  precision: string;
}

type Part = "language" | "embedding" | "vision";

/** How exporters name the parts: transformers.js first, then onnxruntime-genai. Of several language models the first that is there counts. */
const NAMES: Readonly<Record<Part, readonly string[]>> = {
  language: ["decoder_model_merged", "text", "model", "decoder_model"],
  embedding: ["embed_tokens", "embedding"],
  vision: ["vision_encoder", "vision"],
};
const PARTS = Object.keys(NAMES) as Part[];

/** What is taken where nobody chose. 8-bit activations and NF4 (`int8`, `uint8`, `quantized`, `bnb4`) are not read. */
const PRECISIONS = ["q4", "q4f16", "fp16", ""];

/** Paths of the ONNX files of a place; none where it cannot list them. */
export async function onnxPaths(files: FileSet, signal?: AbortSignal): Promise<string[]> {
  return ((await files.list(signal)) ?? []).map(({ path }) => path).filter((path) => path.endsWith(".onnx"));
}

/**
 * Finds the files of one export by their names: a language model, and beside it the embedding and the vision tower where they are files
 * of their own, in its precision before others. Throws `NotFound`, or `BadInput` where it is not clear which is meant.
 */
export async function pickOnnx(
  files: FileSet,
  listed: readonly string[],
  wanted: string | undefined,
  signal?: AbortSignal,
): Promise<OnnxFiles> {
  const candidates = (listed.length > 0 ? listed : await probe(files, wanted, signal)).flatMap(identify);
  const isWanted = ({ path }: Candidate) => path === wanted || path.endsWith(`/${wanted}`);
  const languages = candidates.filter((c) => c.part === "language" && (wanted === undefined || isWanted(c)));
  const best = languages.sort(byRank)[0];
  if (!best) {
    const found = listed.slice(0, 5).join(", ") || "none";
    throw new TabTuneError(
      "NotFound",
      `${files.describe()}: expected ${wanted ?? "an ONNX text model (decoder_model_merged_q4.onnx, text.onnx or model.onnx)"}, found ${found}. Choose the whole folder; of several precisions q4, q4f16, fp16 and fp32 can be read.`,
    );
  }
  const folders = [...new Set(languages.map(({ folder }) => folder))];
  if (folders.length > 1) {
    throw new TabTuneError(
      "BadInput",
      `${files.describe()}: expected one ONNX export, found several, in ${folders.map((f) => f || "the top folder").join(", ")}. Choose one of these folders.`,
    );
  }
  const here = candidates.filter(({ folder }) => folder === best.folder);
  const others = PARTS.slice(1).flatMap((part) => {
    const own = here.filter((c) => c.part === part).sort(byRank);
    return own.find(({ precision }) => precision === best.precision) ?? own[0] ?? [];
  });
  const paths = [best, ...others].map(({ path }) => path);
  const rest = here.filter(({ path }) => !paths.includes(path));
  const notes = rest.length > 0 ? [`Of ${here.length} ONNX files, these are taken: ${paths.join(", ")}.`] : [];
  return { folder: best.folder, paths, notes };
}

function identify(path: string): Candidate[] {
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const stem = path.slice(folder.length, -".onnx".length);
  return PARTS.flatMap((part) => {
    const name = NAMES[part].find((name) => stem === name || stem.startsWith(`${name}_`));
    const precision = name === undefined ? undefined : stem.slice(name.length + 1);
    return precision !== undefined && PRECISIONS.includes(precision) ? [{ path, folder, part, precision }] : [];
  });
}

function byRank(a: Candidate, b: Candidate): number {
  const name = ({ path, folder, part }: Candidate) =>
    NAMES[part].findIndex((name) => path.startsWith(`${folder}${name}`));
  return (
    name(a) - name(b) || PRECISIONS.indexOf(a.precision) - PRECISIONS.indexOf(b.precision) || (a.path < b.path ? -1 : 1)
  );
}

/** The files that may stand beside one that was named, where a place cannot list what it has. */
async function probe(files: FileSet, wanted: string | undefined, signal?: AbortSignal): Promise<string[]> {
  const [language] = identify(wanted ?? "");
  if (!wanted || !language) return [];
  const tried = PARTS.slice(1).flatMap((part) =>
    NAMES[part].map((name) => `${language.folder}${name}${language.precision && `_${language.precision}`}.onnx`),
  );
  const found = await Promise.all(tried.map(async (path) => ((await files.has(path, signal)) ? [path] : [])));
  return [wanted, ...found.flat()];
}
