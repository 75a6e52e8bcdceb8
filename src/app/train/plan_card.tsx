import { useState } from "preact/hooks";
import type { TrainingPlan } from "../../api/index.ts";
import { exportScript } from "../actions/train_plan.ts";
import { startRun } from "../actions/train_run.ts";
import { Notice } from "../components/controls.tsx";
import { formatCount, formatTimeLeft } from "../format.ts";
import { RateChart } from "./curves.tsx";
import { MemoryFacts, memoryLimit, whyTooLarge } from "./memory_facts.tsx";
import { knownSpeed } from "./progress.ts";
import { patienceProblem, settingsOf } from "./settings_form.ts";
import { dataset, form, gpuMemory, isRunning, model, plan, planError, planning, runs } from "./state.ts";

type Plan = NonNullable<TrainingPlan["plan"]>;

/** What a run will do, before it starts. */
export function PlanCard() {
  const made = plan.value;
  const work = planning.value;
  return (
    <section class="card" aria-labelledby="plan-title" aria-busy={work !== undefined}>
      <h2 id="plan-title">What it takes</h2>
      {work && (
        <div class="progress">
          <progress
            aria-label="Reading the rows"
            max={work.total || undefined}
            value={work.total ? work.done : undefined}
          />
          <p class="progress-text">
            <span>Reading the rows</span>
            {work.total > 0 && (
              <span class="numbers">
                {formatCount(work.done)} of {formatCount(work.total)}
              </span>
            )}
          </p>
        </div>
      )}
      {planError.value && (
        <Notice kind="error">
          <p>{planError.value}</p>
        </Notice>
      )}
      {made && made.problems.length > 0 && (
        <Notice kind="warning">
          <p>
            {made.problems.length === 1 ? "One setting" : `${made.problems.length} settings`} above cannot be used yet.
          </p>
        </Notice>
      )}
      {made?.plan && <PlanFacts plan={made.plan} />}
      <Start plan={made?.plan} />
    </section>
  );
}

const scored = (heldBack: number, rows: number) =>
  heldBack === 0
    ? "none: no rows are held back"
    : `${formatCount(rows)} of ${formatCount(heldBack)} held-back rows scored, ${formatCount(Math.min(24, rows))} answered`;

function PlanFacts({ plan: made }: { plan: Plan }) {
  const epochs = made.stepsPerEpoch > 0 ? made.steps / made.stepsPerEpoch : 0;
  const speed = model.value && knownSpeed(runs.value ?? [], model.value.id);
  const time = speed ? `about ${formatTimeLeft((epochs * made.tokens) / speed)}` : "known after the first steps";
  const facts: [string, string][] = [
    ["Steps", `${formatCount(made.steps)}, ${formatCount(made.stepsPerEpoch)} to an epoch`],
    ["Rows", `${formatCount(made.examples)} learnt, ${formatCount(made.heldBackExamples)} held back`],
    ["Tokens of an epoch", `${formatCount(made.tokens)}, ${formatCount(made.trainedTokens)} of them learnt`],
    ["Each evaluation", scored(made.heldBackExamples, made.scored)],
    ["Longest row", `${formatCount(made.longest)} tokens`],
    ["Time", time],
  ];
  return (
    <>
      <p class="trainable">{made.trainableLine}</p>
      <table class="facts wide-facts">
        <tbody>
          {facts.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <MemoryFacts memory={made.memory} />
      {made.examples === 0 && (
        <Notice kind="error">
          <p>No row is left to learn. Raise the longest row or lower the size of pictures.</p>
        </Notice>
      )}
      {made.heldBackExamples === 0 && made.examples > 0 && (
        <Notice kind="warning">
          <p>
            No rows are held back, so nothing can tell whether the model understands or learns by heart. Hold some back
            in the data step.
          </p>
        </Notice>
      )}
      <LeftOut plan={made} />
      {made.rates.length > 1 && <RateChart rates={made.rates} />}
    </>
  );
}

/** Rows that a run leaves out, never in silence. */
function LeftOut({ plan: { tooLong, failed } }: { plan: Plan }) {
  const count = tooLong.length + failed.length;
  if (count === 0) return null;
  return (
    <details class="report full" open={count < 6}>
      <summary>
        {formatCount(count)} {count === 1 ? "row is" : "rows are"} left out
      </summary>
      <ul class="left-out">
        {tooLong.map(({ number, tokens }) => (
          <li key={number}>
            Row {formatCount(number)}: {formatCount(tokens)} tokens, over the limit
          </li>
        ))}
        {failed.map(({ number, message }) => (
          <li key={number}>
            Row {formatCount(number)}: {message}
          </li>
        ))}
      </ul>
    </details>
  );
}

function Start({ plan: made }: { plan: Plan | undefined }) {
  const [typed, setTyped] = useState<string | undefined>(undefined);
  const values = form.value;
  const data = dataset.value;
  const base = model.value;
  if (!values || !data || !base) return null;
  const { settings } = settingsOf(values);
  const name = typed ?? `${data.name}, r ${settings.lora.r}`;
  const isUsable = made !== undefined && patienceProblem(values).length === 0;
  const limit = memoryLimit(gpuMemory.value);
  const fits = made !== undefined && whyTooLarge(made.memory, limit) === undefined;
  const canStart = isUsable && fits && made.examples > 0 && !isRunning.value && planning.value === undefined;
  return (
    <form
      class="row-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (!canStart) return;
        void startRun(base.id, data.id, values, { name: name.trim(), ...(limit ? { memoryLimit: limit } : {}) });
        location.hash = "#/train/run";
      }}
    >
      <label>
        Name of the run{" "}
        <input type="text" value={name} maxLength={120} onInput={(event) => setTyped(event.currentTarget.value)} />
      </label>
      <button type="submit" class="primary" disabled={!canStart}>
        Start training
      </button>
      <button
        type="button"
        class="quiet"
        disabled={!made}
        onClick={() => void exportScript(base.id, data.id, data.name, values)}
      >
        Continue elsewhere
      </button>
      <span class="hint">
        {isRunning.value
          ? "A run is under way; one at a time."
          : "“Continue elsewhere” writes the same data and settings as a script for Unsloth and TRL."}
      </span>
    </form>
  );
}
