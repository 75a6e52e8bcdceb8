import { type LoraModule, loraModules, parseConfig } from "../models/index.ts";
import type { TrainSettings } from "../training_records.ts";
import { countTrainable, trainableLine } from "./lora/init.ts";
import { learningRateAt } from "./schedule.ts";
import { TrainingOrder } from "./tokens/order.ts";
import type { Example } from "./tokens/row_tokenizer.ts";

/** What a run will do, known before the GPU is asked for anything. */
export interface RunPlan {
  trainable: number;
  /** "Trainable parameters = 43,646,976 of …" */
  trainableLine: string;
  steps: number;
  stepsPerEpoch: number;
  /** Examples that are learnt, and tokens in them; the longest decides the memory. */
  examples: number;
  tokens: number;
  trainedTokens: number;
  longest: number;
  /** Learning rates of at most 200 steps, evenly spread. */
  rates: { step: number; rate: number }[];
}

const MAX_POINTS = 200;

/** @param model config.json as parsed, and how many parameters the model has; @param train rows that are learnt */
export function planRun(
  settings: TrainSettings,
  model: { config: unknown; parameters: number },
  train: readonly Example[],
): RunPlan {
  const modules: LoraModule[] = loraModules(parseConfig(model.config), settings.lora.parts);
  const trainable = countTrainable(modules, settings.lora.r);
  const examples = train.length;
  const { stepsPerEpoch } = new TrainingOrder({ ...settings, examples });
  const steps = settings.maxSteps > 0 && examples > 0 ? settings.maxSteps : stepsPerEpoch * settings.epochs;
  const schedule = { ...settings, kind: settings.schedule, steps };
  const stride = Math.max(1, Math.ceil(steps / MAX_POINTS));
  const rates: RunPlan["rates"] = [];
  for (let step = 0; step < steps; step += stride) rates.push({ step, rate: learningRateAt(step, schedule) });
  return {
    trainable,
    trainableLine: trainableLine(trainable, model.parameters),
    steps,
    stepsPerEpoch,
    examples,
    tokens: train.reduce((sum, e) => sum + e.ids.length, 0),
    trainedTokens: train.reduce((sum, e) => sum + e.trained, 0),
    longest: train.reduce((most, e) => Math.max(most, e.ids.length), 0),
    rates,
  };
}
