import { openModel, type PlannedDevice } from "../engine/index.ts";
import { TabTuneError } from "../errors.ts";
import { imageSize, parseConfig, parseProcessorConfig } from "../models/index.ts";
import { decodeImage, resizeBicubic } from "../processor/index.ts";
import { checkSettings, encodeRows, exportDataset, planRun, RowTokenizer, trainScript } from "../train/index.ts";
import type { TrainSettings } from "../training_records.ts";
import type { Picture } from "./protocol.ts";
import type { SeenOptions, SeenPicture, SeenRow, TrainingPlan } from "./train_protocol.ts";
import type { TrainingData } from "./worker_datasets.ts";
import { describeMemory } from "./worker_train_memory.ts";

/** Rows of a list in a plan: more than a page shows. */
const MAX_LISTED = 1000;

/** The tokenizer of the model that was asked about last: parsing it takes a while. */
let last: { modelId: string; tokenizer: RowTokenizer } | undefined;

export async function tokenizerOf(modelId: string): Promise<RowTokenizer> {
  if (last?.modelId !== modelId) {
    const { texts, config } = await openModel(modelId);
    last = { modelId, tokenizer: new RowTokenizer(texts, config) };
  }
  return last.tokenizer;
}

/** What a stored model would see of the one row in `data`. Throws `NotFound`. */
export async function seenRow(modelId: string, data: TrainingData, options: SeenOptions): Promise<SeenRow> {
  const row = data.rows[0];
  if (!row) throw new TabTuneError("NotFound", "This row is no longer in the data set.");
  const tokenizer = await tokenizerOf(modelId);
  const example = tokenizer.encode(row, data.sizeOf, options);
  return {
    spans: tokenizer.spans(example),
    tokens: example.ids.length,
    trained: example.trained,
    isTooLong: example.ids.length > options.maxTokens,
    pictures: example.images.map(({ grid: _, start: __, ...shown }) => shown),
  };
}

/** A picture as the model's own resize makes it. */
export async function seenPicture(modelId: string, picture: Picture, maxPixels: number): Promise<SeenPicture> {
  const { texts, config } = await openModel(modelId);
  const image = await decodeImage(picture.blob, picture.name);
  const processor = parseProcessorConfig(texts, parseConfig(config));
  const { height, width } = imageSize(image.height, image.width, processor, { maxPixels });
  const { rgb } = resizeBicubic(image, height, width);
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let i = 0, o = 0; i < rgb.length; i += 3, o += 4) {
    rgba[o] = rgb[i]!;
    rgba[o + 1] = rgb[i + 1]!;
    rgba[o + 2] = rgb[i + 2]!;
  }
  return { width, height, rgba };
}

/** What a run would do and take: settings checked, rows tokenized, steps and bytes counted. */
export async function planTraining(
  modelId: string,
  data: TrainingData,
  settings: TrainSettings,
  device: PlannedDevice,
  signal: AbortSignal,
  onProgress: (done: number, total: number) => void,
): Promise<TrainingPlan> {
  const problems = checkSettings(settings);
  if (problems.length > 0) return { problems };
  const manifest = await openModel(modelId);
  const encoded = await encodeRows(await tokenizerOf(modelId), data.rows, data.sizeOf, {
    ...settings,
    signal,
    onProgress,
  });
  const number = new Map(data.rows.map((row, i) => [row.id, i + 1]));
  const part = new Map(data.rows.map((row, i) => [row.id, data.parts[i]]));
  const train = encoded.examples.filter(({ rowId }) => part.get(rowId) === "train");
  const heldBack = encoded.examples.length - train.length;
  return {
    problems,
    plan: {
      ...planRun(settings, manifest, train),
      heldBackExamples: heldBack,
      scored: Math.min(heldBack, settings.evaluateRows || heldBack),
      memory: describeMemory(manifest, settings, encoded.examples, device),
      tooLong: encoded.tooLong
        .slice(0, MAX_LISTED)
        .map(({ rowId, tokens }) => ({ number: number.get(rowId)!, tokens })),
      failed: encoded.failed
        .slice(0, MAX_LISTED)
        .map(({ rowId, message }) => ({ number: number.get(rowId)!, message })),
    },
  };
}

/** Data and a script for another machine; what a run here would leave out is left out. Throws `BadInput` for settings that cannot be used. */
export async function exportScript(
  modelId: string,
  data: TrainingData,
  settings: TrainSettings,
  picture: (id: string) => Promise<Blob>,
  signal: AbortSignal,
  onProgress: (done: number, total: number) => void,
): Promise<Blob> {
  const [problem] = checkSettings(settings);
  if (problem) {
    const { field, expected, found, remedy } = problem;
    throw new TabTuneError("BadInput", `${field}: expected ${expected}, found ${found}. ${remedy}`);
  }
  const { name, source } = await openModel(modelId);
  const options = { ...settings, signal, onProgress };
  const { examples } = await encodeRows(await tokenizerOf(modelId), data.rows, data.sizeOf, options);
  const kept = new Set(examples.map(({ rowId }) => rowId));
  const rows = data.rows.map((row, i) => ({ ...row, part: data.parts[i]! })).filter(({ id }) => kept.has(id));
  const script = trainScript({
    // A Hub repository's name where the model came from there; else the reader of the script puts in a path.
    base: /^[\w.-]+\/[\w.-]+(?= at |$)/.exec(source)?.[0] ?? name,
    name: data.name,
    settings,
    hasHeldBack: rows.some(({ part }) => part === "heldBack"),
  });
  return await exportDataset({ rows, split: { kind: "given" } }, picture, [{ path: "train.py", data: script }]);
}
