import { useState } from "preact/hooks";
import type { ModelRecord } from "../../api/index.ts";
import { canPickFolders, exportModel, renameModel } from "../actions/library.ts";
import type { ImportOrigin } from "../state.ts";
import { resume } from "./import_card.tsx";
import { MemoryView } from "./memory_view.tsx";

/** What is done with a stored model now and then: another name, its memory, handing it on, getting it again. */
export function ModelMore(props: { record: ModelRecord; origin: ImportOrigin | undefined; busy: boolean }) {
  const { record, origin, busy } = props;
  const [isOpen, setOpen] = useState(false);
  const [name, setName] = useState(record.name);
  return (
    <div class="model-more">
      <details class="more" onToggle={(e) => setOpen(e.currentTarget.open)}>
        <summary>Will it fit?</summary>
        {isOpen && <MemoryView id={record.id} />}
      </details>
      <details class="more">
        <summary>Rename, export, get again</summary>
        <form
          class="row-form"
          onSubmit={(event) => {
            event.preventDefault();
            void renameModel(record.id, name);
          }}
        >
          <label>
            Name <input type="text" maxLength={120} value={name} onInput={(e) => setName(e.currentTarget.value)} />
          </label>
          <button type="submit" class="quiet" disabled={name.trim() === "" || name.trim() === record.name}>
            Rename
          </button>
        </form>
        <div class="row-form">
          {canPickFolders() && (
            <button type="button" class="quiet" disabled={busy} onClick={() => void exportModel(record, "folder")}>
              Export as a folder
            </button>
          )}
          <button type="button" class="quiet" disabled={busy} onClick={() => void exportModel(record, "zip")}>
            Export as a zip file
          </button>
          <button type="button" class="quiet" disabled={busy} onClick={() => resume(record, origin)}>
            Get again
          </button>
        </div>
        <p class="hint">
          An export is the model as it is stored here. Whoever drops it on this page, or opens it from an address, has
          the same model without converting anything; every part of it is compared with its SHA-256. Getting it again
          reads from the source only what is damaged or missing here.
        </p>
      </details>
    </div>
  );
}
