import type { FileSet } from "../file_set.ts";
import { parseJson } from "../json.ts";

type Json = Record<string, unknown>;

const PREPROCESSOR = "preprocessor_config.json";
const PROCESSOR = "processor_config.json";
const GENERATION = "generation_config.json";
const GENAI = "genai_config.json";
/** Small files that an export may have beside its graphs instead of at the top. */
const NAMES = [
  ...["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json"],
  ...[GENERATION, PREPROCESSOR],
];
/** Areas of the published Qwen3-VL. Source: qwen3-vl.md §4. */
const PIXELS = { shortest_edge: 65536, longest_edge: 16777216 };

/** Small files of an export that lie in its folder and not at the top. */
export async function textsOfFolder(
  files: FileSet,
  folder: string,
  signal?: AbortSignal,
): Promise<Record<string, string>> {
  const own: Record<string, string> = {};
  for (const name of folder ? NAMES : []) {
    if (!(await files.has(name, signal)) && (await files.has(folder + name, signal)))
      own[name] = await files.text(folder + name, signal);
  }
  return own;
}

/**
 * What onnxruntime-genai says in its own words of pictures and of the end of an answer, in Hugging Face's; where nothing is said of pictures,
 * what the published model does.
 */
export async function textsOfGenai(
  files: FileSet,
  folder: string,
  config: Json,
  known: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<Record<string, string>> {
  const has = async (name: string) => known[name] !== undefined || (await files.has(name, signal));
  const read = async (name: string) =>
    (await files.has(folder + name, signal)) ? await files.text(folder + name, signal) : "{}";
  const made: Record<string, string> = {};
  const processor = await read(PROCESSOR);
  if (!(await has(PREPROCESSOR)) && object(parseJson(processor, PROCESSOR)).image_processor === undefined) {
    const { patch_size, temporal_patch_size, spatial_merge_size } = object(config.vision_config);
    const pixels = (name: string) => Number(new RegExp(`"${name}": *(\\d{1,12})[,\\s}]`).exec(processor)?.[1] ?? 0);
    const size = {
      shortest_edge: pixels("min_pixels") || PIXELS.shortest_edge,
      longest_edge: pixels("max_pixels") || PIXELS.longest_edge,
    };
    made[PREPROCESSOR] = JSON.stringify({ patch_size, temporal_patch_size, merge_size: spatial_merge_size, size });
  }
  if (!(await has(GENERATION))) {
    const { model, search } = object(parseJson(await read(GENAI), GENAI));
    made[GENERATION] = JSON.stringify({ ...object(search), eos_token_id: object(model).eos_token_id });
  }
  return made;
}

function object(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}
