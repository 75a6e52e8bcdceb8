import { TabTuneError } from "../../errors.ts";
import type { FileSet } from "../file_set.ts";
import { peekGguf } from "./container.ts";

/** Which files to take, where a place has several; a name or the end of a path. */
export interface GgufChoice {
  /** The language model, of a split one any part; of an ONNX export too. */
  language?: string;
  /** The vision tower (mmproj). */
  vision?: string;
}

/** The files of one model. */
export interface GgufPair {
  /** The parts of the language model in order; mostly one. */
  language: string[];
  vision: string;
  /** What was chosen among several, for the visitor. */
  notes: string[];
}

/**
 * What is taken where nobody chose, by how the files are named: the size that most people run, then the more exact ones by size, then the
 * rest. Of vision towers the ones that lose least: they are kept as bf16.
 */
const LANGUAGE_ORDER = ["Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q5_K_S", "Q6_K", "Q8_0", "BF16", "F16", "F32"];
const VISION_ORDER = ["BF16", "F32", "F16", "Q8_0"];

const MOST_FILES = 200;
const PEEKED = ["general.architecture", "general.type"] as const;
const PART = /-(\d{5})-of-(\d{5})\.gguf$/;

interface Candidate {
  /** First part, and all parts. */
  path: string;
  parts: string[];
  architecture: string;
  isModel: boolean;
}

/** Paths of the GGUF files of a place; none where it cannot list them. */
export async function ggufPaths(files: FileSet, signal?: AbortSignal): Promise<string[]> {
  const listing = (await files.list(signal)) ?? [];
  return listing.map(({ path }) => path).filter((path) => path.toLowerCase().endsWith(".gguf"));
}

/**
 * Finds the language model and the vision tower of a Qwen3-VL among GGUF files by what their metadata says they are. Several are chosen from
 * by name, the choice first. Throws `UnsupportedModel` for other architectures, `NotFound` for a half or a part that is missing.
 */
export async function pickGguf(
  files: FileSet,
  paths: readonly string[],
  choice: GgufChoice,
  signal?: AbortSignal,
): Promise<GgufPair> {
  const listed = paths.length > 0 ? paths : Object.values(choice).filter((path) => path !== undefined);
  if (listed.length > MOST_FILES) {
    throw new TabTuneError(
      "BadInput",
      `${files.describe()}: expected at most ${MOST_FILES} GGUF files, found ${listed.length}. Choose a smaller folder.`,
    );
  }
  const candidates = await Promise.all(groupParts(files, listed).map((group) => identify(files, group, signal)));
  const languages = candidates.filter(({ architecture, isModel }) => architecture === "qwen3vl" && isModel);
  const towers = candidates.filter(({ architecture }) => architecture === "clip");
  if (languages.length === 0) throw noLanguage(files, candidates, towers);
  const notes: string[] = [];
  const language = choose(files, languages, choice.language, LANGUAGE_ORDER, "language", notes);
  if (towers.length === 0) {
    throw new TabTuneError(
      "NotFound",
      `${files.describe()}: ${language.path} is the language model alone, and there is no vision tower beside it. Add the mmproj file (mmproj-….gguf) from where it comes from.`,
    );
  }
  const vision = choose(files, towers, choice.vision, VISION_ORDER, "vision", notes);
  return { language: language.parts, vision: vision.path, notes };
}

/** Parts of one split file together. Throws `NotFound` when one is missing. */
function groupParts(files: FileSet, paths: readonly string[]): string[][] {
  const groups = new Map<string, string[]>();
  for (const path of [...paths].sort()) {
    const key = path.replace(PART, "-of-$2");
    groups.set(key, [...(groups.get(key) ?? []), path]);
  }
  for (const parts of groups.values()) {
    const total = Number(PART.exec(parts[0]!)?.[2] ?? 1);
    if (parts.length !== total || parts.some((path, i) => total > 1 && Number(PART.exec(path)![1]) !== i + 1)) {
      throw new TabTuneError(
        "NotFound",
        `${files.describe()}: ${parts[0]} is one of ${total} parts, of which ${parts.length} are here. Add the others and try again.`,
      );
    }
  }
  return [...groups.values()];
}

async function identify(files: FileSet, parts: string[], signal?: AbortSignal): Promise<Candidate> {
  const path = parts[0]!;
  const metadata = await peekGguf(files, path, PEEKED, signal);
  const architecture = String(metadata.get("general.architecture") ?? "unnamed");
  return { path, parts, architecture, isModel: (metadata.get("general.type") ?? "model") === "model" };
}

function choose(
  files: FileSet,
  candidates: Candidate[],
  wanted: string | undefined,
  order: readonly string[],
  what: keyof GgufChoice,
  notes: string[],
): Candidate {
  const names = candidates.map(({ path }) => path).sort();
  if (wanted !== undefined) {
    const found = candidates.filter(({ parts }) =>
      parts.some((path) => path === wanted || path.endsWith(`/${wanted}`)),
    );
    if (found.length === 1) return found[0]!;
    throw new TabTuneError(
      "NotFound",
      `${files.describe()}: expected one ${what} file named ${wanted}, found ${found.length} among ${names.join(", ")}. Choose one of these.`,
    );
  }
  if (candidates.length === 1) return candidates[0]!;
  const rank = ({ path }: Candidate) => {
    const at = order.findIndex((word) => new RegExp(`(^|[-_./])${word}([-_.]|$)`, "i").test(path));
    return at < 0 ? order.length : at;
  };
  const [best, second] = [...candidates].sort((a, b) => rank(a) - rank(b) || (a.path < b.path ? -1 : 1));
  if (rank(best!) === rank(second!)) {
    throw new TabTuneError(
      "BadInput",
      `${files.describe()}: expected one ${what} file, found several that might be meant: ${names.join(", ")}. Keep or choose one of them.`,
    );
  }
  notes.push(`Of ${candidates.length} ${what} files, ${best!.path} is taken (there are ${names.join(", ")}).`);
  return best!;
}

function noLanguage(files: FileSet, candidates: Candidate[], towers: Candidate[]): TabTuneError {
  const where = files.describe();
  const others = candidates.filter((c) => !towers.includes(c));
  if (others.length === 0) {
    return new TabTuneError(
      "NotFound",
      `${where}: ${towers[0]?.path ?? "it"} is a vision tower alone. Add the GGUF file of the language model that it belongs to.`,
    );
  }
  const adapter = others.find(({ isModel, architecture }) => !isModel && architecture === "qwen3vl");
  if (adapter) {
    return new TabTuneError(
      "UnsupportedModel",
      `${where}: ${adapter.path} is an adapter, not a model. Load the model that it belongs to.`,
    );
  }
  const found = others.map(({ path, architecture }) => `${path}: ${architecture}`).join("; ");
  return new TabTuneError(
    "UnsupportedModel",
    `${where}: expected a GGUF file with the architecture qwen3vl, found ${found}. TabTune runs dense Qwen3-VL and models fine-tuned from them.`,
  );
}
