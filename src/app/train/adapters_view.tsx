import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import type { AdapterRecord, AdapterSource } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { folderOfInput, parseHubName } from "../actions/folder.ts";
import { messageOf, toast } from "../actions/notices.ts";
import { chatWith, deleteAdapter, downloadAdapter, importAdapter, renameAdapter } from "../actions/train_history.ts";
import { Notice } from "../components/controls.tsx";
import { Icon } from "../components/icons.tsx";
import { formatBytes, formatCount, formatDay, formatParameters } from "../format.ts";
import { models } from "../state.ts";
import { NameField, Sure } from "./fields.tsx";
import { MergeDialog } from "./merge_dialog.tsx";
import { adapters } from "./shared.ts";
import { model } from "./state.ts";

const importing = signal<string | undefined>(undefined);
const problem = signal<string | undefined>(undefined);

type FileSource = Extract<AdapterSource, { kind: "files" }>;

/** An adapter that was dropped on the page. */
export async function dropAdapter({ name, files }: Omit<FileSource, "kind">): Promise<void> {
  await take({ kind: "files", name: name.replace(/\.zip$/i, ""), files });
}

async function take(source: AdapterSource): Promise<void> {
  const base = model.peek();
  if (!base) {
    problem.value =
      "An adapter is compared with the model that it was made for. Get that model first, on the Models page.";
    return;
  }
  problem.value = undefined;
  importing.value = source.kind === "files" ? source.name : source.kind === "hub" ? source.repo : source.base;
  try {
    const record = await importAdapter(source, base.id, crypto.randomUUID());
    toast(`“${record.name}” is here.`);
  } catch (error) {
    if (!isError(error, "Cancelled")) problem.value = messageOf(error);
  } finally {
    importing.value = undefined;
  }
}

/** Adapters of this browser, and a way in for others. */
export function AdaptersView() {
  return (
    <>
      <section class="card" aria-labelledby="adapters-title">
        <h2 id="adapters-title">Adapters</h2>
        <p class="hint">
          {adapters.value.length === 0
            ? "What runs have learnt will be listed here. Adapters from elsewhere can be imported below."
            : "Choose one for a chat in the chat’s header; the model stays loaded."}
        </p>
        <ul class="model-list full">
          {adapters.value.map((adapter) => (
            <AdapterItem key={adapter.id} adapter={adapter} />
          ))}
        </ul>
      </section>
      <ImportAdapter />
    </>
  );
}

function AdapterItem({ adapter }: { adapter: AdapterRecord }) {
  const [asking, setAsking] = useState(false);
  const [merging, setMerging] = useState(false);
  const { id, name, origin, created, base, modelId, r, alpha, rslora, layers, parameters, bytes, hasVision } = adapter;
  const isHere = models.value.some((record) => record.id === modelId && record.state === "complete");
  return (
    <li class="model">
      <div class="model-head">
        <NameField level="h3" name={name} label="Name of the adapter" onRename={(to) => void renameAdapter(id, to)} />
        <span class="badge">{origin}</span>
      </div>
      <p class="hint numbers">
        {formatDay(created)} · for {base || "a model that its files do not name"} · rank {r}, alpha {alpha}
        {rslora && ", rsLoRA"} · {formatCount(layers)} layers{hasVision && ", vision too"} ·{" "}
        {formatParameters(parameters)} parameters, {formatBytes(bytes)}
      </p>
      {adapter.warnings.map((warning) => (
        <p key={warning} class="hint doubt">
          {warning}
        </p>
      ))}
      {!isHere && <p class="hint doubt">Its model is not stored here any more; import it to use the adapter.</p>}
      <div class="model-buttons">
        <button type="button" class="primary" disabled={!isHere} onClick={() => void chatWith(adapter)}>
          Chat with it
        </button>
        <button type="button" class="quiet" onClick={() => void downloadAdapter(adapter, "peft")}>
          <Icon name="download" />
          PEFT, vLLM
        </button>
        <button
          type="button"
          class="quiet"
          disabled={hasVision}
          title={hasVision ? "llama.cpp's adapters hold language layers only" : undefined}
          onClick={() => void downloadAdapter(adapter, "gguf")}
        >
          <Icon name="download" />
          llama.cpp
        </button>
        <button type="button" class="quiet" onClick={() => setMerging(true)}>
          Merge …
        </button>
        <button type="button" class="quiet danger" onClick={() => setAsking(true)}>
          Delete
        </button>
      </div>
      {merging && <MergeDialog adapter={adapter} onClose={() => setMerging(false)} />}
      {asking && (
        <Sure
          title={`Delete ${name}?`}
          text="It is gone for good; chats that use it answer without it. Download it first if you may want it again."
          onNo={() => setAsking(false)}
          onYes={() => void deleteAdapter(id, name)}
        />
      )}
    </li>
  );
}

/** A Hub name, or any other address of a folder. */
function sourceOf(text: string): AdapterSource | string {
  const hub = parseHubName(text);
  if (hub) return { kind: "hub", ...hub };
  if (/^https?:\/\//.test(text.trim()) && URL.canParse(text.trim()))
    return { kind: "url", base: text.trim().replace(/\/?$/, "/") };
  return `“${text}” is neither owner/name on huggingface.co nor the address of a folder.`;
}

function ImportAdapter() {
  const [text, setText] = useState("");
  const busy = importing.value;
  const base = model.value;
  return (
    <section class="card" aria-labelledby="import-adapter-title">
      <h2 id="import-adapter-title">Import an adapter</h2>
      <p class="hint">
        A LoRA adapter as PEFT writes it: adapter_config.json and adapter_model.safetensors. Drop its folder or zip
        anywhere here. {base && `It is compared with ${base.name}, tensor by tensor.`}
      </p>
      {problem.value && (
        <Notice kind="error">
          <p>{problem.value}</p>
        </Notice>
      )}
      {busy ? (
        <p class="stage">
          <span class="spinner" aria-hidden="true" /> Reading {busy} …
        </p>
      ) : (
        <form
          class="row-form full"
          onSubmit={(event) => {
            event.preventDefault();
            const source = sourceOf(text);
            if (typeof source === "string") problem.value = source;
            else void take(source);
          }}
        >
          <input
            type="text"
            class="grow"
            spellcheck={false}
            autocapitalize="off"
            placeholder="owner/name, or an address"
            aria-label="Hub name or address of the adapter"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
          <button type="submit" class="primary" disabled={text.trim() === ""}>
            Import
          </button>
          <PickFiles />
        </form>
      )}
    </section>
  );
}

function PickFiles() {
  return (
    <>
      <label class="quiet button">
        Choose a folder
        <input
          type="file"
          class="visually-hidden"
          {...{ webkitdirectory: true }}
          onChange={(event) => {
            const { files } = event.currentTarget;
            const source = files?.length ? folderOfInput(files) : undefined;
            event.currentTarget.value = "";
            if (source) void take(source);
          }}
        />
      </label>
      <label class="quiet button">
        Choose a zip
        <input
          type="file"
          class="visually-hidden"
          accept=".zip,.json,.safetensors"
          multiple
          onChange={(event) => {
            const files = [...(event.currentTarget.files ?? [])];
            event.currentTarget.value = "";
            if (files.length > 0)
              void dropAdapter({ name: files[0]!.name, files: files.map((file) => ({ path: file.name, file })) });
          }}
        />
      </label>
    </>
  );
}
