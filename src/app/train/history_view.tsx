import { useEffect, useMemo, useState } from "preact/hooks";
import type { RunRecord } from "../../api/index.ts";
import { deleteRun, refreshRuns, renameRun } from "../actions/train_history.ts";
import { resumeRun } from "../actions/train_run.ts";
import { formatCount, formatDay } from "../format.ts";
import { AccuracyChart, CompareCharts, DetailCharts, LossChart } from "./curves.tsx";
import { NameField, Scroll, Sure } from "./fields.tsx";
import { beforeAndAfter, differences } from "./progress.ts";
import { RunResult } from "./run_result.tsx";
import { unfinished } from "./run_view.tsx";
import { labelOf } from "./settings_fields.ts";
import { compared, isRunning, live, runs, view } from "./state.ts";

const STATES: Record<RunRecord["state"], string> = {
  running: "interrupted",
  paused: "paused",
  stopped: "stopped",
  finished: "finished",
  failed: "failed",
};

/** Every run: one of them in full, or several beside each other. */
export function HistoryView() {
  useEffect(() => void refreshRuns(), []);
  const all = runs.value;
  if (!all) return <p class="hint">Reading the history …</p>;
  const one = all.find(({ id }) => id === view.value.id);
  if (one) return <OneRun key={one.id} run={one} />;
  const beside = all.filter(({ id }) => compared.value.includes(id));
  return (
    <>
      {beside.length > 1 && <Compare runs={beside} />}
      <section class="card" aria-labelledby="history-title">
        <h2 id="history-title">Runs</h2>
        {all.length === 0 ? (
          <p class="hint">Runs will be listed here, with their curves.</p>
        ) : (
          <p class="hint">Choose two or more to compare them.</p>
        )}
        <ul class="model-list full">
          {all.map((run) => (
            <RunItem key={run.id} run={run} />
          ))}
        </ul>
      </section>
    </>
  );
}

function RunItem({ run }: { run: RunRecord }) {
  const { id, name, state, log, steps, evaluations } = run;
  const { before, after } = beforeAndAfter(run);
  const isLive = isRunning.value && live.value?.record?.id === id;
  const isChosen = compared.value.includes(id);
  const scores =
    before && after && `${Math.round(100 * before.relaxed)} % → ${Math.round(100 * after.relaxed)} % right`;
  return (
    <li class="model run-item">
      <input
        type="checkbox"
        aria-label={`Compare ${name}`}
        checked={isChosen}
        disabled={log.length === 0}
        onChange={() => {
          compared.value = isChosen ? compared.value.filter((other) => other !== id) : [...compared.value, id];
        }}
      />
      <div>
        <div class="model-head">
          <a href={`#/train/history/${id}`}>{name}</a>
          <span class={`badge ${state === "finished" ? "" : "warn"}`}>{isLive ? "under way" : STATES[state]}</span>
        </div>
        <p class="hint numbers">
          {formatDay(run.created)} · {run.dataset.name} · {run.model.name} · {formatCount(log.at(-1)?.step ?? 0)} of{" "}
          {formatCount(steps)} steps
          {scores && ` · ${scores}`}
          {!scores && evaluations.length === 0 && log.length > 0 && ` · loss ${log.at(-1)!.loss.toPrecision(3)}`}
        </p>
      </div>
    </li>
  );
}

function OneRun({ run }: { run: RunRecord }) {
  const [asking, setAsking] = useState(false);
  const canGoOn = unfinished([run]).length > 0;
  return (
    <>
      <div class="card-head">
        <NameField name={run.name} label="Name of the run" onRename={(name) => void renameRun(run.id, name)} />
        <div class="row-form">
          {canGoOn && (
            <button
              type="button"
              class="primary"
              disabled={isRunning.value}
              onClick={() => {
                void resumeRun(run);
                location.hash = "#/train/run";
              }}
            >
              Go on
            </button>
          )}
          <button type="button" class="quiet danger" disabled={isRunning.value} onClick={() => setAsking(true)}>
            Delete
          </button>
          <a class="quiet button" href="#/train/history">
            All runs
          </a>
        </div>
      </div>
      <RunResult run={run} isNamed={false} />
      {run.log.length > 0 && (
        <section class="card" aria-label="Curves">
          <LossChart log={run.log} evaluations={run.evaluations} />
          {run.evaluations.length > 0 && <AccuracyChart evaluations={run.evaluations} />}
          <DetailCharts log={run.log} />
        </section>
      )}
      <section class="card" aria-labelledby="used-title">
        <h2 id="used-title">Settings</h2>
        <SettingsTable runs={[run]} />
      </section>
      {asking && (
        <Sure
          title={`Delete ${run.name}?`}
          text="Its log and checkpoints are deleted. The adapter that it kept stays in the list of adapters."
          onNo={() => setAsking(false)}
          onYes={() => {
            location.hash = "#/train/history";
            void deleteRun(run.id, run.name);
          }}
        />
      )}
    </>
  );
}

function Compare({ runs: beside }: { runs: RunRecord[] }) {
  // Charts are drawn anew when their data change, not with every look at this page.
  const ids = beside.map(({ id, updated }) => `${id}@${updated}`).join();
  const kept = useMemo(() => beside, [ids]);
  return (
    <section class="card" aria-labelledby="compare-title">
      <div class="card-head full">
        <h2 id="compare-title">{beside.length} runs compared</h2>
        <button
          type="button"
          class="quiet"
          onClick={() => {
            compared.value = [];
          }}
        >
          Done
        </button>
      </div>
      <CompareCharts runs={kept} />
      <h3>What differs</h3>
      <SettingsTable runs={kept} onlyDifferent />
    </section>
  );
}

/** "lora.parts.mergers" → what the form calls it. */
const nameOf = (path: string) =>
  path === "data" || path === "model" ? `${path[0]!.toUpperCase()}${path.slice(1)}` : labelOf(path.split(".").at(-1)!);

function SettingsTable({ runs: beside, onlyDifferent = false }: { runs: RunRecord[]; onlyDifferent?: boolean }) {
  const all = beside.map(({ settings, patience, dataset, model }) => ({
    data: `${dataset.name} (${dataset.hash.slice(0, 8)})`,
    model: model.name,
    ...settings,
    patience,
  }));
  const lines = onlyDifferent
    ? differences(all)
    : differences([...all, {}]).map(({ path, values }) => ({ path, values: values.slice(0, -1) }));
  if (lines.length === 0) return <p class="hint">Data, model and settings are the same.</p>;
  return (
    <Scroll class="table-scroll full" label="Settings">
      <table class="results">
        <thead>
          <tr>
            <th scope="col">Setting</th>
            {beside.map(({ id, name }) => (
              <th key={id} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {lines.map(({ path, values }) => (
            <tr key={path}>
              <th scope="row">{nameOf(path)}</th>
              {values.map((value, i) => (
                <td key={beside[i]!.id}>{value}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}
