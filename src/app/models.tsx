import { useState } from "preact/hooks";
import type { ModelRecord } from "../api/index.ts";
import { cancelTask, deleteModel, unloadModel, useDemo, useModel, verifyModel } from "./actions/models.ts";
import { Dialog, Notice, ProgressBar } from "./components/controls.tsx";
import { ModelFacts } from "./components/header.tsx";
import { ImportCard, resume } from "./components/import_card.tsx";
import { formatBytes, formatCount, formatParameters } from "./format.ts";
import { importOrigins, importTask, loadError, loaded, loadTask, models, storage, verified } from "./state.ts";

const SCHEMES = { q4a32: "4-bit, groups of 32", q4a64: "4-bit, groups of 64", bf16: "16-bit, as in the file" };

/** Choosing, importing, checking and deleting models. */
export function ModelsScreen() {
  return (
    <main class="page" id="main">
      <Importing />
      <Current />
      <Stored />
      <ImportCard />
    </main>
  );
}

/** The import that is under way; chatting goes on meanwhile. */
function Importing() {
  const task = importTask.value;
  if (task?.kind !== "import") return null;
  return (
    <section class="card" aria-labelledby="importing-title">
      <h2 id="importing-title">Importing {task.name}</h2>
      <ProgressBar progress={task.progress} label={`Importing ${task.name}`} />
      <p class="hint">You can go on chatting. If the tab closes, the import goes on later from where it stopped.</p>
      <button type="button" class="quiet" disabled={task.cancelling ?? false} onClick={() => cancelTask(importTask)}>
        {task.cancelling ? "Cancelling …" : "Cancel"}
      </button>
    </section>
  );
}

function Current() {
  const model = loaded.value;
  const task = loadTask.value;
  return (
    <section class="card" aria-labelledby="current-title">
      <h2 id="current-title">In use</h2>
      {task ? (
        <>
          <p>
            <strong>{task.name}</strong>
          </p>
          <ProgressBar progress={task.progress} label={`Loading ${task.name}`} />
          <button type="button" class="quiet" disabled={task.cancelling ?? false} onClick={() => cancelTask(loadTask)}>
            {task.cancelling ? "Cancelling …" : "Cancel"}
          </button>
        </>
      ) : model ? (
        <>
          <p>
            <strong>{model.name}</strong>
          </p>
          <ModelFacts />
          <ContextField />
          <button type="button" class="quiet" onClick={() => void unloadModel()}>
            Free the GPU
          </button>
        </>
      ) : (
        <p class="hint">No model is loaded.</p>
      )}
      {loadError.value && !task && (
        <Notice kind="error">
          <p>{loadError.value}</p>
        </Notice>
      )}
    </section>
  );
}

/** A longer context costs GPU memory; the model is loaded anew with it. */
function ContextField() {
  const model = loaded.value!;
  const [tokens, setTokens] = useState(model.contextLength);
  return (
    <form
      class="row-form"
      onSubmit={(event) => {
        event.preventDefault();
        void useModel(model.id, tokens);
      }}
    >
      <label>
        Context length{" "}
        <input
          type="number"
          min={256}
          max={model.maxContextLength}
          step={1}
          value={tokens}
          onInput={(e) => setTokens(Number(e.currentTarget.value))}
        />
      </label>
      <button type="submit" class="quiet" disabled={tokens === model.contextLength || !(tokens > 0)}>
        Load again with it
      </button>
      <span class="hint">at most {formatCount(model.maxContextLength)}; lowered when memory does not allow it</span>
    </form>
  );
}

function Stored() {
  const list = models.value;
  const space = storage.value;
  const hasDemo =
    Object.entries(importOrigins.value).some(([, o]) => o.source.kind === "demo") ||
    list.some((m) => /demo/i.test(m.name));
  return (
    <section class="card" aria-labelledby="stored-title">
      <h2 id="stored-title">Stored in this browser</h2>
      {list.length === 0 && <p class="hint">Nothing yet.</p>}
      <ul class="model-list">
        {list.map((record) => (
          <StoredModel key={record.id} record={record} />
        ))}
      </ul>
      {!hasDemo && (
        <button type="button" class="quiet" onClick={() => void useDemo()}>
          Get the demo model back
        </button>
      )}
      {space && (
        <div class="space">
          {Number.isFinite(space.quota) && (
            <meter aria-label="Storage used" min={0} max={space.quota} value={space.used} />
          )}
          <p class="hint">
            {formatBytes(space.used)} used of {formatBytes(space.quota)} that the browser allows.{" "}
            {space.persistent
              ? "The browser keeps it until you delete it."
              : "The browser may clear it when the disk gets full."}
          </p>
        </div>
      )}
    </section>
  );
}

function StoredModel({ record }: { record: ModelRecord }) {
  const [asking, setAsking] = useState(false);
  const { id, name, state, bytesStored, bytesTotal } = record;
  const mine = importTask.value?.modelId === id;
  const task = mine && importTask.value?.kind === "verify" ? importTask.value : undefined;
  const busy = importTask.value !== undefined || loadTask.value !== undefined;
  const inUse = loaded.value?.id === id;
  const damaged = verified.value[id];
  const origin = importOrigins.value[id];
  return (
    <li class="model">
      <div class="model-head">
        <strong>{name}</strong>
        {inUse && <span class="badge">in use</span>}
        {state === "importing" && !mine && <span class="badge warn">not complete</span>}
      </div>
      <p class="hint">
        {formatParameters(record.parameters)} parameters · {SCHEMES[record.scheme]} ·{" "}
        {state === "complete" ? formatBytes(bytesStored) : `${formatBytes(bytesStored)} of ${formatBytes(bytesTotal)}`}
        {record.licence && ` · ${record.licence}`}
      </p>
      <p class="hint source">{record.source}</p>
      {task && (
        <>
          <ProgressBar
            progress={task.progress}
            label={`${task.kind === "verify" ? "Checking" : "Importing"} ${name}`}
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
        <Notice kind={damaged.length ? "warning" : "info"}>
          {damaged.length ? (
            <p>
              {damaged.length === 1 ? "Part" : "Parts"} {damaged.map((i) => i + 1).join(", ")} of this model{" "}
              {damaged.length === 1 ? "is" : "are"} damaged. Go on with the import to fetch{" "}
              {damaged.length === 1 ? "it" : "them"} again.
            </p>
          ) : (
            <p>Every part has the checksum that it had when it was stored.</p>
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
