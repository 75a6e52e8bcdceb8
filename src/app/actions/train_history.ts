import type { AdapterForm, AdapterRecord, AdapterSource, ExportProof, RunRecord } from "../../api/index.ts";
import { engine } from "../engine_link.ts";
import { currentChat, loaded, models } from "../state.ts";
import { adapters, training } from "../train/shared.ts";
import { compared, runs } from "../train/state.ts";
import { change, startChat } from "./conversations.ts";
import { useModel } from "./models.ts";
import { attempt, toast } from "./notices.ts";
import { readSetting, writeSetting } from "./settings.ts";
import { refreshAdapters } from "./train_adapters.ts";
import { fileName, saveFile } from "./train_files.ts";

/** Runs and adapters that are there already: looking, renaming, deleting, taking along. */

export async function refreshRuns(): Promise<void> {
  await attempt("The history could not be read", async () => {
    runs.value = await engine().listRuns();
  });
}

export async function renameRun(id: string, name: string): Promise<void> {
  await attempt("The run could not be renamed", async () => {
    const record = await engine().renameRun(id, name);
    runs.value = (runs.peek() ?? []).map((run) => (run.id === id ? { ...run, name: record.name } : run));
  });
}

export async function deleteRun(id: string, name: string): Promise<void> {
  await attempt("The run could not be deleted", async () => {
    await engine().deleteRun(id);
    if ((await readSetting("unfinishedRun")) === id) void writeSetting("unfinishedRun", "");
    runs.value = (runs.peek() ?? []).filter((run) => run.id !== id);
    compared.value = compared.peek().filter((other) => other !== id);
    toast(`“${name}” was deleted. Its adapter is kept.`);
  });
}

export async function downloadLog({ id, name }: Pick<RunRecord, "id" | "name">): Promise<void> {
  await attempt("The log could not be written", async () =>
    saveFile(await engine().runLog(id), `${fileName(name)}-log.csv`),
  );
}

// ── Adapters ──

/** Rejects with what does not fit, for the visitor. */
export async function importAdapter(source: AdapterSource, modelId: string, taskId: string): Promise<AdapterRecord> {
  const record = await engine().importAdapter(source, modelId, taskId);
  await refreshAdapters();
  return record;
}

export async function renameAdapter(id: string, name: string): Promise<void> {
  await attempt("The adapter could not be renamed", async () => {
    await engine().renameAdapter(id, name);
    await refreshAdapters();
  });
}

export async function deleteAdapter(id: string, name: string): Promise<void> {
  await attempt("The adapter could not be deleted", async () => {
    await engine().deleteAdapter(id);
    adapters.value = adapters.peek().filter((adapter) => adapter.id !== id);
    toast(`“${name}” was deleted.`);
  });
}

/** What was done before a file was offered. */
function proofText(name: string, proof: ExportProof | undefined): string {
  if (!proof)
    return `“${name}” was read back as it was written. Its answers were not compared: its model is not loaded.`;
  const { tokens, difference } = proof;
  const agree = difference === 0 ? "are the same" : `agree within ${difference.toExponential(0)}`;
  return `“${name}” was read back and put on the model: over ${tokens} tokens its logits ${agree}.`;
}

export async function downloadAdapter(
  { id, name, modelId }: Pick<AdapterRecord, "id" | "name" | "modelId">,
  form: AdapterForm,
): Promise<void> {
  await attempt("The adapter could not be exported", async () => {
    const ending = form === "peft" ? "-peft.zip" : "-lora.gguf";
    // A file is compared with its adapter on their model.
    const isStored = models.peek().some((model) => model.id === modelId && model.state === "complete");
    if (!training.peek() && isStored && loaded.peek()?.id !== modelId) await useModel(modelId);
    const { blob, proof } = await engine().exportAdapter(id, form, crypto.randomUUID());
    saveFile(blob, `${fileName(name)}${ending}`);
    toast(proofText(name, proof));
  });
}

/** Opens a new chat that answers with the adapter; its model is loaded if it is not. */
export async function chatWith(adapter: AdapterRecord): Promise<void> {
  startChat();
  change(currentChat.peek(), { adapterId: adapter.id });
  if (loaded.peek()?.id !== adapter.modelId) await useModel(adapter.modelId);
}
