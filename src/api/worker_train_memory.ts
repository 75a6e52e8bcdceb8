import { type PlannedDevice, planMemory, visionBytes } from "../engine/index.ts";
import type { ModelManifest } from "../formats/index.ts";
import { imageSize, parseConfig, parseProcessorConfig } from "../models/index.ts";
import {
  type ExampleSize,
  MOST_ANSWER_TOKENS,
  planTrainingMemory,
  reductions,
  type TrainingMemoryPlan,
} from "../train/index.ts";
import type { TrainSettings } from "../training_records.ts";
import type { TrainingPlan } from "./train_protocol.ts";

const NAMES: Record<keyof TrainingMemoryPlan["bytes"], string> = {
  weights: "model",
  answering: "answering held-back rows",
  adapter: "adapter",
  gradients: "gradients",
  optimizer: "optimizer",
  activations: "activations",
  checkpoints: "inputs of the layers",
  pictures: "pictures",
};

type Examples = readonly ExampleSize[];

/** GPU bytes of a run, the chat that answers held-back rows included. */
function memoryOf(
  manifest: ModelManifest,
  settings: TrainSettings,
  examples: Examples,
  device: PlannedDevice,
): TrainingMemoryPlan {
  const config = parseConfig(manifest.config);
  const longest = examples.reduce((most, { ids }) => Math.max(most, ids.length), 0);
  const chat = planMemory(device, config, { contextLength: longest + MOST_ANSWER_TOKENS });
  const patches = examples.flatMap(({ images }) => images.map(({ grid }) => grid[0] * grid[1] * grid[2]));
  const largest = patches.reduce((most, n) => Math.max(most, n), 0);
  return planTrainingMemory(manifest, settings, examples, {
    answering: chat.cacheBytes + chat.activationBytes,
    encoding: largest > 0 ? visionBytes(config, largest) : 0,
  });
}

/** What the page shows of it, with what could be reduced. */
export function describeMemory(
  manifest: ModelManifest,
  settings: TrainSettings,
  examples: Examples,
  device: PlannedDevice,
): NonNullable<TrainingPlan["plan"]>["memory"] {
  const { bytes, total, largest } = memoryOf(manifest, settings, examples, device);
  const processor = parseProcessorConfig(manifest.texts, parseConfig(manifest.config));
  /** A row as it would be with smaller pictures: their tokens are all that changes. */
  const resized = ({ ids, images }: ExampleSize, maxPixels: number): ExampleSize => {
    const smaller = images.map((image) => {
      const { grid, tokens } = imageSize(image.height, image.width, processor, { maxPixels });
      return { ...image, grid, tokens };
    });
    const tokensOf = (list: ExampleSize["images"]) => list.reduce((sum, { tokens }) => sum + tokens, 0);
    return { ids: { length: ids.length - tokensOf(images) + tokensOf(smaller) }, images: smaller };
  };
  return {
    total,
    parts: Object.entries(bytes)
      .map(([name, count]) => ({ name: NAMES[name as keyof typeof bytes], bytes: count }))
      .filter((part) => part.bytes > 0)
      .sort((a, b) => b.bytes - a.bytes),
    largest,
    mostAllowed: device.maxBytes,
    reductions: reductions(settings, examples, resized, (s, e) => memoryOf(manifest, s, e, device).total),
  };
}
