import { useEffect, useRef } from "preact/hooks";
import { send } from "../actions/chat.ts";
import { addPictures, filesOf, removeFromDraft } from "../actions/pictures.ts";
import { stop } from "../actions/stop.ts";
import { conversation, draft, editing, loadTask, reading, rejected, run, runHere, suggestions } from "../state.ts";
import { IconButton, Notice } from "./controls.tsx";
import { Icon } from "./icons.tsx";
import { DraftPictures } from "./pictures.tsx";

/** Where a message is written: text, pictures, send and stop. */
export function Composer() {
  const box = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const { text, pictures } = draft.value;
  const elsewhere = run.value !== undefined && !runHere.value;
  const chatId = conversation.value.id;
  // A phone would open its keyboard over the page; there the visitor taps first.
  useEffect(() => {
    if (matchMedia("(pointer: fine)").matches) box.current?.focus();
  }, [chatId]);
  useEffect(() => fitHeight(box.current!), [text]);

  const submit = () => {
    if (!run.value) void send();
  };
  return (
    <form
      class="composer"
      aria-label="Write a message"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {rejected.value.map(({ name, message }) => (
        <Notice
          key={name}
          kind="error"
          onDismiss={() => {
            rejected.value = rejected.value.filter((r) => r.name !== name);
          }}
        >
          <p>{message}</p>
        </Notice>
      ))}
      {elsewhere && (
        <Notice kind="info">
          <p>An answer is still being written in another chat.</p>
          <button type="button" class="quiet" onClick={stop}>
            Stop it
          </button>
        </Notice>
      )}
      {suggestions.value.length > 0 && (
        <ul class="suggestions" aria-label="Suggested questions">
          {suggestions.value.map((question) => (
            <li key={question}>
              <button
                type="button"
                class="suggestion"
                disabled={run.value !== undefined}
                onClick={() => void send(question)}
              >
                {question}
              </button>
            </li>
          ))}
        </ul>
      )}
      <div class="composer-box">
        <DraftPictures pictures={pictures} onRemove={removeFromDraft} />
        {reading.value > 0 && <p class="hint">Reading {reading.value} file(s) …</p>}
        <textarea
          id="message-box"
          ref={box}
          rows={1}
          aria-label="Message"
          placeholder={pictures.length ? "Ask about the picture" : "Write a message, or drop a picture"}
          value={text}
          onInput={(event) => {
            draft.value = { ...draft.value, text: event.currentTarget.value };
          }}
          onPaste={(event) => {
            const files = filesOf(event.clipboardData);
            if (files.length === 0) return;
            event.preventDefault();
            void addPictures(files);
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
              event.preventDefault();
              submit();
            }
            if (event.key === "ArrowUp" && text === "" && !run.value)
              editing.value = conversation.value.messages.findLast((m) => m.role === "user")?.id;
          }}
        />
        <div class="composer-row">
          <IconButton icon="picture" label="Add pictures" onClick={() => picker.current?.click()} />
          <input
            ref={picker}
            type="file"
            accept="image/*"
            multiple
            hidden
            aria-label="Add pictures"
            onChange={(event) => {
              rejected.value = [];
              void addPictures([...(event.currentTarget.files ?? [])]);
              event.currentTarget.value = "";
            }}
          />
          <span class="hint keys">
            {loadTask.value && !run.value
              ? "The model is being loaded; you can already write."
              : "Enter sends, Shift+Enter starts a line"}
          </span>
          {runHere.value ? (
            <button type="button" class="send stop" aria-label="Stop the answer" title="Stop (Esc)" onClick={stop}>
              <Icon name="stop" />
            </button>
          ) : (
            <button
              type="submit"
              class="send"
              aria-label="Send"
              title="Send (Enter)"
              disabled={elsewhere || reading.value > 0 || (text.trim() === "" && pictures.length === 0)}
            >
              <Icon name="send" />
            </button>
          )}
        </div>
      </div>
    </form>
  );
}

/** The box grows with its text; CSS holds it at its largest. */
function fitHeight(element: HTMLTextAreaElement): void {
  if (CSS.supports("field-sizing", "content")) return;
  element.style.height = "auto";
  element.style.height = `${element.scrollHeight}px`;
}
