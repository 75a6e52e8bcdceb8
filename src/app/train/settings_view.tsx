import { useEffect, useState } from "preact/hooks";
import type { TrainingPlan } from "../../api/index.ts";
import { resetForm, setField, watchPlan } from "../actions/train_plan.ts";
import { Notice } from "../components/controls.tsx";
import { formatBytes, formatParameters } from "../format.ts";
import { models } from "../state.ts";
import { PlanCard } from "./plan_card.tsx";
import { EXPERT, type Field, PIXELS, SIMPLE } from "./settings_fields.ts";
import { type Form, patienceProblem } from "./settings_form.ts";
import { chosenModel, dataset, form, model, plan, usualForm } from "./state.ts";

type Problems = TrainingPlan["problems"];

/** Step 2: how it is learnt, and what that takes. */
export function SettingsView() {
  useEffect(watchPlan, []);
  const values = form.value;
  if (!values) return <p class="hint">Reading the usual settings …</p>;
  const problems = [...(plan.value?.problems ?? []), ...patienceProblem(values)];
  const isUsual = JSON.stringify(values) === JSON.stringify(usualForm.value);
  return (
    <>
      <section class="card" aria-labelledby="settings-title">
        <div class="card-head full">
          <h2 id="settings-title">How to train</h2>
          <button type="button" class="quiet" disabled={isUsual} onClick={resetForm}>
            Back to the usual settings
          </button>
        </div>
        <ModelField />
        <div class="settings full">
          {SIMPLE.map((field) => (
            <FieldView key={field.key} field={field} values={values} problems={problems} />
          ))}
          <PixelsField values={values} problems={problems} />
        </div>
        <Expert values={values} problems={problems} />
      </section>
      {dataset.value ? (
        <PlanCard />
      ) : (
        <Notice kind="info">
          <p>Choose or make a data set first: what a run takes depends on it.</p>
          <a class="quiet button" href="#/train">
            To the data
          </a>
        </Notice>
      )}
    </>
  );
}

function ModelField() {
  const complete = models.value.filter(({ state }) => state === "complete");
  const chosen = model.value;
  if (!chosen) {
    return (
      <Notice kind="warning">
        <p>No model is stored yet, so there is nothing to train.</p>
        <a class="quiet button" href="#/models">
          Get a model
        </a>
      </Notice>
    );
  }
  return (
    <label class="field">
      Model
      <select
        value={chosen.id}
        onChange={(event) => {
          chosenModel.value = event.currentTarget.value;
        }}
      >
        {complete.map(({ id, name, parameters, bytesStored }) => (
          <option key={id} value={id}>
            {name} ({formatParameters(parameters)}, {formatBytes(bytesStored)})
          </option>
        ))}
      </select>
      <span class="hint">It stays as it is: what is learnt goes into a small adapter beside it.</span>
    </label>
  );
}

function Expert({ values, problems }: { values: Form; problems: Problems }) {
  const [isOpen, setOpen] = useState(false);
  const inside = new Set<string>(EXPERT.flatMap(({ fields }) => fields.map(({ key }) => key)));
  // A problem must not hide in a closed drawer.
  const hasProblem = problems.some(({ field }) => inside.has(field) || field === "parts");
  return (
    <details class="expert full" open={isOpen || hasProblem} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>All settings</summary>
      {EXPERT.map(({ title, fields }) => (
        <fieldset key={title}>
          <legend>{title}</legend>
          <div class="settings">
            {fields.map((field) => (
              <FieldView key={field.key} field={field} values={values} problems={problems} />
            ))}
          </div>
          {title === "What trains" && <Problem problem={problems.find(({ field }) => field === "parts")} id="parts" />}
        </fieldset>
      ))}
      <label class="setting">
        <span class="setting-name">
          Picture pixels <Changed of="maxPixels" values={values} />
        </span>
        <input
          type="text"
          inputMode="numeric"
          value={values.maxPixels}
          onInput={(event) => setField("maxPixels", event.currentTarget.value)}
        />
        <span class="hint">height × width of the largest picture; the choice above, exactly</span>
      </label>
    </details>
  );
}

function Changed({ of, values }: { of: keyof Form; values: Form }) {
  if (!usualForm.value || usualForm.value[of] === values[of]) return null;
  return <span class="changed" title="Not the usual value" role="img" aria-label="changed" />;
}

function Problem({ problem, id, typed }: { problem: Problems[number] | undefined; id: string; typed?: string }) {
  if (!problem) return null;
  return (
    <span class="fail" id={`problem-${id}`} role="alert">
      Expected {problem.expected}
      {typed === "" ? "; nothing is there" : `, found ${typed ?? problem.found}`}. {problem.remedy}
    </span>
  );
}

function FieldView({ field, values, problems }: { field: Field; values: Form; problems: Problems }) {
  const { key, label, hint } = field;
  const problem = problems.find((p) => p.field === key);
  const name = (
    <span class="setting-name">
      {label} <Changed of={key} values={values} />
    </span>
  );
  if (field.kind === "switch") {
    return (
      <label class="setting switch">
        <input
          type="checkbox"
          checked={values[field.key]}
          onChange={(event) => setField(key, event.currentTarget.checked)}
        />
        <span>
          {name}
          <span class="hint">{hint}</span>
        </span>
      </label>
    );
  }
  const id = `setting-${key}`;
  return (
    <div class="setting">
      <label for={id}>{name}</label>
      {field.kind === "choice" ? (
        <select id={id} value={values[field.key]} onChange={(event) => setField(key, event.currentTarget.value)}>
          {field.choices.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      ) : (
        <span class="with-unit">
          <input
            id={id}
            type="text"
            inputMode="decimal"
            value={values[field.key]}
            aria-invalid={problem !== undefined}
            aria-describedby={problem && `problem-${key}`}
            onInput={(event) => setField(key, event.currentTarget.value)}
          />
          {field.unit}
        </span>
      )}
      <Problem problem={problem} id={key} typed={String(values[key]).trim()} />
      <span class="hint">{hint}</span>
    </div>
  );
}

function PixelsField({ values, problems }: { values: Form; problems: Problems }) {
  const known = PIXELS.some(([value]) => value === values.maxPixels.trim());
  const problem = problems.find(({ field }) => field === "maxPixels");
  return (
    <label class="setting">
      <span class="setting-name">
        Size of pictures <Changed of="maxPixels" values={values} />
      </span>
      <select
        value={known ? values.maxPixels.trim() : ""}
        onChange={(event) => setField("maxPixels", event.currentTarget.value)}
      >
        {!known && <option value="">{values.maxPixels} pixels</option>}
        {PIXELS.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
      <Problem problem={problem} id="maxPixels" typed={values.maxPixels.trim()} />
      <span class="hint">
        Larger pictures are made smaller, to this area. More shows more, and takes more memory and time.
      </span>
    </label>
  );
}
