import type { AdapterRecord, LoadedModel } from "../../api/index.ts";
import { TabTuneError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import { loaded } from "../state.ts";
import { adapters, training } from "../train/shared.ts";
import { attempt } from "./notices.ts";

/** What the worker has put on the loaded model; a model that was loaded anew has nothing on it. */
let applied: { model: LoadedModel; id: string | undefined } | undefined;

export async function refreshAdapters(): Promise<void> {
  await attempt("The list of adapters could not be read", async () => {
    adapters.value = await engine().listAdapters();
  });
}

/** After a training run the worker's model has no adapter on it. */
export function forgetApplied(): void {
  applied = undefined;
}

/** Why an adapter cannot be put on the loaded model; undefined when it can. */
export function whyNot(adapter: AdapterRecord): string | undefined {
  const model = loaded.value;
  if (!model || model.id === adapter.modelId) return undefined;
  return `made for ${adapter.base || "another model"}`;
}

/** Puts an adapter on the loaded model, or takes it off. Rejects with a message for the visitor. */
export async function useAdapter(id: string | undefined, model: LoadedModel): Promise<AdapterRecord | undefined> {
  if (training.peek()) {
    throw new TabTuneError(
      "Busy",
      `The GPU is training “${training.peek()!.name}”. Pause the run on the Train page, or wait until it has ended.`,
    );
  }
  if (id !== undefined && !adapters.peek().some((a) => a.id === id)) await refreshAdapters();
  const current = applied?.model === model ? applied.id : undefined;
  const adapter = id === undefined ? undefined : adapters.peek().find((a) => a.id === id);
  if (id !== undefined && !adapter) {
    throw new TabTuneError(
      "NotFound",
      "The adapter of this chat is not stored in this browser any more. Choose another one, or none.",
    );
  }
  if (adapter && adapter.modelId !== model.id) {
    throw new TabTuneError(
      "BadInput",
      `The adapter “${adapter.name}” was ${whyNot(adapter)}; ${model.name} is loaded. Load that model, or choose another adapter or none.`,
    );
  }
  if (current !== id) {
    applied = undefined;
    await engine().useAdapter(id);
  }
  applied = { model, id };
  return adapter;
}
