import { shown, TabTuneError } from "../../errors.ts";
import type { Qwen3VLConfig } from "./config.ts";

/** What preprocessor_config.json or processor_config.json says. Pixel numbers are areas. */
export interface ProcessorConfig {
  patchSize: number;
  temporalPatchSize: number;
  mergeSize: number;
  minPixels: number;
  maxPixels: number;
  mean: readonly number[];
  std: readonly number[];
  /** Bounds on frames × height × width of a whole video. */
  video: { minPixels: number; maxPixels: number };
}

type Json = Record<string, unknown>;

function parseJson(texts: Readonly<Record<string, string>>, path: string): Json | undefined {
  const text = texts[path];
  if (text === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new TabTuneError("BadCheckpoint", `${path} is not valid JSON (${String(cause)}).`, { cause });
  }
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Json;
  throw new TabTuneError("BadCheckpoint", `${path}: expected an object, found ${shown(json)}.`);
}

/** What Qwen publishes for videos; used where a checkpoint says nothing about them. Source: qwen3-vl.md §4. */
const VIDEO_PIXELS = { minPixels: 4096, maxPixels: 25165824 };

/** Fields of a preprocessor config, checked. */
class Fields {
  #json: Json;
  #file: string;

  constructor(json: unknown, file: string) {
    if (typeof json !== "object" || json === null || Array.isArray(json)) {
      throw new TabTuneError("BadCheckpoint", `${file}: expected an object, found ${shown(json)}.`);
    }
    this.#json = json as Json;
    this.#file = file;
  }

  bad(field: string, expected: string, found: unknown): TabTuneError {
    return new TabTuneError("BadCheckpoint", `${this.#file}: ${field}: expected ${expected}, found ${shown(found)}.`);
  }

  count(field: string, expected: number): number {
    const value = this.#json[field] ?? expected;
    if (value !== expected) throw this.bad(field, `${expected} as in config.json`, value);
    return expected;
  }

  three(field: string, isScale: boolean): readonly number[] {
    const value = this.#json[field] ?? [0.5, 0.5, 0.5];
    const isGood = (v: unknown) => typeof v === "number" && Number.isFinite(v) && (!isScale || v > 0);
    if (Array.isArray(value) && value.length === 3 && value.every(isGood)) return value;
    throw this.bad(field, isScale ? "three positive numbers" : "three numbers", value);
  }

  /** Areas in pixels, whatever the names say. */
  pixels(fallback?: { minPixels: number; maxPixels: number }): { minPixels: number; maxPixels: number } {
    const size = (this.#json.size ?? {}) as Json;
    const minPixels = size.shortest_edge ?? this.#json.min_pixels ?? fallback?.minPixels;
    const maxPixels = size.longest_edge ?? this.#json.max_pixels ?? fallback?.maxPixels;
    const isArea = (v: unknown): v is number => typeof v === "number" && v > 0 && Number.isFinite(v);
    if (!isArea(minPixels)) throw this.bad("size.shortest_edge", "a number of pixels", minPixels);
    if (!isArea(maxPixels) || maxPixels < minPixels) {
      throw this.bad("size.longest_edge", `at least ${minPixels} pixels`, maxPixels);
    }
    return { minPixels, maxPixels };
  }

  /** What TabTune always does must not be switched off or done another way. */
  only(field: string, ...allowed: unknown[]): void {
    const value = this.#json[field];
    if (value === undefined || value === null || allowed.includes(value)) return;
    throw this.bad(field, allowed.map((v) => shown(v)).join(" or "), value);
  }
}

/**
 * Reads either way of writing: preprocessor_config.json, or image_processor in processor_config.json.
 * Throws `BadCheckpoint` when none is there or it contradicts config.json.
 * @param texts small files of the checkpoint by path
 */
export function parseProcessorConfig(texts: Readonly<Record<string, string>>, config: Qwen3VLConfig): ProcessorConfig {
  const whole = parseJson(texts, "processor_config.json");
  const own = parseJson(texts, "preprocessor_config.json");
  const image = own ?? whole?.image_processor;
  if (image === undefined) {
    throw new TabTuneError(
      "BadCheckpoint",
      "The checkpoint says nothing about its pictures: expected preprocessor_config.json or processor_config.json with image_processor.",
    );
  }
  const fields = new Fields(image, own ? "preprocessor_config.json" : "processor_config.json, image_processor");
  for (const step of ["do_resize", "do_rescale", "do_normalize"]) fields.only(step, true);
  fields.only("resample", 3);
  fields.only("rescale_factor", 1 / 255);
  const { vision } = config;
  const video = parseJson(texts, "video_preprocessor_config.json") ?? whole?.video_processor ?? {};
  return {
    patchSize: fields.count("patch_size", vision.patchSize),
    temporalPatchSize: fields.count("temporal_patch_size", vision.temporalPatchSize),
    mergeSize: fields.count("merge_size", vision.spatialMergeSize),
    ...fields.pixels(),
    mean: fields.three("image_mean", false),
    std: fields.three("image_std", true),
    video: new Fields(video, "video preprocessor config").pixels(VIDEO_PIXELS),
  };
}

/** The sampling that the checkpoint's makers recommend, and the ids that end a turn. */
export interface GenerationConfig {
  endTokenIds: number[];
  sampling: { temperature: number; topK: number; topP: number; repetitionPenalty: number };
}

/** @param text generation_config.json, if there is one. */
export function parseGenerationConfig(text: string | undefined): GenerationConfig {
  const path = "generation_config.json";
  const json = text === undefined ? {} : parseJson({ [path]: text }, path)!;
  const eos = json.eos_token_id;
  const endTokenIds = (Array.isArray(eos) ? eos : [eos]).filter((id): id is number => Number.isInteger(id));
  const number = (field: string, fallback: number) =>
    typeof json[field] === "number" ? (json[field] as number) : fallback;
  const sampled = json.do_sample === true;
  return {
    endTokenIds,
    sampling: {
      temperature: sampled ? number("temperature", 1) : 0,
      topK: sampled ? number("top_k", 0) : 0,
      topP: sampled ? number("top_p", 1) : 1,
      repetitionPenalty: number("repetition_penalty", 1),
    },
  };
}
