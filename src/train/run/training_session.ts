import type { Engine } from "../../engine/index.ts";
import { throwIfCancelled } from "../../errors.ts";
import type { Gpu } from "../../gpu/index.ts";
import { GREEDY } from "../../kernels/index.ts";
import { GpuAdapter, LoraTraining, loraModules, prepareImage, type TrainImage } from "../../models/index.ts";
import { decodeImage } from "../../processor/index.ts";
import type { EvaluationRecord, TrainSettings } from "../../training_records.ts";
import { type Adapter, scaleOf } from "../adapter/adapter.ts";
import type { DataRow } from "../data/row.ts";
import { initialValues } from "../lora/init.ts";
import { batchSizes, FEATURE_BYTES, towerLearns } from "../memory.ts";
import { accuracyOf, isRelaxedMatch } from "../metrics/accuracy.ts";
import { Optimizer } from "../optimizer.ts";
import type { Example, ExampleImage } from "../tokens/row_tokenizer.ts";
import { type FeatureStore, featureKey, PictureFeatures } from "./picture_features.ts";
import { type RunCheckpoint, saveCheckpoint } from "./run_checkpoint.ts";
import { Trainer, type TrainerOptions, type TrainerState } from "./trainer.ts";

/** An answer in an evaluation ends here, or earlier where all expected ones are short. */
export const MOST_ANSWER_TOKENS = 256;

export interface SessionInput {
  engine: Engine;
  /** Tells features of one model from another's. */
  modelId: string;
  settings: TrainSettings;
  steps: number;
  train: readonly Example[];
  heldBack: readonly Example[];
  /** By id; those of the examples. */
  rows: ReadonlyMap<string, DataRow>;
  picture(id: string): Promise<{ name: string; blob: Blob }>;
  features: FeatureStore;
  /** Rows held back that are answered at every evaluation, at most. */
  answers: number;
  runId: string;
  /** Hash of settings, data and model. */
  spec: string;
  patience: number;
  keepAdapter(adapter: Adapter, step: number): Promise<void>;
  /** Called after a checkpoint is stored. */
  onCheckpoint(): Promise<void>;
  onStep: TrainerOptions["onStep"];
  onEvaluation: TrainerOptions["onEvaluation"];
  /** The loss of rows held back is being taken. */
  onScoring(done: number, total: number): void;
  onAnswer(sample: EvaluationRecord["samples"][number], done: number, total: number): void;
}

const lastAnswer = ({ messages }: DataRow) => messages.findLastIndex(({ role }) => role === "assistant");
const textOf = ({ messages }: DataRow, at: number) =>
  messages[at]!.parts.map((part) => (part.type === "text" ? part.text : "")).join("");

/** At most so many of a list, evenly spread over it; the same ones each time. */
function spread<T>(list: readonly T[], most: number): T[] {
  const count = Math.min(most, list.length);
  return Array.from({ length: count }, (_, i) => list[Math.floor((i * list.length) / count)]!);
}

type Buffers = RunCheckpoint["buffers"];

/** Trained values and the optimizer's moments. */
async function contents(gpu: Gpu, model: LoraTraining, optimizer: Optimizer): Promise<Buffers> {
  const buffers: Buffers = {};
  for (const [i, { values }] of model.buffers.entries())
    buffers[`values ${i}`] = new Uint8Array(await gpu.read(values));
  const { moments } = await optimizer.save();
  for (const [i, moment] of moments.entries()) buffers[`moments ${i}`] = new Uint8Array(moment);
  return buffers;
}

function restore(
  { step, buffers }: RunCheckpoint,
  gpu: Gpu,
  model: LoraTraining,
  optimizer: Optimizer,
  kind: TrainSettings["optimizer"],
): void {
  const moments = Object.keys(buffers).filter((name) => name.startsWith("moments "));
  optimizer.restore({ kind, steps: step, moments: moments.map((_, i) => buffers[`moments ${i}`]!.buffer) });
  for (const [i, { values }] of model.buffers.entries()) gpu.write(values, buffers[`values ${i}`]!);
}

/** A run on the GPU: the loaded model with a LoRA adapter on it, its optimizer, and the loop that moves them. */
export class TrainingSession {
  readonly trainer: Trainer;
  #in: SessionInput;
  #adapter: GpuAdapter;
  #model: LoraTraining;
  #optimizer: Optimizer;
  #features: PictureFeatures;

  /**
   * Everything is allocated before the first step. Throws `OutOfMemory`; nothing is left allocated then.
   * @param from where to go on; its ways of running products become the device's, until a model is loaded again
   */
  static async create(input: SessionInput, from?: RunCheckpoint): Promise<TrainingSession> {
    const { engine, settings } = input;
    const { gpu, config } = engine;
    const freed: { free(): void }[] = [];
    if (from) {
      gpu.choices.clear();
      for (const [name, choice] of Object.entries(from.choices)) gpu.choices.set(name, choice);
    }
    const keep = <T extends { free(): void }>(made: T) => {
      freed.push(made);
      return made;
    };
    try {
      const { r, alpha, rslora, parts } = settings.lora;
      const scale = scaleOf({ r, alpha }, rslora);
      const adapted = loraModules(config, parts).map(({ path }) => ({ path, r, scale }));
      const adapter = keep(await GpuAdapter.create(gpu, config, adapted));
      for (const tensor of adapter.tensors) {
        adapter.write(tensor, initialValues(tensor.name, tensor.shape, settings.seed));
      }
      const sizes = batchSizes([...input.train, ...input.heldBack], settings);
      const model = keep(await LoraTraining.create(gpu, config, engine.model.weights, adapter, sizes));
      const optimizer = keep(await Optimizer.create(gpu, settings.optimizer, model.buffers));
      if (from) restore(from, engine.gpu, model, optimizer, settings.optimizer);
      return new TrainingSession(input, adapter, model, optimizer, from?.state as TrainerState | undefined);
    } catch (error) {
      for (const made of freed.reverse()) made.free();
      throw error;
    }
  }

  private constructor(
    input: SessionInput,
    adapter: GpuAdapter,
    model: LoraTraining,
    optimizer: Optimizer,
    state: TrainerState | undefined,
  ) {
    this.#in = input;
    this.#adapter = adapter;
    this.#model = model;
    this.#optimizer = optimizer;
    const { engine, settings, runId, spec } = input;
    const { vision } = engine.model;
    const encode: typeof vision.encode = (pixels, grid, options) => vision.encode(pixels, grid, options);
    this.#features = new PictureFeatures(engine.gpu, encode, input.features, {
      budget: FEATURE_BYTES,
      mergeSize: engine.config.vision.spatialMergeSize,
    });
    this.trainer = new Trainer(
      {
        model,
        step: async (rate) => (await optimizer.step({ ...settings, rate })).norm,
        settings,
        steps: input.steps,
        examples: input.train,
        images: (examples, signal) => this.#images(examples, signal),
        ...(input.heldBack.length > 0 ? { evaluate: (step, signal) => this.#evaluate(step, signal) } : {}),
        checkpoint: async (now) => {
          const buffers = await contents(engine.gpu, model, optimizer);
          const choices = Object.fromEntries(engine.gpu.choices);
          await saveCheckpoint(runId, { spec, step: now.step, state: now, choices, buffers });
          await input.onCheckpoint();
        },
        keepAdapter: async (step) => input.keepAdapter(await this.adapter(), step),
        onStep: input.onStep,
        onEvaluation: input.onEvaluation,
        patience: input.patience,
      },
      state,
    );
  }

  /** The adapter as it is now. */
  async adapter(): Promise<Adapter> {
    const { lora, dropout } = this.#in.settings;
    const values = new Map<string, Float32Array<ArrayBuffer>>();
    for (const tensor of this.#adapter.tensors) values.set(tensor.name, await this.#adapter.read(tensor));
    const pairs = loraModules(this.#in.engine.config, lora.parts).map(({ path }) => ({
      module: path,
      r: lora.r,
      alpha: lora.alpha,
      a: values.get(`${path}.lora_A.weight`)!,
      b: values.get(`${path}.lora_B.weight`)!,
    }));
    pairs.sort((x, y) => (x.module < y.module ? -1 : 1));
    return { base: "", r: lora.r, alpha: lora.alpha, rslora: lora.rslora, dropout, pairs };
  }

  async #images(examples: readonly Example[], signal?: AbortSignal): Promise<TrainImage[][]> {
    if (towerLearns(this.#in.settings.lora.parts)) {
      const pixels = async (image: ExampleImage) => ({ grid: image.grid, pixels: await this.#pixels(image) });
      return await Promise.all(examples.map(({ images }) => Promise.all(images.map(pixels))));
    }
    const requests = examples.flatMap(({ images }) =>
      images.map((image) => ({
        key: featureKey(this.#in.modelId, image),
        grid: image.grid,
        pixels: () => this.#pixels(image),
      })),
    );
    const features = await this.#features.take(requests, signal);
    let next = 0;
    return examples.map(({ images }) => images.map(({ grid }) => ({ grid, features: features[next++]! })));
  }

  async #pixels(image: ExampleImage): Promise<Float32Array<ArrayBuffer>> {
    const { name, blob } = await this.#in.picture(image.pictureId);
    const { processor } = this.#in.engine.chat;
    const { maxPixels } = this.#in.settings;
    return prepareImage(await decodeImage(blob, name), processor, { maxPixels }).pixels;
  }

  /** Loss over rows held back, as many as the settings say, and free-running greedy answers to some of them. */
  async #evaluate(step: number, signal?: AbortSignal): Promise<EvaluationRecord> {
    const { settings, answers } = this.#in;
    const heldBack = spread(this.#in.heldBack, settings.evaluateRows || this.#in.heldBack.length);
    let loss = 0;
    let tokens = 0;
    for (let i = 0; i < heldBack.length; i += settings.batchSize) {
      throwIfCancelled(signal);
      this.#in.onScoring(i, heldBack.length);
      const batch = heldBack.slice(i, i + settings.batchSize);
      const images = await this.#images(batch, signal);
      const result = await this.#model.evaluate(
        batch.map(({ ids, labels }, k) => ({ ids, labels, images: images[k]! })),
        signal,
      );
      loss += result.loss;
      tokens += result.tokens;
    }
    const samples: EvaluationRecord["samples"] = [];
    const asked = spread(heldBack, answers);
    const maxTokens = this.#answerTokens(asked.map(({ rowId }) => this.#in.rows.get(rowId)!));
    await this.#in.engine.model.wear(this.#adapter);
    try {
      for (const example of asked) {
        samples.push(await this.#answer(example, step, maxTokens, signal));
        this.#in.onAnswer(samples.at(-1)!, samples.length, asked.length);
      }
    } finally {
      await this.#in.engine.model.wear(undefined);
    }
    return { step, loss: tokens > 0 ? loss / tokens : 0, ...accuracyOf(samples), samples };
  }

  /** Room for any right answer and for some wrong ones: what goes on for longer is wrong already. */
  #answerTokens(rows: readonly DataRow[]): number {
    const { tokenizer } = this.#in.engine.chat;
    const lengths = rows.map((row) => tokenizer.encode(textOf(row, lastAnswer(row))).length);
    return Math.min(MOST_ANSWER_TOKENS, 2 * Math.max(0, ...lengths) + 8);
  }

  /** Asks the last question of a row as the chat page would. */
  async #answer(
    example: Example,
    step: number,
    maxTokens: number,
    signal?: AbortSignal,
  ): Promise<EvaluationRecord["samples"][number]> {
    const { engine, settings } = this.#in;
    const row = this.#in.rows.get(example.rowId)!;
    const last = lastAnswer(row);
    const messages = await Promise.all(
      row.messages.slice(0, last).map(async ({ role, parts }) => ({
        role,
        parts: await Promise.all(
          parts.map(async (part) => {
            if (part.type === "text") return part;
            const picture = { id: part.pictureId, ...(await this.#in.picture(part.pictureId)) };
            return { type: "image" as const, picture: { ...picture, maxPixels: settings.maxPixels } };
          }),
        ),
      })),
    );
    const { prompt } = await engine.chat.prompt(messages);
    // The adapter has moved since the cache was filled, and so has a tower that learns; any other has seen these pictures already.
    engine.session.reset();
    const learns = towerLearns(settings.lora.parts);
    const [seen = []] = learns ? [] : await this.#images([example], signal);
    const images = prompt.images.map((image, i) => {
      const known = seen[i];
      if (known && "features" in known) return { ...image, features: known.features };
      return learns ? { ...image, key: `${image.key} of step ${step}` } : image;
    });
    const generated: number[] = [];
    await engine.session.generate({ ...prompt, images }, generated, {
      settings: {
        ...GREEDY,
        limit: Math.min(engine.chat.tokenizer.size, engine.config.text.vocabSize),
        ends: engine.chat.ends,
      },
      maxTokens,
      ...(signal ? { signal } : {}),
      onTokens: () => false,
    });
    const found = engine.chat.tokenizer.decode(generated.filter((id) => !engine.chat.ends.includes(id)));
    const expected = textOf(row, last);
    return { rowId: row.id, question: textOf(row, last - 1), expected, found, right: isRelaxedMatch(expected, found) };
  }

  free(): void {
    this.#features.free();
    this.#optimizer.free();
    this.#model.free();
    this.#adapter.free();
    this.#in.engine.session.reset();
  }
}
