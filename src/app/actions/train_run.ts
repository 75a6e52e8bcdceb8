import { callback, type RunEvent, type RunRecord } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import { loaded, loadTask } from "../state.ts";
import { withEvaluation, withStep } from "../train/progress.ts";
import { type Form, settingsOf } from "../train/settings_form.ts";
import { training } from "../train/shared.ts";
import { isRunning, type LiveRun, live } from "../train/state.ts";
import { modelReady, useModel } from "./models.ts";
import { messageOf } from "./notices.ts";
import { writeSetting } from "./settings.ts";
import { forgetApplied, refreshAdapters } from "./train_adapters.ts";
import { refreshRuns } from "./train_history.ts";

/** Events may come a hundred times a second; the page follows at this pace. */
const SHOW_EVERY = 120;

export async function startRun(
  modelId: string,
  datasetId: string,
  values: Form,
  options: { name: string; memoryLimit?: number },
): Promise<void> {
  const { settings, patience } = settingsOf(values);
  await follow(options.name, undefined, modelId, (taskId, onEvent) =>
    engine().startRun(modelId, datasetId, settings, { ...options, patience }, taskId, onEvent),
  );
}

/** Goes on with a run that was paused, or left by a tab that was closed. */
export async function resumeRun(run: RunRecord): Promise<void> {
  await follow(run.name, run, run.model.id, (taskId, onEvent) => engine().resumeRun(run.id, taskId, onEvent));
}

type Work = (taskId: string, onEvent: (event: RunEvent) => void) => Promise<RunRecord>;

/** The whole life of a run in this tab. */
async function follow(name: string, from: RunRecord | undefined, modelId: string, work: Work): Promise<void> {
  if (isRunning.peek()) return;
  let now: LiveRun = {
    taskId: crypto.randomUUID(),
    record: from,
    name,
    log: from?.log ?? [],
    evaluations: from?.evaluations ?? [],
    phase: undefined,
    memory: undefined,
    notes: [],
    answers: { samples: [], done: 0, total: 0 },
    ending: undefined,
    isOver: false,
    error: undefined,
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const show = () => {
    clearTimeout(timer);
    timer = undefined;
    // What the visitor has asked for is written by the page, not by events.
    now = { ...now, ending: live.peek()?.ending };
    live.value = now;
    training.value = { name: now.name, done: now.log.at(-1)?.step ?? 0, total: now.record?.steps ?? 0 };
  };
  const onEvent = (event: RunEvent) => {
    if (now.isOver) return;
    now = after(now, event);
    if (event.type === "run") void writeSetting("unfinishedRun", event.run.id);
    timer ??= setTimeout(show, SHOW_EVERY);
  };
  live.value = undefined;
  show();
  const watch = watchPage();
  try {
    // The page and the worker must agree on what is loaded once the run is over.
    if (loadTask.peek()) await modelReady().catch(() => {});
    if (loaded.peek()?.id !== modelId) await useModel(modelId);
    const record = await work(now.taskId, callback(onEvent));
    now = { ...now, record, log: record.log, evaluations: record.evaluations };
  } catch (error) {
    if (isError(error, "DeviceLost") || isError(error, "OutOfMemory")) loaded.value = undefined;
    now = { ...now, error: isError(error, "Cancelled") ? undefined : messageOf(error) };
  } finally {
    watch();
    now = { ...now, isOver: true, phase: undefined };
    show();
    training.value = undefined;
    forgetApplied();
    const { state } = now.record ?? {};
    if (state !== "paused" && state !== "running") void writeSetting("unfinishedRun", "");
    await Promise.all([refreshRuns(), refreshAdapters()]);
  }
}

/** What an event makes of the view. */
function after(now: LiveRun, event: RunEvent): LiveRun {
  switch (event.type) {
    case "phase":
      return { ...now, phase: event };
    case "run":
      return { ...now, record: event.run, name: event.run.name };
    case "memory":
      // Everything is allocated: it begins.
      return { ...now, memory: event, phase: undefined };
    case "step":
      return { ...now, phase: undefined, log: withStep(now.log, event.record) };
    case "answer": {
      const earlier = event.done === 1 ? [] : now.answers.samples;
      const { done, total } = event;
      return { ...now, phase: undefined, answers: { samples: [...earlier, event.sample], done, total } };
    }
    case "evaluation":
      return { ...now, evaluations: withEvaluation(now.evaluations, event.record) };
    case "note":
      return { ...now, notes: [...now.notes, event.message] };
  }
}

/** Pauses, or stops and keeps the best adapter; either after the step under way. */
export async function endRun(how: "paused" | "stopped"): Promise<void> {
  const now = live.peek();
  if (!now || now.isOver) return;
  live.value = { ...now, ending: how };
  try {
    // While it gets ready, no step is under way that could be waited for, and nothing new to keep.
    if (!now.record?.id || !now.memory || now.log.length === 0) await engine().cancel(now.taskId);
    else await engine().endRun(now.record.id, how);
  } catch (error) {
    live.value = { ...live.peek()!, ending: undefined, notes: [...now.notes, messageOf(error)] };
  }
}

/** Puts away what is shown of a run that is over. */
export function closeRun(): void {
  if (!isRunning.peek()) live.value = undefined;
}

/** While a run is under way: the screen stays awake, a hidden page keeps a checkpoint, and closing the tab is asked about first. */
function watchPage(): () => void {
  let lock: WakeLockSentinel | undefined;
  let isOver = false;
  const stayAwake = async () => {
    if (document.visibilityState !== "visible") return;
    try {
      lock = await navigator.wakeLock?.request("screen");
      if (isOver) void lock?.release();
    } catch {
      // On battery the browser may refuse; the run goes on while the device is awake.
    }
  };
  const onVisibility = () => {
    if (document.visibilityState === "visible") void stayAwake();
    else
      void engine()
        .checkpointSoon()
        .catch(() => {});
  };
  const onUnload = (event: BeforeUnloadEvent) => event.preventDefault();
  void stayAwake();
  document.addEventListener("visibilitychange", onVisibility);
  addEventListener("beforeunload", onUnload);
  return () => {
    isOver = true;
    void lock?.release().catch(() => {});
    document.removeEventListener("visibilitychange", onVisibility);
    removeEventListener("beforeunload", onUnload);
  };
}
