import { signal } from "@preact/signals";
import { useRef, useState } from "preact/hooks";
import type { ModelRecord, ModelSource, WeightScheme } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { folderOfDrop, folderOfInput } from "../actions/folder.ts";
import { DEMO_SCHEME, planImport } from "../actions/models.ts";
import { messageOf } from "../actions/notices.ts";
import { engine } from "../engine_link.ts";
import { formatBytes, formatCount } from "../format.ts";
import { type ImportOrigin, importError, importTask } from "../state.ts";
import { Notice } from "./controls.tsx";
import { HubFields, hubSource, mirror, repo, restoreToken, withToken } from "./hub_fields.tsx";
import { Icon } from "./icons.tsx";
import { planned } from "./import_state.ts";
import { PlanView } from "./plan_view.tsx";

type Place = "hub" | "folder" | "url";

const place = signal<Place>("hub");
const base = signal("");
const folder = signal<Extract<ModelSource, { kind: "files" }> | undefined>(undefined);
const scheme = signal<WeightScheme>("q4a32");
const planning = signal<string | undefined>(undefined);
const problem = signal<string | undefined>(undefined);

const SCHEME_WORDS: [WeightScheme, string, string][] = [
  ["q4a32", "4-bit, groups of 32", "The usual choice: a third of the size, nearly the quality"],
  ["q4a64", "4-bit, groups of 64", "A little smaller, a little less exact"],
  ["bf16", "16-bit", "As in the file; needs three to four times the memory"],
];

/** The source that the form describes, or what is still missing. */
function sourceOfForm(): ModelSource | string {
  if (place.value === "folder") return folder.value ?? "Choose a folder first.";
  if (place.value === "url") {
    if (!URL.canParse(base.value, document.baseURI) || base.value.trim() === "")
      return "Enter the address of a folder.";
    return { kind: "url", base: base.value.trim().replace(/\/?$/, "/") };
  }
  return hubSource();
}

async function makePlan(source: ModelSource, chosen: WeightScheme): Promise<void> {
  const taskId = crypto.randomUUID();
  planned.value = undefined;
  problem.value = undefined;
  importError.value = undefined;
  planning.value = taskId;
  try {
    const plan = await planImport(source, chosen, taskId);
    if (planning.value === taskId) planned.value = { plan, source, scheme: chosen };
  } catch (error) {
    if (!isError(error, "Cancelled") && planning.value === taskId) problem.value = messageOf(error);
  } finally {
    if (planning.value === taskId) planning.value = undefined;
  }
}

/** Goes on with an interrupted import; a folder must be chosen again. */
export function resume(record: ModelRecord, origin: ImportOrigin | undefined): void {
  scheme.value = record.scheme;
  const source = origin?.source;
  if (source?.kind === "hub" || source?.kind === "url" || source?.kind === "demo") {
    if (source.kind === "hub") {
      repo.value = source.repo;
      mirror.value = source.endpoint ?? "";
    }
    if (source.kind === "url") base.value = source.base;
    if (source.kind !== "demo") place.value = source.kind;
    void makePlan(
      source.kind === "hub" ? withToken(source) : source,
      source.kind === "demo" ? DEMO_SCHEME : record.scheme,
    );
  } else {
    place.value = "folder";
    problem.value = `Choose the folder of ${record.name} again; the import then goes on where it stopped.`;
  }
  document.querySelector("#import-title")?.scrollIntoView({ block: "start" });
}

export function ImportCard() {
  const asked = useRef(false);
  if (!asked.current) {
    asked.current = true;
    void restoreToken();
  }
  const task = importTask.value;
  const submit = () => {
    const source = sourceOfForm();
    if (typeof source === "string") {
      problem.value = source;
      return;
    }
    void makePlan(source, scheme.value);
  };
  return (
    <section class="card" aria-labelledby="import-title">
      <h2 id="import-title">Get a model</h2>
      <p>
        Any Qwen3-VL checkpoint (2B, 4B, 8B, 32B) as safetensors, GGUF or ONNX. It is read once, made smaller while it
        streams, and stored here; afterwards no network is needed.
      </p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        <fieldset class="tabs">
          <legend class="visually-hidden">Where from</legend>
          {(["hub", "folder", "url"] as const).map((name) => (
            <label key={name} class={place.value === name ? "chosen" : ""}>
              <input
                type="radio"
                name="place"
                class="visually-hidden"
                checked={place.value === name}
                onChange={() => {
                  place.value = name;
                  planned.value = undefined;
                  problem.value = undefined;
                }}
              />
              {{ hub: "Hugging Face Hub", folder: "Folder", url: "Address" }[name]}
            </label>
          ))}
        </fieldset>
        {place.value === "hub" && <HubFields />}
        {place.value === "folder" && <FolderField />}
        {place.value === "url" && (
          <label class="field">
            Address of the folder
            <input
              type="text"
              inputMode="url"
              placeholder="http://localhost:8000/Qwen3-VL-4B-Instruct/"
              value={base.value}
              onInput={(e) => {
                base.value = e.currentTarget.value;
              }}
            />
            <span class="hint">
              Must answer range requests, allow this site (CORS), and use https unless it is on this computer. Only this
              address is contacted.
            </span>
          </label>
        )}
        <fieldset class="choices">
          <legend>Weights</legend>
          {SCHEME_WORDS.map(([name, label, hint]) => (
            <label key={name}>
              <input
                type="radio"
                name="scheme"
                checked={scheme.value === name}
                onChange={() => {
                  scheme.value = name;
                  planned.value = undefined;
                }}
              />
              <span>
                {label} <span class="hint">{hint}</span>
              </span>
            </label>
          ))}
        </fieldset>
        {problem.value && (
          <Notice
            kind="error"
            onDismiss={() => {
              problem.value = undefined;
            }}
          >
            <p>{problem.value}</p>
          </Notice>
        )}
        {importError.value && !task && (
          <Notice
            kind="error"
            onDismiss={() => {
              importError.value = undefined;
            }}
          >
            <p>{importError.value} What was stored is kept: going on does not read it again.</p>
          </Notice>
        )}
        {planning.value ? (
          <div class="row-form">
            <span class="stage">
              <span class="spinner" aria-hidden="true" /> Reading the list of tensors …
            </span>
            <button type="button" class="quiet" onClick={cancelPlanning}>
              Cancel
            </button>
          </div>
        ) : (
          !planned.value && (
            <button type="submit" class="primary" disabled={task !== undefined}>
              Show what it takes
            </button>
          )
        )}
      </form>
      {planned.value && !task && (
        <PlanView
          {...planned.value}
          onDone={() => {
            planned.value = undefined;
          }}
        />
      )}
    </section>
  );
}

function cancelPlanning(): void {
  const id = planning.value;
  planning.value = undefined;
  if (id)
    void engine()
      .cancel(id)
      .catch(() => {});
}

function takeFolder(source: typeof folder.value): void {
  place.value = "folder";
  folder.value = source;
  planned.value = undefined;
  problem.value = source ? undefined : "The folder is empty. Choose the one that holds config.json.";
}

/** Takes a folder that was dropped, there or anywhere on the Models screen. */
export function takeDrop(data: DataTransfer): void {
  folderOfDrop(data).then(takeFolder, (error) => {
    place.value = "folder";
    problem.value = `The folder could not be read: ${messageOf(error)}`;
  });
}

function FolderField() {
  const [over, setOver] = useState(false);
  const chosen = folder.value;
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dropping is a second way; the picker inside is the first
    <div
      class={`drop-folder ${over ? "over" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (event.dataTransfer) takeDrop(event.dataTransfer);
      }}
    >
      <Icon name="folder" />
      {chosen ? (
        <p>
          <strong>{chosen.name}</strong>: {formatCount(chosen.files.length)} files,{" "}
          {formatBytes(chosen.files.reduce((sum, f) => sum + f.file.size, 0))}
        </p>
      ) : (
        <p>Drop the folder of a checkpoint here</p>
      )}
      <label class="quiet button">
        {chosen ? "Choose another" : "Choose a folder"}
        <input
          type="file"
          class="visually-hidden"
          // Not in the DOM's types: picks a folder with all that is in it.
          {...{ webkitdirectory: true }}
          onChange={(event) => {
            const { files } = event.currentTarget;
            if (files?.length) takeFolder(folderOfInput(files));
          }}
        />
      </label>
      <label class="quiet button">
        Choose files
        <input
          type="file"
          class="visually-hidden"
          multiple
          onChange={(event) => {
            const { files } = event.currentTarget;
            if (files?.length) takeFolder(folderOfInput(files));
          }}
        />
      </label>
      <span class="hint">
        It holds config.json, tokenizer.json and the .safetensors files, or two GGUF files (the language model and its
        mmproj), or an ONNX export beside these JSON files, or it is what this page has exported (a folder or a zip
        file). Nothing is uploaded.
      </span>
    </div>
  );
}
