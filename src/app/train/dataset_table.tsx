import { useState } from "preact/hooks";
import type { DatasetRow, DatasetSummary } from "../../api/index.ts";
import { change, deleteRows, redo, undo } from "../actions/train_data.ts";
import { IconButton } from "../components/controls.tsx";
import { Icon } from "../components/icons.tsx";
import { formatCount } from "../format.ts";
import { Scroll } from "./fields.tsx";
import { QuickRow } from "./quick_row.tsx";
import { RowEditor } from "./row_editor.tsx";
import { lastTurns, picturesOf, RowPicture, textOf } from "./row_picture.tsx";
import { SeenDialog } from "./seen_dialog.tsx";
import { editedRow, rows, seenRow } from "./state.ts";

/** Rows of one page. */
const PAGE = 25;

const searchable = (row: DatasetRow) => row.messages.map(textOf).join("\n").toLowerCase();

/** The rows of the open data set: looking, searching, changing. */
export function DatasetTable({ summary }: { summary: DatasetSummary }) {
  const [words, setWords] = useState("");
  const [part, setPart] = useState<DatasetRow["part"] | "">("");
  const [page, setPage] = useState(0);
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const all = rows.value;
  if (!all) return <p class="hint">Reading the rows …</p>;
  const wanted = words.trim().toLowerCase();
  const found = all.filter(
    (row) => (part === "" || row.part === part) && (wanted === "" || searchable(row).includes(wanted)),
  );
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const at = Math.min(page, pages - 1);
  const shown = found.slice(at * PAGE, (at + 1) * PAGE);
  const kept = new Set(all.filter(({ id }) => chosen.has(id)).map(({ id }) => id));
  const choose = (id: string, on: boolean) => {
    const next = new Set(kept);
    if (on) next.add(id);
    else next.delete(id);
    setChosen(next);
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys are a second way; the buttons inside are the first
    <div class="rows-view full" onKeyDown={onUndoKeys}>
      <div class="row-form toolbar">
        <label class="search">
          <Icon name="search" />
          <input
            type="search"
            placeholder="Search rows"
            aria-label="Search rows"
            value={words}
            onInput={(event) => {
              setWords(event.currentTarget.value);
              setPage(0);
            }}
          />
        </label>
        <select
          aria-label="Part"
          value={part}
          onChange={(event) => {
            setPart(event.currentTarget.value as DatasetRow["part"] | "");
            setPage(0);
          }}
        >
          <option value="">All rows</option>
          <option value="train">To train</option>
          <option value="heldBack">Held back</option>
        </select>
        <IconButton icon="undo" label="Undo" disabled={!summary.canUndo} keys="Control+Z" onClick={() => void undo()} />
        <IconButton
          icon="forward"
          label="Redo"
          disabled={!summary.canRedo}
          keys="Control+Shift+Z"
          onClick={() => void redo()}
        />
        {kept.size > 0 && (
          <button type="button" class="quiet danger" onClick={() => void deleteRows([...kept])}>
            Delete {formatCount(kept.size)}
          </button>
        )}
        <button
          type="button"
          class="quiet"
          onClick={() => {
            editedRow.value = "new";
          }}
        >
          <Icon name="plus" />
          Add a row
        </button>
      </div>
      <QuickRow />
      {shown.length > 0 && (
        <Scroll class="table-scroll" label="Rows">
          <table class="results rows">
            <thead>
              <tr>
                <th scope="col">
                  <span class="visually-hidden">Choose</span>
                </th>
                <th scope="col">Picture</th>
                <th scope="col">Question</th>
                <th scope="col">Answer</th>
                <th scope="col">Part</th>
                <th scope="col">
                  <span class="visually-hidden">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {shown.map((row) => (
                <Row key={row.id} row={row} isChosen={kept.has(row.id)} onChoose={(on) => choose(row.id, on)} />
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
      {shown.length === 0 && <p class="hint">{all.length === 0 ? "No rows yet." : "No row has these words."}</p>}
      {pages > 1 && (
        <div class="row-form pager">
          <button type="button" class="quiet" disabled={at === 0} onClick={() => setPage(at - 1)}>
            Earlier
          </button>
          <span class="hint numbers" role="status">
            {formatCount(at * PAGE + 1)}–{formatCount(Math.min(found.length, (at + 1) * PAGE))} of{" "}
            {formatCount(found.length)}
          </span>
          <button type="button" class="quiet" disabled={at === pages - 1} onClick={() => setPage(at + 1)}>
            Later
          </button>
        </div>
      )}
      <SplitForm key={summary.hash} summary={summary} />
      {editedRow.value && <RowEditor row={editedRow.value} />}
      {seenRow.value && <SeenDialog row={seenRow.value} rows={found} />}
    </div>
  );
}

function onUndoKeys(event: KeyboardEvent): void {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
  // In a field, the keys undo typing.
  if (event.target instanceof HTMLInputElement && event.target.type !== "checkbox") return;
  if (event.target instanceof HTMLTextAreaElement) return;
  event.preventDefault();
  void (event.shiftKey ? redo() : undo());
}

function Row({ row, isChosen, onChoose }: { row: DatasetRow; isChosen: boolean; onChoose: (on: boolean) => void }) {
  const { question, answer } = lastTurns(row);
  const pictures = picturesOf(row);
  const turns = row.messages.filter(({ role }) => role === "assistant").length;
  return (
    <tr>
      <td>
        <input
          type="checkbox"
          aria-label={`Choose row ${row.number}`}
          checked={isChosen}
          onChange={(event) => onChoose(event.currentTarget.checked)}
        />
      </td>
      <td>
        <button
          type="button"
          class="row-open"
          aria-label={`What the model sees of row ${row.number}`}
          title="What the model sees"
          onClick={() => {
            seenRow.value = row;
          }}
        >
          {pictures[0] ? <RowPicture id={pictures[0]} /> : <span class="row-picture missing">none</span>}
          {pictures.length > 1 && <span class="badge">{pictures.length}</span>}
        </button>
      </td>
      <td class="text">
        {question}
        {turns > 1 && <span class="hint"> (turn {turns})</span>}
      </td>
      <td class="text">{answer}</td>
      <td>
        <span class={`part ${row.part}`}>{row.part === "train" ? "train" : "held back"}</span>
      </td>
      <td class="row-actions">
        <button
          type="button"
          class="quiet small"
          aria-label={`What the model sees of row ${row.number}`}
          onClick={() => {
            seenRow.value = row;
          }}
        >
          Look
        </button>
        <IconButton
          icon="edit"
          label={`Edit row ${row.number}`}
          onClick={() => {
            editedRow.value = row;
          }}
        />
        <IconButton icon="trash" label={`Delete row ${row.number}`} onClick={() => void deleteRows([row.id])} />
      </td>
    </tr>
  );
}

/** Which rows are kept back to see whether the model has understood or learnt by heart. */
function SplitForm({ summary }: { summary: DatasetSummary }) {
  const { split, hasGivenSplit } = summary;
  const random = split.kind === "random" ? split : { seed: 3407, heldBack: 0.1 };
  const [kind, setKind] = useState(split.kind);
  const [percent, setPercent] = useState(String(Math.round(1000 * random.heldBack) / 10));
  const [seed, setSeed] = useState(String(random.seed));
  const share = Number(percent.replace(",", ".")) / 100;
  const isGood = kind === "given" || (share >= 0 && share < 1 && percent.trim() !== "" && /^\d+$/.test(seed.trim()));
  const next = kind === "given" ? { kind } : { kind, seed: Number(seed), heldBack: share };
  const isSame = JSON.stringify(next) === JSON.stringify(split);
  return (
    <form
      class="row-form split"
      onSubmit={(event) => {
        event.preventDefault();
        if (isGood) void change({ kind: "split", split: next });
      }}
    >
      {hasGivenSplit && (
        <label>
          Held back{" "}
          <select value={kind} onChange={(event) => setKind(event.currentTarget.value as typeof kind)}>
            <option value="given">as the files say</option>
            <option value="random">by chance</option>
          </select>
        </label>
      )}
      {kind === "random" && (
        <>
          <label>
            Held back{" "}
            <input
              type="number"
              min={0}
              max={90}
              step="any"
              value={percent}
              onInput={(event) => setPercent(event.currentTarget.value)}
            />{" "}
            %
          </label>
          <label>
            Seed{" "}
            <input
              type="number"
              min={0}
              step={1}
              value={seed}
              onInput={(event) => setSeed(event.currentTarget.value)}
            />
          </label>
        </>
      )}
      <button type="submit" class="quiet" disabled={!isGood || isSame}>
        Split
      </button>
      <span class="hint">
        Rows held back are never learnt: they show whether the model understands. Rows of one picture stay together.
      </span>
    </form>
  );
}
