import { useEffect, useState } from "preact/hooks";
import type { RunRecord } from "../../api/index.ts";
import { deleteRun } from "../actions/train_history.ts";
import { isTrainingElsewhere } from "../actions/train_offer.ts";
import { closeRun, endRun, resumeRun } from "../actions/train_run.ts";
import { Notice } from "../components/controls.tsx";
import { formatBytes, formatCount, formatRate, formatTimeLeft } from "../format.ts";
import { AccuracyChart, DetailCharts, formatLearningRate, LossChart } from "./curves.tsx";
import { Sure } from "./fields.tsx";
import { secondsLeft, tokensPerSecond } from "./progress.ts";
import { RunResult } from "./run_result.tsx";
import { Samples } from "./samples.tsx";
import { isRunning, type LiveRun, live, runs } from "./state.ts";

/** Step 3: the run under way, the one that has just ended, or one that waits to go on. */
export function RunView() {
  const run = live.value;
  if (!run) return <Waiting />;
  return run.isOver ? <Ended run={run} /> : <Live run={run} />;
}

/** Runs whose last state says that they could go on. */
export const unfinished = (all: readonly RunRecord[]) =>
  all.filter(
    ({ state, steps, log }) =>
      state === "paused" || state === "running" || (state === "failed" && log.length > 0 && log.length < steps),
  );

function Waiting() {
  const [latest] = unfinished(runs.value ?? []).sort((a, b) => b.updated - a.updated);
  return (
    <>
      {latest && <Unfinished run={latest} />}
      <section class="card">
        <h2>No run is under way</h2>
        <p class="hint">Choose data and settings, then start here from the settings page.</p>
        <a class="primary button" href="#/train/settings">
          To the settings
        </a>
      </section>
    </>
  );
}

/** A run that a closed tab, a pause or an error has left. */
function Unfinished({ run }: { run: RunRecord }) {
  const [asking, setAsking] = useState(false);
  const [elsewhere, setElsewhere] = useState(false);
  useEffect(() => void isTrainingElsewhere().then(setElsewhere), []);
  const done = run.log.at(-1)?.step ?? 0;
  const words = { running: "was interrupted", failed: "stopped with an error" }[run.state as string] ?? "is paused";
  return (
    <section class="card" aria-labelledby="unfinished-title">
      <h2 id="unfinished-title">
        “{run.name}” {words}
      </h2>
      <p>
        {done > 0
          ? `It has made ${formatCount(done)} of ${formatCount(run.steps)} steps.`
          : "It had not begun to learn."}{" "}
        {run.state === "failed"
          ? "It can go on from its last checkpoint, or you start a new run with other settings."
          : "It goes on from its last checkpoint, exactly as it would have."}
      </p>
      {run.message && run.message !== live.value?.error && <p class="hint">{run.message}</p>}
      {elsewhere && (
        <Notice kind="info">
          <p>Another tab is training just now. Pause it there before this run goes on here.</p>
        </Notice>
      )}
      <div class="row-form">
        <button type="button" class="primary" disabled={elsewhere} onClick={() => void resumeRun(run)}>
          Go on
        </button>
        <button type="button" class="quiet danger" onClick={() => setAsking(true)}>
          Delete it
        </button>
      </div>
      {asking && (
        <Sure
          title={`Delete ${run.name}?`}
          text={`Its log and checkpoints are deleted.${run.adapterId ? " The best adapter that it kept stays in the list of adapters." : ""}`}
          onNo={() => setAsking(false)}
          onYes={() => void deleteRun(run.id, run.name)}
        />
      )}
    </section>
  );
}

function Live({ run }: { run: LiveRun }) {
  const steps = run.record?.steps ?? 0;
  const last = run.log.at(-1);
  const left = steps > 0 ? secondsLeft(run.log, steps) : undefined;
  return (
    <>
      <section class="card live" aria-label={`Run ${run.name}`}>
        <div class="card-head full">
          <h2>{run.name}</h2>
          <Buttons run={run} />
        </div>
        <div class="progress full">
          <progress aria-label="Steps" max={steps || undefined} value={steps ? (last?.step ?? 0) : undefined} />
          <p class="progress-text">
            <span role="status">{stageOf(run)}</span>
            <span class="numbers">
              {steps > 0 && `step ${formatCount(last?.step ?? 0)} of ${formatCount(steps)}`}
              {left !== undefined && left > 0 && ` · ${formatTimeLeft(left)} left`}
            </span>
          </p>
        </div>
        <Numbers run={run} />
        {run.notes.map((note) => (
          <Notice key={note} kind="info">
            <p>{note}</p>
          </Notice>
        ))}
        <p class="hint">
          Keep this tab open. If it closes, the run goes on later from its last checkpoint; chatting waits meanwhile.
        </p>
      </section>
      <Curves run={run} />
      <Samples run={run} />
    </>
  );
}

function stageOf({ phase, ending, answers, log, record }: LiveRun): string {
  if (ending === "paused") return "Pausing after this step …";
  if (ending === "stopped") return "Stopping after this step …";
  if (phase)
    return `${phase.phase}${phase.total > 1 ? ` ${formatCount(phase.done)} of ${formatCount(phase.total)}` : ""}`;
  if (answers.done < answers.total) return `Answering held-back rows, ${answers.done} of ${answers.total}`;
  if (!record) return "Getting ready";
  return log.length > 0 ? "Learning" : "Looking at the held-back rows before the first step";
}

function Buttons({ run }: { run: LiveRun }) {
  const isEnding = run.ending !== undefined;
  return (
    <div class="row-form">
      <button type="button" class="quiet" disabled={isEnding} onClick={() => void endRun("paused")}>
        {run.ending === "paused" ? "Pausing …" : "Pause"}
      </button>
      <button type="button" class="quiet danger" disabled={isEnding} onClick={() => void endRun("stopped")}>
        {run.ending === "stopped" ? "Stopping …" : "Stop and keep the best"}
      </button>
    </div>
  );
}

/** The numbers of the latest step. */
function Numbers({ run }: { run: LiveRun }) {
  const last = run.log.at(-1);
  const scores = run.evaluations.at(-1);
  const speed = tokensPerSecond(run.log);
  const facts: [string, string][] = [
    ["Loss", last ? last.loss.toPrecision(3) : "–"],
    ["Held-back answers", scores ? `${Math.round(100 * scores.relaxed)} % right` : "–"],
    ["Learning rate", last ? formatLearningRate(last.learningRate) : "–"],
    ["Gradient norm", last ? last.gradientNorm.toPrecision(3) : "–"],
    ["Speed", speed ? formatRate(speed) : "–"],
    ["GPU memory", run.memory ? formatBytes(run.memory.bytes) : "–"],
  ];
  return (
    <dl class="numbers-row full">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Curves({ run: { log, evaluations } }: { run: Pick<LiveRun, "log" | "evaluations"> }) {
  if (log.length === 0 && evaluations.length === 0) return null;
  return (
    <section class="card" aria-label="Curves">
      <LossChart log={log} evaluations={evaluations} />
      {evaluations.length > 0 && <AccuracyChart evaluations={evaluations} />}
      {log.length > 0 && (
        <details class="full">
          <summary>Learning rate and gradient norm</summary>
          <DetailCharts log={log} />
        </details>
      )}
    </section>
  );
}

function Ended({ run }: { run: LiveRun }) {
  const state = run.record?.state;
  const isPaused = state === "paused" || state === "running";
  const stored = runs.value?.find(({ id }) => id === run.record?.id) ?? run.record;
  return (
    <>
      {run.error && (
        <Notice kind="error">
          <p>
            {run.error}
            <br />
            <span class="hint">
              {run.log.length > 0
                ? `The log${stored?.adapterId ? ", the best adapter" : ""} and the last checkpoint are kept.`
                : "Nothing was changed. Data and settings are as they were."}
            </span>
          </p>
        </Notice>
      )}
      {!run.error && !stored && (
        <Notice kind="info">
          <p>The run was ended before it began. Nothing was kept.</p>
        </Notice>
      )}
      {stored && !run.error && !isPaused && (
        <RunResult run={{ ...stored, log: run.log, evaluations: run.evaluations }} />
      )}
      {stored && (isPaused || run.error) && run.log.length > 0 && !isRunning.value && (
        <Unfinished run={{ ...stored, log: run.log }} />
      )}
      <Curves run={run} />
      <div class="row-form">
        <button
          type="button"
          class="quiet"
          onClick={() => {
            closeRun();
            location.hash = "#/train/settings";
          }}
        >
          New run
        </button>
        <a class="quiet button" href="#/train/history">
          All runs
        </a>
      </div>
    </>
  );
}
