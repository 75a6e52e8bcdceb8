import "./adapters.css";
import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { change } from "../actions/conversations.ts";
import { attempt } from "../actions/notices.ts";
import { refreshAdapters, whyNot } from "../actions/train_adapters.ts";
import { IconButton } from "../components/controls.tsx";
import { conversation, currentChat, loaded, run } from "../state.ts";
import { adapters } from "./shared.ts";

const dialog = signal<ComponentType<{ onClose: () => void }> | undefined>(undefined);

async function openComparison(): Promise<void> {
  await attempt("The comparison could not be opened", async () => {
    dialog.value = (await import("./compare_dialog.tsx")).CompareDialog;
  });
}

/** Which adapter this chat answers with; nothing is shown before there is one. */
export function AdapterPicker() {
  useEffect(() => void refreshAdapters(), []);
  const { adapterId, messages } = conversation.value;
  const list = adapters.value;
  if (list.length === 0 && !adapterId) return null;
  const isKnown = list.some(({ id }) => id === adapterId);
  const Comparison = dialog.value;
  const canCompare = isKnown && loaded.value !== undefined && messages.some(({ role }) => role === "user");
  return (
    <>
      <select
        class="adapter-picker"
        aria-label="Adapter of this chat"
        title="Adapter of this chat"
        value={adapterId ?? ""}
        disabled={run.value !== undefined}
        onChange={(event) => {
          const { value } = event.currentTarget;
          const { adapterId: _, ...rest } = currentChat.peek().peek();
          currentChat.peek().value = rest;
          change(currentChat.peek(), value ? { adapterId: value } : {}, false);
        }}
      >
        <option value="">No adapter</option>
        {adapterId && !isKnown && <option value={adapterId}>deleted adapter</option>}
        {list.map((adapter) => {
          const reason = whyNot(adapter);
          return (
            <option key={adapter.id} value={adapter.id} disabled={reason !== undefined && adapter.id !== adapterId}>
              {adapter.name}
              {reason && ` (${reason})`}
            </option>
          );
        })}
      </select>
      {canCompare && (
        <IconButton
          icon="compare"
          label="Compare with the base model"
          disabled={run.value !== undefined}
          onClick={() => void openComparison()}
        />
      )}
      {Comparison && (
        <Comparison
          onClose={() => {
            dialog.value = undefined;
          }}
        />
      )}
    </>
  );
}
