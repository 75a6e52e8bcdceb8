import { useState } from "preact/hooks";
import type { Sampling } from "../../api/index.ts";
import { change, keepForNewChats } from "../actions/conversations.ts";
import { conversation, currentChat, dialog, loaded, sampling } from "../state.ts";
import { Dialog } from "./controls.tsx";

type Field = Exclude<keyof Sampling, "stop">;
interface FieldSpec {
  key: Field;
  label: string;
  hint: string;
  min: number;
  max: number;
  step: number;
}

const FIELDS: FieldSpec[] = [
  { key: "temperature", label: "Temperature", hint: "Higher is more varied", min: 0, max: 2, step: 0.05 },
  { key: "topK", label: "Top-k", hint: "Only the k likeliest tokens; 0 is off", min: 0, max: 1000, step: 1 },
  {
    key: "topP",
    label: "Top-p",
    hint: "Only the likeliest tokens that make up this share; 1 is off",
    min: 0.01,
    max: 1,
    step: 0.01,
  },
  {
    key: "minP",
    label: "Min-p",
    hint: "Only tokens at least this likely, relative to the likeliest; 0 is off",
    min: 0,
    max: 1,
    step: 0.01,
  },
  {
    key: "repetitionPenalty",
    label: "Repetition penalty",
    hint: "Above 1 avoids tokens that have occurred; 1 is off",
    min: 0.5,
    max: 2,
    step: 0.01,
  },
  {
    key: "presencePenalty",
    label: "Presence penalty",
    hint: "Subtracted once for tokens already written; 0 is off",
    min: -2,
    max: 2,
    step: 0.1,
  },
  {
    key: "seed",
    label: "Seed",
    hint: "The same seed gives the same answer; 0 draws a new one each time",
    min: 0,
    max: 4294967295,
    step: 1,
  },
  { key: "maxTokens", label: "Most tokens of an answer", hint: "The answer stops there", min: 1, max: 262144, step: 1 },
];

const THINKING: FieldSpec = {
  key: "thinkingBudget",
  label: "Most tokens of its thoughts",
  hint: "Thoughts are ended there and the answer begins; 0 lets it think as long as it likes",
  min: 0,
  max: 262144,
  step: 1,
};

/** System prompt and sampling of the open conversation. Every change holds from the next answer on. */
export function SettingsDialog() {
  const close = () => {
    dialog.value = undefined;
  };
  const values = sampling.value;
  return (
    <Dialog title="Settings of this chat" class="sheet" onClose={close}>
      <label class="field">
        System prompt
        <textarea
          rows={4}
          placeholder="For example: Answer in one sentence."
          value={conversation.value.system}
          onChange={(e) => change(currentChat.peek(), { system: e.currentTarget.value }, false)}
        />
      </label>
      {values ? <SamplingFields values={values} /> : <p class="hint">Sampling can be set when a model is loaded.</p>}
      <div class="dialog-buttons">
        <button type="button" class="quiet" onClick={reset} disabled={!conversation.value.sampling}>
          Back to the model's own
        </button>
        <button type="button" class="quiet" onClick={keepForNewChats}>
          Keep for new chats
        </button>
        <button type="button" class="primary" onClick={close}>
          Done
        </button>
      </div>
    </Dialog>
  );
}

/** Without a sampling of its own, a conversation follows the loaded model. */
function reset(): void {
  const chat = currentChat.peek();
  const { sampling: _, ...rest } = chat.peek();
  chat.value = rest;
  change(chat, {}, false);
}

function SamplingFields({ values }: { values: Sampling }) {
  const greedy = values.temperature === 0;
  const [before, setBefore] = useState(values.temperature || loaded.value?.defaults.temperature || 0.7);
  const set = (parts: Partial<Sampling>) => change(currentChat.peek(), { sampling: { ...values, ...parts } }, false);
  const changed = (key: Field) =>
    loaded.value !== undefined && (loaded.value.defaults[key] ?? 0) !== (values[key] ?? 0);
  return (
    <fieldset class="sampling">
      <legend>Sampling</legend>
      <label class="switch">
        <input
          type="checkbox"
          checked={greedy}
          onChange={(event) => {
            if (event.currentTarget.checked) setBefore(values.temperature);
            set({ temperature: event.currentTarget.checked ? 0 : before || 0.7 });
          }}
        />
        <span>
          Greedy <span class="hint">always the likeliest token; no chance</span>
        </span>
      </label>
      {[...FIELDS, ...(loaded.value?.isThinking ? [THINKING] : [])].map((field) => {
        const unused = greedy && ["temperature", "topK", "topP", "minP", "seed"].includes(field.key);
        return (
          <NumberField
            key={field.key}
            field={field}
            value={values[field.key] ?? 0}
            disabled={unused}
            changed={changed(field.key)}
            set={set}
          />
        );
      })}
      <label class="field">
        Stop strings <span class="hint">one in each line; the answer ends before the first that occurs</span>
        <textarea
          rows={2}
          value={values.stop.join("\n")}
          onChange={(e) => set({ stop: e.currentTarget.value.split("\n").filter((line) => line !== "") })}
        />
      </label>
    </fieldset>
  );
}

function NumberField(props: {
  field: FieldSpec;
  value: number;
  disabled: boolean;
  changed: boolean;
  set: (parts: Partial<Sampling>) => void;
}) {
  const { key, label, hint, min, max, step } = props.field;
  // A greedy temperature is 0, below the smallest that the box takes.
  const take = (input: HTMLInputElement) => {
    const value = Math.min(max, Math.max(min, Number(input.value)));
    if (input.value.trim() === "" || !Number.isFinite(value)) input.value = String(props.value);
    else props.set({ [key]: step === 1 ? Math.round(value) : value });
  };
  return (
    <label class="number-field">
      <span>
        {label}{" "}
        {props.changed && <span class="changed" title="Not the model's own value" role="img" aria-label="changed" />}
        <span class="hint">{hint}</span>
      </span>
      <input
        type="number"
        min={min}
        max={max}
        step={step}
        value={props.value}
        disabled={props.disabled}
        onChange={(e) => take(e.currentTarget)}
      />
    </label>
  );
}
