import type { ModelManifest } from "../formats/index.ts";
import { storageBytes } from "../gpu/index.ts";
import { gpuWeightBytes, loraModules, loraTrainingBytes, parseConfig, type Qwen3VLConfig } from "../models/index.ts";
import type { TrainSettings } from "../training_records.ts";
import { optimizerBytes } from "./optimizer.ts";
import type { Example } from "./tokens/row_tokenizer.ts";

/** Features of pictures that stay on the GPU, at most, beside those of the micro-batch; the others come back from storage. */
export const FEATURE_BYTES = 256 * 2 ** 20;

export const towerLearns = ({ visionAttention, visionMlp, mergers }: TrainSettings["lora"]["parts"]): boolean =>
  visionAttention || visionMlp || mergers;

/** What the memory of a row depends on. */
export type ExampleSize = Pick<Example, "images"> & { ids: { length: number } };

const patchesOf = ({ images }: ExampleSize) => images.reduce((sum, { grid }) => sum + grid[0] * grid[1] * grid[2], 0);

/** What the largest micro-batch needs: any examples may meet in one. */
export function batchSizes(
  examples: readonly ExampleSize[],
  settings: Pick<TrainSettings, "batchSize" | "lora" | "dropout">,
): { maxTokens: number; maxPatches: number; dropout: number } {
  const largest = (size: (example: ExampleSize) => number) =>
    settings.batchSize * examples.reduce((most, example) => Math.max(most, size(example)), 0);
  return {
    maxTokens: largest(({ ids }) => ids.length),
    maxPatches: towerLearns(settings.lora.parts) ? largest(patchesOf) : 0,
    dropout: settings.dropout,
  };
}

/** GPU bytes of a run by purpose. */
export interface TrainingMemory {
  weights: number;
  /** KV cache and activations of the chat, which answers the rows held back. */
  answering: number;
  adapter: number;
  gradients: number;
  optimizer: number;
  activations: number;
  /** Inputs of the blocks, kept for the backward pass. */
  checkpoints: number;
  /** Features of pictures that are kept, and encoding the largest one. */
  pictures: number;
}

export interface TrainingMemoryPlan {
  bytes: TrainingMemory;
  total: number;
  /** The largest single buffer of training. */
  largest: number;
}

/** Bytes of everything that a frozen tower makes of the pictures of these examples, each picture once. */
function featureBytes({ vision }: Qwen3VLConfig, examples: readonly ExampleSize[], batchSize: number): number {
  const each = new Map<string, number>();
  const bytes = (patches: number) =>
    storageBytes((4 * patches * vision.outHiddenSize) / vision.spatialMergeSize ** 2) *
    (1 + vision.deepstackVisualIndexes.length);
  let largest = 0;
  for (const example of examples) {
    let sum = 0;
    for (const { pictureId, grid } of example.images) {
      const needed = bytes(grid[0] * grid[1] * grid[2]);
      each.set(pictureId, needed);
      sum += needed;
    }
    largest = Math.max(largest, sum);
  }
  const all = [...each.values()].reduce((a, b) => a + b, 0);
  // What one micro-batch needs is kept even above the budget.
  return Math.min(all, Math.max(FEATURE_BYTES, batchSize * largest));
}

/**
 * What a run will take of the GPU, known before anything is allocated; training's own part is to the byte what the ledger counts.
 * @param chat bytes of the chat beside the weights: for a context as long as the longest row and an answer, and for encoding the
 * largest picture
 */
export function planTrainingMemory(
  manifest: Pick<ModelManifest, "config" | "slots">,
  settings: TrainSettings,
  examples: readonly ExampleSize[],
  chat: { answering: number; encoding: number },
): TrainingMemoryPlan {
  const config = parseConfig(manifest.config);
  const { r, parts } = settings.lora;
  const adapted = loraModules(config, parts).map(({ path }) => ({ path, r, scale: 1 }));
  const { counts, largest, ...training } = loraTrainingBytes(config, adapted, batchSizes(examples, settings));
  const features = towerLearns(parts) ? 0 : featureBytes(config, examples, settings.batchSize);
  const bytes: TrainingMemory = {
    weights: gpuWeightBytes(manifest.slots),
    answering: chat.answering,
    ...training,
    optimizer: optimizerBytes(settings.optimizer, counts),
    pictures: features + chat.encoding,
  };
  return { bytes, total: Object.values(bytes).reduce((a, b) => a + b, 0), largest };
}

/** A change of settings that takes less memory, with the words of the page. */
export interface Reduction {
  /** Settings as they would be. */
  settings: TrainSettings;
  words: string;
  /** Bytes that it alone gives back. */
  saves: number;
}

/** An example with its pictures made smaller, to at most so many pixels each. */
type Resize = (example: ExampleSize, maxPixels: number) => ExampleSize;

/** What could be reduced, what helps most first. Nothing is listed that gives back less than a hundredth. */
export function reductions(
  settings: TrainSettings,
  examples: readonly ExampleSize[],
  resized: Resize,
  bytesOf: (settings: TrainSettings, examples: readonly ExampleSize[]) => number,
): Reduction[] {
  const now = bytesOf(settings, examples);
  const found: Reduction[] = [];
  const offer = (words: string, change: Partial<TrainSettings>, kept: readonly ExampleSize[] = examples) => {
    const changed = { ...settings, ...change };
    const saves = now - bytesOf(changed, kept);
    if (kept.length > 0 && saves > now / 100) found.push({ settings: changed, words, saves });
  };
  const { batchSize, accumulation, maxPixels, lora } = settings;
  if (batchSize > 1) {
    const change = { batchSize: 1, accumulation: batchSize * accumulation };
    offer("One row at a time, as many to a step", change);
  }
  if (maxPixels >= 2 * 50_176) {
    const half = Math.floor(maxPixels / 2);
    offer(
      "Pictures of half the size",
      { maxPixels: half },
      examples.map((example) => resized(example, half)),
    );
  }
  // The longest tenth of the rows decides the memory of all.
  const lengths = examples.map(({ ids }) => ids.length).sort((a, b) => a - b);
  const limit = lengths[Math.floor(0.9 * (lengths.length - 1))] ?? 0;
  const kept = examples.filter(({ ids }) => ids.length <= limit);
  const left = examples.length - kept.length;
  if (left > 0 && limit >= 16) {
    const rows = `${left} ${left === 1 ? "row is" : "rows are"} left out`;
    offer(`Rows of at most ${limit} tokens; ${rows}`, { maxTokens: limit }, kept);
  }
  if (towerLearns(lora.parts)) {
    const parts = { ...lora.parts, visionAttention: false, visionMlp: false, mergers: false };
    const language = parts.languageAttention || parts.languageMlp ? {} : { languageAttention: true, languageMlp: true };
    offer("Leave the vision tower as it is", { lora: { ...lora, parts: { ...parts, ...language } } });
  }
  if (lora.r >= 8) {
    const r = Math.floor(lora.r / 2);
    offer(`Rank ${r}`, { lora: { ...lora, r, alpha: (lora.alpha * r) / lora.r } });
  }
  if (settings.optimizer === "adamw") offer("8-bit optimizer", { optimizer: "adamw8" });
  if (settings.dropout > 0) offer("No dropout", { dropout: 0 });
  return found.sort((a, b) => b.saves - a.saves);
}
