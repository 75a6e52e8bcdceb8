import { type Engine, openModel } from "../engine/index.ts";
import { isError, TabTuneError } from "../errors.ts";
import { sha256Hex } from "../formats/index.ts";
import type { Gpu } from "../gpu/index.ts";
import { withLock } from "../storage/index.ts";
import {
  type Adapter,
  checkSettings,
  encodeRows,
  loadCheckpoint,
  MOST_ANSWER_TOKENS,
  planRun,
  TrainingSession,
} from "../train/index.ts";
import type { EvaluationRecord, RunRecord, StepRecord, TrainSettings } from "../training_records.ts";
import type { RunEvent, RunOptions } from "./train_protocol.ts";
import type { Adapters } from "./worker_adapters.ts";
import type { Datasets } from "./worker_datasets.ts";
import { deleteFeaturesOfPictures, featureStore } from "./worker_features.ts";
import { tokenizerOf } from "./worker_plans.ts";
import { deleteRun, listRuns, loadRun, saveRun } from "./worker_runs.ts";
import { describeMemory } from "./worker_train_memory.ts";

/** How often a lost device is opened again in one run. */
const RECOVERIES = 3;

/** The part of the worker that a run needs. */
export interface TrainHost {
  readonly engine: Engine;
  gpu(): Promise<Gpu>;
  readonly loadedId: string | undefined;
  exclusively<T>(work: () => Promise<T>): Promise<T>;
  /** Loads a stored model with a context of so many tokens, on a new device if the old one is gone. Call it inside `exclusively`. */
  reload(id: string, contextLength: number | undefined, signal: AbortSignal): Promise<void>;
}

type OnEvent = (event: RunEvent) => void;

/** Training runs: one at a time, in all tabs together. */
export class TrainingRuns {
  #host: TrainHost;
  #datasets: Datasets;
  #adapters: Adapters;
  #active: { id: string; session: TrainingSession } | undefined;

  constructor(host: TrainHost, datasets: Datasets, adapters: Adapters) {
    this.#host = host;
    this.#datasets = datasets;
    this.#adapters = adapters;
  }

  /** True while a run holds the GPU. */
  get isActive(): boolean {
    return this.#active !== undefined;
  }

  /** Starts a new run. Resolves when it has ended in any way but an error; what it earned is kept then, too. */
  async start(
    modelId: string,
    datasetId: string,
    settings: TrainSettings,
    options: RunOptions,
    signal: AbortSignal,
    onEvent: OnEvent,
  ): Promise<RunRecord> {
    const problems = checkSettings(settings);
    if (problems.length > 0) {
      const list = problems.map((p) => `${p.field}: expected ${p.expected}, found ${p.found}. ${p.remedy}`);
      throw new TabTuneError("BadInput", `The run was not started. ${list.join(" ")}`);
    }
    const { name, hash } = await this.#datasets.forTraining(datasetId);
    const now = Date.now();
    const run: RunRecord = {
      id: crypto.randomUUID(),
      name: options.name.trim() || `${name} · r ${settings.lora.r}`,
      created: now,
      updated: now,
      state: "running",
      model: { id: modelId, name: "" },
      dataset: { id: datasetId, name, hash, trainRows: 0, heldBackRows: 0 },
      settings,
      patience: options.patience,
      steps: 0,
      log: [],
      evaluations: [],
    };
    return await this.#locked(() => this.#run(run, signal, onEvent, options.memoryLimit));
  }

  /** Goes on with a run from its newest good checkpoint. Throws `BadInput` when its data has changed. */
  async resume(runId: string, signal: AbortSignal, onEvent: OnEvent): Promise<RunRecord> {
    return await this.#locked(async () => this.#run(await loadRun(runId), signal, onEvent));
  }

  /** Ends the run under way after its step, with a checkpoint. */
  end(runId: string, how: "paused" | "stopped"): void {
    if (this.#active?.id === runId) this.#active.session.trainer.end(how);
  }

  /** Keeps a checkpoint soon: the page is being hidden. */
  checkpointSoon(): void {
    this.#active?.session.trainer.checkpointSoon();
  }

  async delete(runId: string): Promise<void> {
    if (this.#active?.id === runId) throw new TabTuneError("Busy", "This run is under way. Stop it first.");
    const { model, dataset } = await loadRun(runId);
    await deleteRun(runId);
    // What the tower made of its pictures goes too, unless another run of the same model and data may still want it.
    const others = await listRuns();
    if (others.some((run) => run.model.id === model.id && run.dataset.id === dataset.id)) return;
    await deleteFeaturesOfPictures(await this.#datasets.picturesOf(dataset.id), model.id);
  }

  async #locked<T>(work: () => Promise<T>): Promise<T> {
    const busy = "A training run is under way in this or another tab. Pause or stop it there first.";
    return await withLock("tabtune-training", busy, () => this.#host.exclusively(work));
  }

  /** The whole life of a run in this tab: data, model, steps, and again from the last checkpoint when the device is lost. */
  async #run(
    started: RunRecord,
    signal: AbortSignal,
    onEvent: OnEvent,
    memoryLimit = Number.POSITIVE_INFINITY,
  ): Promise<RunRecord> {
    let run = started;
    const { id } = run;
    const host = this.#host;
    const keep = async (change: Partial<RunRecord>) => {
      run = { ...run, ...change };
      await saveRun(run);
      onEvent({ type: "run", run: { ...run, log: [] } });
    };
    try {
      for (let lost = 0; ; lost++) {
        try {
          const end = await this.#attempt(run, keep, { signal, onEvent, memoryLimit });
          await keep({ state: end === "stopped early" ? "finished" : end });
          return run;
        } catch (error) {
          if (!isError(error, "DeviceLost") || lost >= RECOVERIES || signal.aborted) throw error;
          onEvent({ type: "note", message: "The GPU was reset. The run goes on from its last checkpoint." });
          run = await loadRun(id);
        }
      }
    } catch (error) {
      // Nothing earned is lost: the log, the best adapter and the last checkpoint are stored.
      const message = error instanceof Error ? error.message : String(error);
      const state = isError(error, "Cancelled") ? "paused" : "failed";
      if (run.log.length > 0 || state === "failed") await keep({ state, message }).catch(() => {});
      throw error;
    } finally {
      // The chat gets its context back.
      if (host.loadedId === run.model.id) {
        await host.reload(run.model.id, undefined, new AbortController().signal).catch(() => {});
      }
    }
  }

  async #attempt(
    run: RunRecord,
    keep: (change: Partial<RunRecord>) => Promise<void>,
    { signal, onEvent, memoryLimit }: { signal: AbortSignal; onEvent: OnEvent; memoryLimit: number },
  ) {
    const { settings, model, dataset } = run;
    const data = await this.#datasets.forTraining(dataset.id);
    if (data.hash !== dataset.hash) {
      throw new TabTuneError(
        "BadInput",
        `The data set “${dataset.name}” has changed since this run began, so it cannot go on. Undo the changes, or start a new run.`,
      );
    }
    const manifest = await openModel(model.id);
    const tokenizer = await tokenizerOf(model.id);
    const encoded = await encodeRows(tokenizer, data.rows, data.sizeOf, {
      ...settings,
      signal,
      onProgress: (done, total) => onEvent({ type: "phase", phase: "Tokenizing", done, total }),
    });
    const part = new Map(data.rows.map((row, i) => [row.id, data.parts[i]]));
    const train = encoded.examples.filter(({ rowId }) => part.get(rowId) === "train");
    const heldBack = encoded.examples.filter(({ rowId }) => part.get(rowId) === "heldBack");
    if (train.length === 0) {
      throw new TabTuneError(
        "BadInput",
        `No row of “${dataset.name}” can be learnt: ${encoded.tooLong.length} are over ${settings.maxTokens} tokens, ${encoded.failed.length} failed. Raise the limit or lower the pictures' pixel budget.`,
      );
    }
    const gpu = await this.#host.gpu();
    checkMemory(describeMemory(manifest, settings, encoded.examples, gpu), memoryLimit);
    const { steps } = planRun(settings, manifest, train);
    const spec = await hashOf([settings, dataset.hash, manifest.sourceFingerprint, manifest.scheme]);
    const { checkpoint, damaged } = await loadCheckpoint(run.id, spec);
    for (const message of damaged) onEvent({ type: "note", message });
    const done = checkpoint?.step ?? 0;
    const upTo = <T extends { step: number }>(records: T[]) => records.filter(({ step }) => step <= done);
    const log: StepRecord[] = upTo(run.log);
    const evaluations: EvaluationRecord[] = checkpoint ? upTo(run.evaluations) : [];
    onEvent({ type: "phase", phase: "Loading the model", done: 0, total: 1 });
    const longest = encoded.examples.reduce((most, { ids }) => Math.max(most, ids.length), 0);
    await this.#host.reload(model.id, longest + MOST_ANSWER_TOKENS, signal);
    const { engine } = this.#host;
    await keep({
      state: "running",
      model: { id: model.id, name: manifest.name },
      dataset: { ...dataset, trainRows: train.length, heldBackRows: heldBack.length },
      steps,
      log,
      evaluations,
      device: [engine.gpu.info.vendor, engine.gpu.info.architecture].filter(Boolean).join(" "),
    });
    let { adapterId } = run;
    const session = await TrainingSession.create(
      {
        engine,
        modelId: model.id,
        settings,
        steps,
        train,
        heldBack,
        rows: new Map(data.rows.map((row) => [row.id, row])),
        picture: (pictureId) => this.#datasets.datasetPicture(pictureId),
        features: featureStore,
        answers: 24,
        runId: run.id,
        spec,
        patience: run.patience,
        keepAdapter: async (adapter: Adapter, step) => {
          const facts = { name: run.name, modelId: model.id, origin: "trained" as const, warnings: [], runId: run.id };
          // A better one takes the place of this run's own: chats that use it go on with it, other runs' adapters are not touched.
          adapterId = (await this.#adapters.store({ ...adapter, base: manifest.name }, facts, adapterId)).id;
          await keep({ adapterId, adapterStep: step });
        },
        onCheckpoint: () => keep({}),
        onStep(record) {
          log.push(record);
          onEvent({ type: "step", record });
        },
        onEvaluation(record) {
          evaluations.push(record);
          onEvent({ type: "evaluation", record });
        },
        onScoring: (done, total) => onEvent({ type: "phase", phase: "Scoring the held-back rows", done, total }),
        onAnswer: (sample, answered, total) => onEvent({ type: "answer", sample, done: answered, total }),
      },
      checkpoint,
    );
    this.#active = { id: run.id, session };
    onEvent({ type: "memory", bytes: engine.gpu.ledger.total, ledger: engine.gpu.ledger.byOwner() });
    try {
      return await session.trainer.run(signal);
    } finally {
      this.#active = undefined;
      if (engine.gpu.lostReason === undefined) session.free();
    }
  }
}

/** Throws `OutOfMemory` before anything is allocated, with what could be reduced. */
function checkMemory(
  { total, largest, mostAllowed, reductions }: ReturnType<typeof describeMemory>,
  memoryLimit: number,
): void {
  const size = (bytes: number) => `${(bytes / 1e9).toPrecision(3)} GB`;
  const [needed, limit, what] =
    largest > mostAllowed
      ? [largest, mostAllowed, "in one buffer, and this device binds"]
      : [total, memoryLimit, "of the GPU's memory, and it may take"];
  if (needed <= limit) return;
  const ways = reductions.slice(0, 3).map(({ words, saves }) => `${words} (−${size(saves)})`);
  throw new TabTuneError(
    "OutOfMemory",
    `The run was not started: it needs ${size(needed)} ${what} at most ${size(limit)}. ${ways.length > 0 ? `What helps: ${ways.join(", ")}.` : "Shorten the rows or take a smaller model."}`,
  );
}

async function hashOf(value: unknown): Promise<string> {
  return await sha256Hex(new TextEncoder().encode(JSON.stringify(value)));
}
