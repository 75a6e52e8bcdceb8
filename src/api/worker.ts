import * as Comlink from "comlink";
import {
  type Engine,
  type Finish,
  type GenerateOptions,
  type GenerateTimes,
  generateWithin,
  renameModel,
  StopStrings,
  verifyModel,
} from "../engine/index.ts";
import { isError, TabTuneError } from "../errors.ts";
import { type DeviceOptions, Gpu } from "../gpu/index.ts";
import { runCases } from "../kernels/index.ts";
import { storageSpace } from "../storage/index.ts";
import { type Adapter, LoadedAdapters } from "../train/index.ts";
import type {
  Capabilities,
  EngineApi,
  GenerateEvent,
  GenerateRequest,
  GenerateResult,
  GenerateStats,
  LoadedModel,
  LoadOptions,
  Picture,
} from "./protocol.ts";
import type { TrainApi } from "./train_protocol.ts";
import { Adapters } from "./worker_adapters.ts";
import {
  deleteConversation,
  getSetting,
  listConversations,
  loadConversation,
  putSetting,
  saveConversation,
} from "./worker_conversations.ts";
import { DebugSide } from "./worker_debug.ts";
import { deleteFeaturesOfModel } from "./worker_features.ts";
import { memoryVerdict } from "./worker_memory.ts";
import { deleteModel, importSource, loadStored, models, planOf, progressOf } from "./worker_models.ts";
import { exportModel } from "./worker_share.ts";
import { trainMethods } from "./worker_train.ts";

/** How often a lost device is opened again for one answer. */
const RECOVERIES = 2;

interface Loaded {
  id: string;
  options: LoadOptions & { cacheType?: "f32" | "f16" | "i8" };
  engine: Engine;
  adapters: LoadedAdapters;
  /** While training has made the context smaller: what it was loaded with before. */
  chosen?: LoadOptions & { cacheType?: "f32" | "f16" | "i8" };
}

/** The worker's state: one device, at most one loaded model, and the tasks that can be cancelled. */
class Worker {
  readonly adapters = new Adapters();
  #gpu: Promise<Gpu> | undefined;
  #loaded: Loaded | undefined;
  #tasks = new Map<string, AbortController>();
  /** Answers, loads and self-tests use the GPU one after another. */
  #turn: Promise<unknown> = Promise.resolve();

  /** The open device; a lost one is replaced. */
  async gpu(): Promise<Gpu> {
    this.#gpu ??= Gpu.open();
    const attempt = this.#gpu;
    const forget = () => {
      if (this.#gpu === attempt) this.#gpu = undefined;
    };
    try {
      const gpu = await attempt;
      if (gpu.lostReason === undefined) return gpu;
    } catch (error) {
      forget();
      throw error;
    }
    forget();
    return await this.gpu();
  }

  /** Replaces the device; a loaded model goes with the old one. */
  async openDevice(options: DeviceOptions): Promise<void> {
    await this.exclusively(async () => {
      this.unload();
      (await this.#gpu?.catch(() => undefined))?.close();
      this.#gpu = Gpu.open(options);
      await this.#gpu;
    });
  }

  /** Runs `work` with a signal that `cancel(taskId)` fires. */
  async task<T>(taskId: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    this.#tasks.set(taskId, controller);
    try {
      return await work(controller.signal);
    } catch (error) {
      if (controller.signal.aborted && !(error instanceof TabTuneError)) {
        throw new TabTuneError("Cancelled", "The operation was cancelled.", { cause: error });
      }
      throw error;
    } finally {
      this.#tasks.delete(taskId);
    }
  }

  cancel(taskId: string): void {
    this.#tasks.get(taskId)?.abort();
  }

  /** One GPU job at a time. */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#turn;
    const job = before.then(work, work);
    this.#turn = job.catch(() => {});
    return await job;
  }

  async capabilities(): Promise<Capabilities> {
    try {
      const gpu = await this.gpu();
      const { info } = gpu;
      return {
        ok: true,
        vendor: info.vendor,
        architecture: info.architecture,
        description: info.description || info.device,
        software: gpu.isSoftware,
        features: [...gpu.device.features].sort(),
        halfPrecision: gpu.variants.half || gpu.variants.matrix !== undefined,
        maxBufferSize: gpu.limits.maxBufferSize,
        maxBindingSize: gpu.limits.maxStorageBufferBindingSize,
      };
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error);
      const reason = !navigator.gpu ? "no-webgpu" : found.includes("refused") ? "limits" : "no-adapter";
      return {
        ok: false,
        reason,
        found,
        remedy: "Use a current Chrome or Edge, or Safari 26, on a computer with a GPU.",
      };
    }
  }

  async load(
    id: string,
    options: Loaded["options"],
    taskId: string,
    onProgress: Parameters<EngineApi["loadModel"]>[3],
  ): Promise<LoadedModel> {
    return await this.task(taskId, (signal) =>
      this.exclusively(async () => {
        this.unload();
        const { engine, loaded } = await loadStored(this.gpu(), id, options, signal, onProgress);
        this.#loaded = { id, options, engine, adapters: this.#adaptersOf(engine) };
        return loaded;
      }),
    );
  }

  /** Loads a stored model with another context, on a new device if the old one is gone; undefined is the context it was loaded with by hand. */
  async reload(id: string, contextLength: number | undefined, signal: AbortSignal): Promise<void> {
    const before = this.#loaded?.id === id ? this.#loaded : undefined;
    const chosen = before?.chosen ?? before?.options ?? {};
    if (before && before.engine.gpu.lostReason === undefined && contextLength === undefined && !before.chosen) return;
    const { contextLength: _, ...rest } = chosen;
    const options = contextLength === undefined ? chosen : { ...rest, contextLength };
    this.unload();
    const { engine } = await loadStored(this.gpu(), id, options, signal, () => {});
    const adapters = this.#adaptersOf(engine);
    this.#loaded = { id, options, engine, adapters, ...(contextLength === undefined ? {} : { chosen }) };
  }

  unload(): void {
    const loaded = this.#loaded;
    this.#loaded = undefined;
    if (!loaded || loaded.engine.gpu.lostReason !== undefined) return;
    loaded.adapters.free();
    loaded.engine.free();
  }

  /** Puts a stored adapter on the loaded model, or takes off what is on. Throws `NotFound` when no model is loaded. */
  async useAdapter(id: string | undefined): Promise<void> {
    await this.exclusively(async () => {
      if (!this.#loaded) throw noModel();
      await this.#loaded.adapters.wear(id);
    });
  }

  /** Compares the logits of two adapters on the loaded model; undefined where another one or none is loaded. */
  async compareAdapters(modelId: string, live: Adapter, again: Adapter, signal: AbortSignal) {
    return await this.exclusively(async () => {
      return this.#loaded?.id === modelId ? await this.#loaded.adapters.compare(live, again, signal) : undefined;
    });
  }

  async dropAdapter(id: string): Promise<void> {
    await this.exclusively(async () => this.#loaded?.adapters.drop(id));
  }

  get loadedId(): string | undefined {
    return this.#loaded?.id;
  }

  /** The loaded model. Throws `NotFound`. */
  get engine(): Engine {
    if (!this.#loaded) throw noModel();
    return this.#loaded.engine;
  }

  /** Opens a new device and loads the same model again, after the old device was lost. */
  async recover(signal: AbortSignal): Promise<void> {
    const { id, options, adapters: before } = this.#loaded!;
    this.#loaded = undefined;
    this.#gpu = undefined;
    const { engine } = await loadStored(this.gpu(), id, options, signal, () => {});
    const adapters = this.#adaptersOf(engine);
    await adapters.wear(before.worn);
    this.#loaded = { id, options, engine, adapters };
  }

  #adaptersOf(engine: Engine): LoadedAdapters {
    return new LoadedAdapters(engine, (id) => this.adapters.load(id));
  }

  async generate(
    request: GenerateRequest,
    taskId: string,
    onEvent: (event: GenerateEvent) => void,
  ): Promise<GenerateResult> {
    return await this.task(taskId, (signal) => this.exclusively(() => this.#answer(request, signal, onEvent)));
  }

  async #answer(
    request: GenerateRequest,
    signal: AbortSignal,
    onEvent: (event: GenerateEvent) => void,
  ): Promise<GenerateResult> {
    const { sampling } = request;
    const { prompt, pictures } = await this.engine.chat.prompt(chatMessages(request));
    onEvent({ type: "pictures", pictures });
    const stops = new StopStrings(sampling.stop);
    const decoder = this.engine.chat.streamDecoder();
    const generated: number[] = [];
    let text = "";
    const show = (piece: string) => {
      if (piece === "") return;
      text += piece;
      onEvent({ type: "text", text: piece });
    };
    for (let attempt = 0; ; attempt++) {
      const { engine } = this;
      const { ends } = engine.chat;
      try {
        const options: GenerateOptions = {
          settings: {
            ...sampling,
            limit: Math.min(engine.chat.tokenizer.size, engine.config.text.vocabSize),
            ends,
          },
          maxTokens: sampling.maxTokens,
          signal,
          onProgress: (stage, done, total) => onEvent({ type: "progress", stage, done, total }),
          onTokens: (ids) => {
            for (const id of ids) if (!ends.includes(id)) show(stops.push(decoder.push(id)));
            return stops.stopped;
          },
        };
        const { thoughtsEnd } = engine.chat;
        const budget = sampling.thinkingBudget ?? 0;
        const { finish, times } = await (budget > 0 && thoughtsEnd
          ? generateWithin(budget, thoughtsEnd, engine.session, prompt, generated, options)
          : engine.session.generate(prompt, generated, options));
        if (!stops.stopped) show(stops.push(decoder.flush()));
        show(stops.flush());
        const stats = statsOf(times, engine.capacity);
        onEvent({ type: "stats", stats });
        return { text, finish: finish satisfies Finish, stats };
      } catch (error) {
        if (!isError(error, "DeviceLost") || attempt >= RECOVERIES || signal.aborted) throw error;
        await this.recover(signal);
        onEvent({
          type: "recovered",
          message: "The GPU was reset. The model was loaded again and the answer goes on.",
        });
      }
    }
  }
}

const noModel = () => new TabTuneError("NotFound", "No model is loaded. Choose one on the Models page first.");

function chatMessages({ messages, pictures }: Pick<GenerateRequest, "messages" | "pictures">) {
  return messages.map(({ role, parts }) => ({
    role,
    parts: parts.map((part) => {
      if (part.type === "text") return part;
      const picture = pictures.find((p) => p.id === part.pictureId);
      if (!picture)
        throw new TabTuneError("BadInput", `A message shows a picture (${part.pictureId}) that was not sent along.`);
      return { type: "image" as const, picture };
    }),
  }));
}

function statsOf(times: GenerateTimes, contextLength: number): GenerateStats {
  const prefilled = times.promptTokens - times.reusedTokens;
  return {
    promptTokens: times.promptTokens,
    reusedTokens: times.reusedTokens,
    newTokens: times.newTokens,
    encodeMilliseconds: times.encodeMilliseconds,
    firstTokenMilliseconds: times.firstTokenMilliseconds,
    prefillTokensPerSecond: times.prefillMilliseconds > 0 ? (1000 * prefilled) / times.prefillMilliseconds : 0,
    decodeTokensPerSecond:
      times.decodeMilliseconds > 0 ? (1000 * Math.max(0, times.newTokens - 1)) / times.decodeMilliseconds : 0,
    contextUsed: times.contextUsed,
    contextLength,
  };
}

const worker = new Worker();

const api: EngineApi & TrainApi = {
  capabilities: () => worker.capabilities(),
  listModels: models,
  planImport: (source, scheme, taskId) => worker.task(taskId, (signal) => planOf(source, scheme, signal)),
  memoryVerdict: (id, wish, taskId) =>
    worker.task(taskId, (signal) =>
      worker.exclusively(async () => memoryVerdict(await worker.gpu(), id, wish, signal)),
    ),
  importModel: (source, scheme, taskId, onProgress) =>
    worker.task(taskId, (signal) => importSource(source, scheme, signal, onProgress)),
  verifyModel: (id, taskId, onProgress) =>
    worker.task(taskId, async (signal) => {
      const report = progressOf("Verifying", onProgress);
      return await verifyModel(id, { signal, onProgress: report });
    }),
  async deleteModel(id) {
    if (worker.loadedId === id) await worker.exclusively(async () => worker.unload());
    await deleteModel(id);
    await deleteFeaturesOfModel(id);
  },
  renameModel,
  exportModel: (id, target, taskId, onProgress) =>
    worker.task(taskId, (signal) => exportModel(id, target, signal, onProgress)),
  storageEstimate: storageSpace,
  loadModel: (id, options, taskId, onProgress) => worker.load(id, options, taskId, onProgress),
  unloadModel: () => worker.exclusively(async () => worker.unload()),
  async inspectPicture(picture: Picture) {
    const { grid: _, ...info } = await worker.engine.chat.inspect(picture);
    return info;
  },
  generate: (request, taskId, onEvent) => worker.generate(request, taskId, onEvent),
  cancel: async (taskId) => worker.cancel(taskId),
  selfTest: (options, taskId, onRow) =>
    worker.task(taskId, (signal) =>
      worker.exclusively(async () => {
        const started = performance.now();
        const { passed, failed, ceilings } = await runCases(await worker.gpu(), { ...options, signal }, onRow);
        return { passed, failed, ...ceilings, milliseconds: performance.now() - started };
      }),
    ),
  listConversations,
  loadConversation,
  saveConversation,
  deleteConversation,
  getSetting,
  putSetting,
  ...trainMethods(worker),
};

Comlink.expose(Object.assign(api, new DebugSide(worker).methods()));
