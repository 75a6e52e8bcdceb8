import { batch, effect } from "@preact/signals";
import { callback, type TrainSettings } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import { changed, type Form, formOf, restoredForm, settingsOf } from "../train/settings_form.ts";
import { dataset, form, gpuMemory, model, plan, planError, planning, usualForm } from "../train/state.ts";
import { attempt, messageOf } from "./notices.ts";
import { readSetting, writeSetting } from "./settings.ts";
import { fileName, saveFile } from "./train_files.ts";

/** Fields are left alone for this long before a plan is made of them. */
const PAUSE = 350;
/** Evaluations without progress after which a run ends by itself. 0: never. */
const USUAL_PATIENCE = 0;

/** Fills the form: what the visitor left in it, else the usual values. */
export async function restoreForm(): Promise<void> {
  if (form.peek()) return;
  await attempt("The usual settings could not be read", async () => {
    const usual = formOf(await engine().defaultTrainSettings(), USUAL_PATIENCE);
    usualForm.value = usual;
    form.value = restoredForm(usual, await readSetting("trainForm"));
    gpuMemory.value = (await readSetting<string>("gpuMemory")) ?? "";
  });
}

export function setField(key: keyof Form, value: string | boolean): void {
  const before = form.peek();
  if (before) keep(changed(before, key, value));
}

export function resetForm(): void {
  if (usualForm.peek()) keep(usualForm.peek()!);
}

/** Takes settings that need less memory. */
export function reduce(settings: TrainSettings): void {
  const before = form.peek();
  if (before) keep({ ...formOf(settings, 0), patience: before.patience });
}

export function keepGpuMemory(typed: string): void {
  gpuMemory.value = typed;
  void writeSetting("gpuMemory", typed);
}

function keep(next: Form): void {
  form.value = next;
  void writeSetting("trainForm", next);
}

/** Makes a plan whenever model, data or settings have changed. Returns what ends that. */
export function watchPlan(): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let running: string | undefined;
  const stop = () => {
    clearTimeout(timer);
    if (running)
      void engine()
        .cancel(running)
        .catch(() => {});
    running = undefined;
  };
  const end = effect(() => {
    const values = form.value;
    const modelId = model.value?.id;
    // A change of rows or split changes the hash.
    const { id, hash } = dataset.value ?? {};
    stop();
    if (!values || !modelId || !id || !hash) {
      plan.value = undefined;
      return;
    }
    timer = setTimeout(() => {
      running = crypto.randomUUID();
      void makePlan(running, modelId, id, values, () => running);
    }, PAUSE);
  });
  return () => {
    end();
    stop();
  };
}

async function makePlan(
  taskId: string,
  modelId: string,
  datasetId: string,
  values: Form,
  current: () => string | undefined,
): Promise<void> {
  planning.value = { done: 0, total: 0 };
  try {
    const made = await engine().planTraining(
      modelId,
      datasetId,
      settingsOf(values).settings,
      taskId,
      callback((done, total) => {
        if (current() === taskId && planning.peek()) planning.value = { done, total };
      }),
    );
    if (current() !== taskId) return;
    batch(() => {
      plan.value = made;
      planError.value = undefined;
    });
  } catch (error) {
    if (isError(error, "Cancelled") || current() !== taskId) return;
    batch(() => {
      plan.value = undefined;
      planError.value = messageOf(error);
    });
  } finally {
    if (current() === taskId || current() === undefined) planning.value = undefined;
  }
}

/** "Continue elsewhere": data, settings and a script, as a zip. */
export async function exportScript(modelId: string, id: string, name: string, values: Form): Promise<void> {
  await attempt("The script could not be written", async () => {
    const { settings } = settingsOf(values);
    const zip = await engine().exportScript(
      modelId,
      id,
      settings,
      crypto.randomUUID(),
      callback(() => {}),
    );
    saveFile(zip, `${fileName(name)}-training.zip`);
  });
}
