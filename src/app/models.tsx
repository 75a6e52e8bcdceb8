import { useState } from "preact/hooks";
import { cancelTask, importModel, modelReady, pauseImport, unloadModel, useDemo, useModel } from "./actions/models.ts";
import { Notice, ProgressBar } from "./components/controls.tsx";
import { ModelFacts } from "./components/header.tsx";
import { ImportCard } from "./components/import_card.tsx";
import { StoredModel } from "./components/stored_model.tsx";
import { formatBytes, formatCount, formatDuration } from "./format.ts";
import { importOrigins, importTask, loadError, loaded, loadTask, models, pausedImport, storage } from "./state.ts";

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
  const paused = pausedImport.value;
  if (!task && paused) {
    const { plan, source, scheme } = paused;
    return (
      <section class="card" aria-labelledby="importing-title">
        <h2 id="importing-title">{plan.name} is paused</h2>
        <p class="hint">What is stored is kept and not read again.</p>
        <div class="row-form">
          <button type="button" class="primary" onClick={() => void importModel(plan, source, scheme)}>
            Go on
          </button>
          <button
            type="button"
            class="quiet"
            onClick={() => {
              pausedImport.value = undefined;
            }}
          >
            Not now
          </button>
        </div>
      </section>
    );
  }
  if (task?.kind !== "import") return null;
  return (
    <section class="card" aria-labelledby="importing-title">
      <h2 id="importing-title">Importing {task.name}</h2>
      <ProgressBar progress={task.progress} label={`Importing ${task.name}`} />
      <p class="hint">You can go on chatting. If the tab closes, the import goes on later from where it stopped.</p>
      <div class="row-form">
        <button type="button" class="quiet" disabled={task.cancelling ?? false} onClick={pauseImport}>
          Pause
        </button>
        <button type="button" class="quiet" disabled={task.cancelling ?? false} onClick={() => cancelTask(importTask)}>
          {task.cancelling ? "Cancelling …" : "Cancel"}
        </button>
      </div>
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
          <ProgressBar progress={task.progress} label={`Loading ${task.name}`} name={task.name} />
          <button type="button" class="quiet" disabled={task.cancelling ?? false} onClick={() => cancelTask(loadTask)}>
            {task.cancelling ? "Cancelling …" : "Cancel"}
          </button>
        </>
      ) : model ? (
        <>
          <div>
            <p>
              <strong>{model.name}</strong>
            </p>
            <p class="hint">
              {formatBytes(model.gpuBytes)} of GPU memory · context of {formatCount(model.contextLength)} tokens ·
              loaded in {formatDuration(model.loadMilliseconds)}
            </p>
          </div>
          <details class="more">
            <summary>Memory, context and GPU</summary>
            <ModelFacts />
            <ContextField key={`${model.id} ${model.contextLength}`} />
            <button type="button" class="quiet" onClick={() => void unloadModel()}>
              Free the GPU
            </button>
          </details>
        </>
      ) : (
        <p class="hint">No model is loaded. The next message loads the one used last.</p>
      )}
      {loadError.value && !task && (
        <Notice
          kind="error"
          onDismiss={() => {
            loadError.value = undefined;
          }}
        >
          <p>{loadError.value}</p>
          <button type="button" class="quiet" onClick={() => void modelReady().catch(() => {})}>
            Try again
          </button>
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
      <span class="hint">
        at most {formatCount(model.maxContextLength)}; lowered when memory does not allow it. From 4,096 on, what was
        read is kept in 8 bits.
      </span>
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
      {list.length === 0 && <p class="hint">Nothing yet. A model that you get below is kept here.</p>}
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
