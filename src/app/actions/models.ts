import type { Signal } from "@preact/signals";
import {
  callback,
  type ImportPlan,
  type LoadedModel,
  type ModelSource,
  type Progress,
  type WeightScheme,
} from "../../api/index.ts";
import { isError, TabTuneError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import {
  type ImportOrigin,
  importError,
  importOrigins,
  importTask,
  loadError,
  loaded,
  loadTask,
  models,
  pausedImport,
  run,
  storage,
  type Task,
  verified,
} from "../state.ts";
import { attempt, messageOf, toast } from "./notices.ts";
import { inspectAgain } from "./pictures.ts";
import { readSetting, writeSetting } from "./settings.ts";

const DEMO: ModelSource = { kind: "demo" };
export const DEMO_SCHEME: WeightScheme = "q4a32";

export async function refreshModels(): Promise<void> {
  try {
    [models.value, storage.value] = await Promise.all([engine().listModels(), engine().storageEstimate()]);
  } catch (error) {
    toast(`The list of models could not be read: ${messageOf(error)}`, { kind: "error" });
  }
}

/** Runs a long call with progress in `slot`; the task's id serves to cancel it. */
export async function runTask<T>(
  slot: Signal<Task | undefined>,
  task: Omit<Task, "id">,
  work: (id: string, onProgress: (progress: Progress) => void) => Promise<T>,
): Promise<T> {
  if (slot.peek()) throw new TabTuneError("Busy", `Wait until this is done, or cancel it: ${slot.peek()!.name}.`);
  const id = crypto.randomUUID();
  slot.value = { ...task, id };
  try {
    return await work(
      id,
      callback((progress: Progress) => {
        if (slot.peek()?.id === id) slot.value = { ...slot.peek()!, progress };
      }),
    );
  } finally {
    if (slot.peek()?.id === id) slot.value = undefined;
  }
}

export function cancelTask(slot: Signal<Task | undefined>): void {
  const task = slot.peek();
  if (!task) return;
  slot.value = { ...task, cancelling: true };
  void engine()
    .cancel(task.id)
    .catch(() => {});
}

// ── Import ──

/** What an import would cost. Rejects with a message for the visitor. */
export async function planImport(source: ModelSource, scheme: WeightScheme, taskId: string): Promise<ImportPlan> {
  try {
    return await engine().planImport(source, scheme, taskId);
  } catch (error) {
    throw isError(error, "Network") ? explainNetwork(error as Error, source) : error;
  }
}

/** A browser says of every connection trouble the same; what may be behind it depends on the address. */
function explainNetwork(error: Error, source: ModelSource): Error {
  const address = source.kind === "url" ? source.base : source.kind === "hub" ? source.endpoint : undefined;
  if (address === undefined || !error.message.includes("no connection")) return error;
  const { protocol, hostname, origin } = new URL(address, document.baseURI);
  if (protocol === "http:" && !["localhost", "127.0.0.1", location.hostname].includes(hostname)) {
    return new TabTuneError(
      "Network",
      `${origin} is not reached: this page contacts other hosts by https only. Use an https address, or download the folder and open it here.`,
    );
  }
  if (origin === location.origin) return error;
  return new TabTuneError(
    "Network",
    `${error.message} ${origin} must allow other sites to read it (Access-Control-Allow-Origin), and whoever serves this page must let worker/worker_reach reach it.`,
  );
}

const originOf = (source: ModelSource): ImportOrigin["source"] => {
  if (source.kind === "hub")
    return {
      kind: "hub",
      repo: source.repo,
      ...(source.revision ? { revision: source.revision } : {}),
      ...(source.endpoint ? { endpoint: source.endpoint } : {}),
      ...(source.gguf ? { gguf: source.gguf } : {}),
    };
  if (source.kind === "url") return { kind: "url", base: source.base, ...(source.gguf ? { gguf: source.gguf } : {}) };
  return { kind: source.kind };
};

/** Imports, or goes on with an import; then the model is used, after one that is being loaded, unless an answer is being written. */
export async function importModel(plan: ImportPlan, source: ModelSource, scheme: WeightScheme): Promise<void> {
  importError.value = undefined;
  pausedImport.value = undefined;
  importOrigins.value = { ...importOrigins.peek(), [plan.id]: { source: originOf(source), scheme } };
  void writeSetting("importOrigins", importOrigins.peek());
  // Asks the browser not to clear gigabytes on its own; it may say no.
  void navigator.storage?.persist?.().catch(() => false);
  try {
    const record = await runTask(importTask, { kind: "import", modelId: plan.id, name: plan.name }, (id, onProgress) =>
      engine().importModel(source, scheme, id, onProgress),
    );
    forgetCheck(plan.id);
    await refreshModels();
    await loading?.catch(() => {});
    if (run.peek() || loadTask.peek())
      toast(`${record.name} is ready.`, { action: { label: "Use it", run: () => void useModel(record.id) } });
    else await useModel(record.id);
  } catch (error) {
    if (!isError(error, "Cancelled")) importError.value = messageOf(error);
    else if (pausing) pausedImport.value = { plan, source, scheme };
    await refreshModels();
  } finally {
    pausing = false;
  }
}

let pausing = false;

/** Stops the import for now. It goes on with `importModel`; what is stored is not read again. */
export function pauseImport(): void {
  pausing = true;
  cancelTask(importTask);
}

export async function verifyModel(id: string, name: string): Promise<void> {
  await attempt(`${name} could not be checked`, async () => {
    const { damaged } = await runTask(importTask, { kind: "verify", modelId: id, name }, (taskId, onProgress) =>
      engine().verifyModel(id, taskId, onProgress),
    );
    verified.value = { ...verified.peek(), [id]: damaged };
    await refreshModels();
  });
}

/** What a check said is no longer true, or was read. */
export function forgetCheck(id: string): void {
  const { [id]: _, ...rest } = verified.peek();
  verified.value = rest;
}

export async function deleteModel(id: string, name: string): Promise<void> {
  await attempt(`${name} could not be deleted`, async () => {
    await engine().deleteModel(id);
    if (loaded.peek()?.id === id) loaded.value = undefined;
    const { [id]: _, ...origins } = importOrigins.peek();
    importOrigins.value = origins;
    void writeSetting("importOrigins", origins);
    toast(`${name} was deleted.`);
    await refreshModels();
  });
}

// ── Use ──

let loading: Promise<LoadedModel> | undefined;

/** Loads a stored model and remembers it for the next visit. Failures are shown in `loadError`. */
export async function useModel(id: string, contextLength?: number): Promise<void> {
  try {
    await load(id, contextLength);
    void writeSetting("lastModel", id);
    if (contextLength) void writeSetting(`contextLength:${id}`, contextLength);
  } catch {}
}

function load(id: string, contextLength?: number): Promise<LoadedModel> {
  const name = models.peek().find((m) => m.id === id)?.name ?? "the model";
  const job = (async () => {
    loadError.value = undefined;
    try {
      const kept = contextLength ?? (await readSetting<number>(`contextLength:${id}`));
      // The worker frees the old model before it loads the new one.
      loaded.value = undefined;
      const model = await runTask(loadTask, { kind: "load", modelId: id, name }, (taskId, onProgress) =>
        engine().loadModel(id, kept ? { contextLength: kept } : {}, taskId, onProgress),
      );
      loaded.value = model;
      inspectAgain();
      void refreshModels();
      return model;
    } catch (error) {
      loadError.value = isError(error, "Cancelled") ? "Loading was cancelled." : messageOf(error);
      // Loading stops at the first damaged part; the check names them all, and offers to fetch them again.
      if (isError(error, "DamagedShard") && !importTask.peek()) void verifyModel(id, name);
      throw error;
    }
  })();
  loading = job.finally(() => {
    loading = undefined;
  });
  loading.catch(() => {});
  return job;
}

export async function unloadModel(): Promise<void> {
  await attempt("The model could not be unloaded", async () => {
    await engine().unloadModel();
    loaded.value = undefined;
  });
}

let starting: Promise<LoadedModel> | undefined;

/** The loaded model; waits for one that is on its way, else loads the last one used, else the demo. */
export async function modelReady(): Promise<LoadedModel> {
  if (loading) return await loading;
  const ready = loaded.peek();
  if (ready) return ready;
  starting ??= startModel().finally(() => {
    starting = undefined;
  });
  return await starting;
}

async function startModel(): Promise<LoadedModel> {
  const last = await readSetting<string>("lastModel");
  if (last && models.peek().some((m) => m.id === last && m.state === "complete")) return await load(last);
  return await load(await demoId());
}

/** How long another tab that imports the demo is waited for. */
const DEMO_PATIENCE = 120;

/** Stores the demo model at the first visit; afterwards that returns at once. */
async function demoId(): Promise<string> {
  loadError.value = undefined;
  for (let second = 0; ; second++) {
    try {
      const record = await runTask(loadTask, { kind: "import", name: "Demo" }, (id, onProgress) =>
        engine().importModel(DEMO, DEMO_SCHEME, id, onProgress),
      );
      await refreshModels();
      return record.id;
    } catch (error) {
      if (isError(error, "Busy") && second < DEMO_PATIENCE) {
        await new Promise((resolve) => setTimeout(resolve, 1000));
        continue;
      }
      loadError.value = isError(error, "Cancelled") ? "Loading was cancelled." : messageOf(error);
      throw error;
    }
  }
}

/** Loads the demo model on the visitor's word. */
export async function useDemo(): Promise<void> {
  try {
    await useModel(await demoId());
  } catch {}
}
