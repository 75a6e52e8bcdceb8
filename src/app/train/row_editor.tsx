import { useState } from "preact/hooks";
import type { DatasetRow, MessagePart, Picture } from "../../api/index.ts";
import { change } from "../actions/train_data.ts";
import { Dialog, IconButton } from "../components/controls.tsx";
import { Icon } from "../components/icons.tsx";
import { pictureAddress } from "../picture_file.ts";
import { takePictures } from "./quick_row.tsx";
import { RowPicture, textOf } from "./row_picture.tsx";
import { dataError, editedRow } from "./state.ts";

interface Turn {
  key: string;
  role: "system" | "user" | "assistant";
  text: string;
  pictures: string[];
  /** As they were, so that a turn that was not touched stays as it is written. */
  parts?: MessagePart[];
}

const turn = (role: Turn["role"]): Turn => ({ key: crypto.randomUUID(), role, text: "", pictures: [] });

function turnsOf(row: DatasetRow): Turn[] {
  return row.messages.map((message) => ({
    key: crypto.randomUUID(),
    role: message.role,
    text: textOf(message),
    pictures: message.parts.flatMap((part) => (part.type === "image" ? part.pictureId : [])),
    parts: message.parts,
  }));
}

function messageOf({ role, text, pictures, parts }: Turn): DatasetRow["messages"][number] {
  const images = pictures.map((pictureId): MessagePart => ({ type: "image", pictureId }));
  return { role, parts: parts ?? (text === "" ? images : [...images, { type: "text", text }]) };
}

const WORDS = { system: "System prompt", user: "Question", assistant: "Answer" };

/** Adds or changes a row: one question and answer, or a longer conversation. */
export function RowEditor({ row }: { row: DatasetRow | "new" }) {
  const [turns, setTurns] = useState(() => (row === "new" ? [turn("user"), turn("assistant")] : turnsOf(row)));
  const [fresh, setFresh] = useState<Picture[]>([]);
  const [problem, setProblem] = useState<string | undefined>(undefined);
  const close = () => {
    editedRow.value = undefined;
  };
  const set = (key: string, parts: Partial<Turn>) =>
    setTurns(
      turns.map((t) => (t.key === key ? { key, role: t.role, text: t.text, pictures: t.pictures, ...parts } : t)),
    );
  const add = async (key: string, before: string[], files: Iterable<File>) => {
    const taken = await takePictures(files);
    setProblem(taken.problem);
    setFresh((known) => [...known, ...taken.pictures]);
    set(key, { pictures: [...new Set([...before, ...taken.pictures.map(({ id }) => id)])] });
  };
  const answers = turns.filter(({ role }) => role === "assistant");
  const isReady = answers.length > 0 && turns.every(({ text, pictures }) => text.trim() !== "" || pictures.length > 0);
  const store = async () => {
    const id = row === "new" ? crypto.randomUUID() : row.id;
    const used = new Set(turns.flatMap(({ pictures }) => pictures));
    const pictures = [...new Map(fresh.filter((p) => used.has(p.id)).map((p) => [p.id, p])).values()];
    if (await change({ kind: "put", row: { id, messages: turns.map(messageOf) }, pictures })) close();
    else setProblem(dataError.peek());
  };
  return (
    <Dialog title={row === "new" ? "New row" : `Row ${row.number}`} class="row-editor" onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (isReady) void store();
        }}
      >
        {turns.map(({ key, role, text, pictures }, i) => (
          <fieldset
            key={key}
            class="turn"
            onDrop={(event) => {
              event.preventDefault();
              if (role === "user") void add(key, pictures, [...(event.dataTransfer?.files ?? [])]);
            }}
          >
            <legend>
              {WORDS[role]}
              {i > 1 || turns.length > 2 ? (
                <IconButton
                  icon="trash"
                  label={`Delete this ${WORDS[role].toLowerCase()}`}
                  disabled={role === "assistant" && answers.length === 1}
                  onClick={() => setTurns(turns.filter((t) => t.key !== key))}
                />
              ) : null}
            </legend>
            {role === "user" && (
              <Pictures
                ids={pictures}
                fresh={fresh}
                onAdd={(files) => void add(key, pictures, files)}
                onRemove={(id) => set(key, { pictures: pictures.filter((p) => p !== id) })}
              />
            )}
            <textarea
              aria-label={WORDS[role]}
              rows={2}
              value={text}
              onInput={(event) => set(key, { text: event.currentTarget.value })}
            />
          </fieldset>
        ))}
        <div class="row-form">
          <button type="button" class="quiet" onClick={() => setTurns([...turns, turn("user"), turn("assistant")])}>
            Add a turn
          </button>
          {turns[0]?.role !== "system" && (
            <button type="button" class="quiet" onClick={() => setTurns([turn("system"), ...turns])}>
              Add a system prompt
            </button>
          )}
        </div>
        {problem && (
          <p class="fail" role="alert">
            {problem}
          </p>
        )}
        <div class="dialog-buttons">
          <button type="button" class="quiet" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={!isReady}>
            {row === "new" ? "Add" : "Keep"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Pictures(props: {
  ids: string[];
  fresh: Picture[];
  onAdd: (files: Iterable<File>) => void;
  onRemove: (id: string) => void;
}) {
  return (
    <div class="turn-pictures">
      {props.ids.map((id, i) => {
        const own = props.fresh.find((picture) => picture.id === id);
        return (
          <span key={id} class="turn-picture">
            {own ? <img class="row-picture" src={pictureAddress(own)} alt={own.name} /> : <RowPicture id={id} />}
            <IconButton icon="close" label={`Take picture ${i + 1} away`} onClick={() => props.onRemove(id)} />
          </span>
        );
      })}
      <label class="quiet button">
        <Icon name="picture" />
        Add a picture
        <input
          type="file"
          class="visually-hidden"
          accept="image/*"
          multiple
          onChange={(event) => {
            const files = [...(event.currentTarget.files ?? [])];
            event.currentTarget.value = "";
            props.onAdd(files);
          }}
        />
      </label>
    </div>
  );
}
