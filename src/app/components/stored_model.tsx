import { useState } from "preact/hooks";
import type { ModelRecord } from "../../api/index.ts";
import { cancelTask, deleteModel, forgetCheck, useModel, verifyModel } from "../actions/models.ts";
import { formatAgo, formatBytes, formatParameters } from "../format.ts";
import { importOrigins, importTask, loaded, loadTask, verified } from "../state.ts";
import { Dialog, Notice, ProgressBar } from "./controls.tsx";
import { resume } from "./import_card.tsx";
import { ModelMore } from "./model_more.tsx";

const SCHEMES = { q4a32: "4-bit, groups of 32", q4a64: "4-bit, groups of 64", bf16: "16-bit, as in the file" };

/** One stored model: what it is, and what can be done with it. */
export function StoredModel({ record }: { record: ModelRecord }) {
  const [asking, setAsking] = useState(false);
  const { id, name, state, bytesStored, bytesTotal } = record;
  const mine = importTask.value?.modelId === id;
  const task = mine && importTask.value && importTask.value.kind !== "import" ? importTask.value : undefined;
  const busy = importTask.value !== undefined || loadTask.value !== undefined;
  const inUse = loaded.value?.id === id;
  const damaged = verified.value[id];
  const origin = importOrigins.value[id];
  const isDemo = origin?.source.kind === "demo" || record.source.endsWith("/models/demo/");
  return (
    <li class="model">
      <h3 class="model-head">
        {name}
        {inUse && <span class="badge">in use</span>}
        {state === "importing" && !mine && <span class="badge warn">not complete</span>}
      </h3>
      <p class="hint">
        {formatParameters(record.parameters)} parameters · {SCHEMES[record.scheme]} ·{" "}
        {state === "complete" ? formatBytes(bytesStored) : `${formatBytes(bytesStored)} of ${formatBytes(bytesTotal)}`}
        {state === "complete" && record.lastUsed > 0 && ` · used ${formatAgo(record.lastUsed)}`}
      </p>
      <p class="hint source">
        {isDemo ? "Comes with this page" : `From ${record.source}`}
        {record.format && ` (${record.format})`}
        {record.licence && ` · licence ${record.licence}`}
        {record.verifiedFiles && " · compared with the source's SHA-256"}
      </p>
      {task && (
        <>
          <ProgressBar
            progress={task.progress}
            label={`${task.kind === "verify" ? "Checking" : "Exporting"} ${name}`}
          />
          <button
            type="button"
            class="quiet"
            disabled={task.cancelling ?? false}
            onClick={() => cancelTask(importTask)}
          >
            {task.cancelling ? "Cancelling …" : "Cancel"}
          </button>
        </>
      )}
      {damaged && !task && (
        <Notice kind={damaged.length ? "warning" : "info"} onDismiss={() => forgetCheck(id)}>
          {damaged.length ? (
            <p>
              {damaged.length === 1 ? "Part" : "Parts"} {damaged.map((i) => i + 1).join(", ")} of this model{" "}
              {damaged.length === 1 ? "is" : "are"} damaged. Go on with the import to fetch{" "}
              {damaged.length === 1 ? "it" : "them"} again.
            </p>
          ) : (
            <p>All is well: every part has the checksum that it had when it was stored.</p>
          )}
        </Notice>
      )}
      {!mine && (
        <div class="model-buttons">
          {state === "complete" && !inUse && (
            <button type="button" class="primary" disabled={busy} onClick={() => void useModel(id)}>
              Use
            </button>
          )}
          {(state === "importing" || (damaged && damaged.length > 0)) && (
            <button type="button" class="primary" disabled={busy} onClick={() => resume(record, origin)}>
              Go on with the import
            </button>
          )}
          {state === "complete" && (
            <button type="button" class="quiet" disabled={busy} onClick={() => void verifyModel(id, name)}>
              Check
            </button>
          )}
          <button type="button" class="quiet danger" disabled={busy} onClick={() => setAsking(true)}>
            Delete
          </button>
        </div>
      )}
      {state === "complete" && <ModelMore record={record} origin={origin} busy={busy} />}
      {asking && (
        <Dialog title={`Delete ${name}?`} onClose={() => setAsking(false)}>
          <p>
            {formatBytes(bytesStored)} are freed. To use the model again, it must be imported again. Chats are kept.
          </p>
          <div class="dialog-buttons">
            <button type="button" class="quiet" onClick={() => setAsking(false)}>
              Keep it
            </button>
            <button
              type="button"
              class="primary danger"
              onClick={() => {
                setAsking(false);
                void deleteModel(id, name);
              }}
            >
              Delete
            </button>
          </div>
        </Dialog>
      )}
    </li>
  );
}
