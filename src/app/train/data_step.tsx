import { useState } from "preact/hooks";
import type { DatasetSource, DatasetSummary } from "../../api/index.ts";
import { folderOfInput } from "../actions/folder.ts";
import {
  cancelReading,
  createDataset,
  deleteDataset,
  exportDataset,
  openDataset,
  readFiles,
  renameDataset,
} from "../actions/train_data.ts";
import { Notice } from "../components/controls.tsx";
import { Icon } from "../components/icons.tsx";
import { formatCount } from "../format.ts";
import { DatasetTable } from "./dataset_table.tsx";
import { DraftView } from "./draft_view.tsx";
import { NameField, Sure } from "./fields.tsx";
import { dataError, dataset, datasets, draft, readingFiles } from "./state.ts";

/** Step 1: from files, the example or typing to a data set. */
export function DataStep() {
  const open = dataset.value;
  return (
    <>
      {dataError.value && (
        <Notice kind="error">
          <p>{dataError.value}</p>
        </Notice>
      )}
      {readingFiles.value ? (
        <Reading />
      ) : draft.value ? (
        <DraftView draft={draft.value} />
      ) : open ? (
        <OpenDataset summary={open} />
      ) : (
        <>
          <Sources />
          <Stored />
        </>
      )}
    </>
  );
}

function Reading() {
  const { name, rows, pictures } = readingFiles.value!;
  return (
    <section class="card" aria-label={`Reading ${name}`}>
      <h2>Reading {name}</h2>
      <progress aria-label={`Reading ${name}`} class="full" />
      <p class="hint numbers">
        {formatCount(rows)} rows, {formatCount(pictures)} pictures
      </p>
      <button type="button" class="quiet" onClick={cancelReading}>
        Cancel
      </button>
    </section>
  );
}

/** Loose files have no folder: they are named after the first. */
function looseFiles(files: FileList): DatasetSource {
  const list = [...files];
  const name = list[0]!.name.replace(/\.[^.]+$/, "");
  return { kind: "files", name, files: list.map((file) => ({ path: file.name, file })) };
}

function Sources() {
  return (
    <section class="card" aria-labelledby="sources-title">
      <h2 id="sources-title">What should the model learn?</h2>
      <p>
        Rows of a picture, a question and the right answer. A few dozen are a start, a few hundred are good. Nothing
        leaves this device.
      </p>
      <div class="drop-folder full">
        <Icon name="folder" />
        <p>Drop a folder, a zip or files anywhere on this page</p>
        <div class="row-form centred">
          <label class="quiet button">
            Choose a folder
            <input
              type="file"
              class="visually-hidden"
              // Not in the DOM's types: picks a folder with all that is in it.
              {...{ webkitdirectory: true }}
              onChange={(event) => {
                const { files } = event.currentTarget;
                const source = files?.length ? folderOfInput(files) : undefined;
                if (source) void readFiles(source);
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
                if (files?.length) void readFiles(looseFiles(files));
              }}
            />
          </label>
        </div>
        <details class="more">
          <summary>Which files?</summary>
          <ul class="hint formats">
            <li>
              <code>.csv</code>, <code>.json</code>, <code>.jsonl</code> or <code>.parquet</code> with the columns
              image, question and answer, beside the pictures
            </li>
            <li>“messages” as TRL and OpenAI write them, “conversations” as LLaVA and ShareGPT do</li>
            <li>ChartQA as released, or as parquet from the Hub</li>
            <li>a zip of any of these</li>
          </ul>
        </details>
      </div>
      <div class="row-form">
        <button type="button" class="primary" onClick={() => void readFiles({ kind: "example" })}>
          Try the example
        </button>
        <button type="button" class="quiet" onClick={() => void createDataset()}>
          <Icon name="edit" />
          Type rows in
        </button>
        <span class="hint">Dot charts: a kind that the demo model has never seen.</span>
      </div>
    </section>
  );
}

function Stored() {
  const list = datasets.value;
  if (!list || list.length === 0) return null;
  return (
    <section class="card" aria-labelledby="datasets-title">
      <h2 id="datasets-title">Your data sets</h2>
      <ul class="model-list full">
        {list.map((summary) => (
          <li key={summary.id} class="model">
            <div class="model-head">
              <button type="button" class="link" onClick={() => void openDataset(summary.id)}>
                {summary.name}
              </button>
            </div>
            <Facts summary={summary} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Facts({ summary }: { summary: DatasetSummary }) {
  const { rows, trainRows, heldBackRows, pictures, formats } = summary;
  return (
    <p class="hint numbers">
      {formatCount(rows)} rows: {formatCount(trainRows)} to train, {formatCount(heldBackRows)} held back ·{" "}
      {formatCount(pictures)} pictures{formats.length > 0 && ` · ${formats.join(", ")}`}
    </p>
  );
}

function OpenDataset({ summary }: { summary: DatasetSummary }) {
  const [asking, setAsking] = useState(false);
  const { id, name } = summary;
  return (
    <section class="card" aria-label={`Data set ${name}`}>
      <div class="dataset-head full">
        <NameField name={name} label="Name of the data set" onRename={(to) => void renameDataset(id, to)} />
        <div class="row-form">
          <button type="button" class="quiet" onClick={() => void openDataset(undefined)}>
            Other data
          </button>
          <button
            type="button"
            class="quiet"
            disabled={summary.rows === 0}
            onClick={() => void exportDataset(id, name)}
          >
            <Icon name="download" />
            Export
          </button>
          <button type="button" class="quiet danger" onClick={() => setAsking(true)}>
            Delete
          </button>
        </div>
      </div>
      <Facts summary={summary} />
      <DatasetTable summary={summary} />
      <a class="primary button" href="#/train/settings">
        Next: settings
      </a>
      {asking && (
        <Sure
          title={`Delete ${name}?`}
          text="Its rows and pictures are deleted from this browser. Export it first if you may want it again."
          onNo={() => setAsking(false)}
          onYes={() => void deleteDataset(id, name)}
        />
      )}
    </section>
  );
}
