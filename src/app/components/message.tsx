import { useState } from "preact/hooks";
import type { Picture, StoredMessage } from "../../api/index.ts";
import { copyText, deleteMessage, edit, picturesOf, regenerate, textOf } from "../actions/chat.ts";
import { filesOf, inspect, readPictures } from "../actions/pictures.ts";
import { conversation, editing, type Run, run, runHere, type Stage } from "../state.ts";
import { splitThinking } from "../thinking.ts";
import { IconButton } from "./controls.tsx";
import { GroundingView } from "./grounding_view.tsx";
import { MarkdownView } from "./markdown_view.tsx";
import { DraftPictures, SentPictures } from "./pictures.tsx";
import { Stats } from "./stats.tsx";

export function UserMessage({ message }: { message: StoredMessage }) {
  const pictures = picturesOf(message, conversation.value.pictures);
  const text = textOf(message);
  const missing = message.parts.filter((p) => p.type === "image").length - pictures.length;
  if (editing.value === message.id) return <Editor message={message} pictures={pictures} />;
  const busy = run.value !== undefined;
  return (
    <article class="message user" aria-label="You">
      <SentPictures pictures={pictures} />
      {missing > 0 && <p class="hint">{missing} picture(s) of this message are no longer stored.</p>}
      {text && <div class="bubble">{text}</div>}
      <div class="message-actions">
        <IconButton
          icon="edit"
          label="Edit this message"
          edits={message.id}
          disabled={busy}
          onClick={() => {
            editing.value = message.id;
          }}
        />
        {text && <IconButton icon="copy" label="Copy this message" onClick={() => void copyText(text)} />}
        <IconButton
          icon="trash"
          label="Delete this message and its answer"
          disabled={runHere.value !== undefined}
          onClick={() => deleteMessage(message.id)}
        />
      </div>
    </article>
  );
}

/** Changes an earlier turn. Its pictures stay, and stay encoded. */
function Editor({ message, pictures: before }: { message: StoredMessage; pictures: Picture[] }) {
  const [text, setText] = useState(textOf(message));
  const [pictures, setPictures] = useState(before);
  const submit = () => void edit(message.id, text, pictures);
  const add = async (files: File[]) => {
    const taken = await readPictures(files);
    setPictures((now) => [...now, ...taken.filter((t) => !now.some((p) => p.id === t.id))]);
    for (const picture of taken) void inspect(picture);
  };
  // Where the visitor came from: the button is drawn again once the editor is closed.
  const close = () => {
    editing.value = undefined;
    requestAnimationFrame(() => document.querySelector<HTMLElement>(`[data-edits="${message.id}"]`)?.focus());
  };
  return (
    <form
      class="message user editor"
      aria-label="Edit the message"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <DraftPictures pictures={pictures} onRemove={(id) => setPictures(pictures.filter((p) => p.id !== id))} />
      <textarea
        aria-label="Message"
        rows={2}
        value={text}
        ref={focusAtEnd}
        onInput={(e) => setText(e.currentTarget.value)}
        onPaste={(event) => {
          const files = filesOf(event.clipboardData);
          if (files.length === 0) return;
          event.preventDefault();
          void add(files);
        }}
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.stopPropagation();
            close();
          }
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            submit();
          }
        }}
      />
      <div class="editor-buttons">
        <span class="hint">What follows this message is dropped.</span>
        <button type="button" class="quiet" onClick={close}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={text.trim() === "" && pictures.length === 0}>
          Send
        </button>
      </div>
    </form>
  );
}

function focusAtEnd(element: HTMLTextAreaElement | null): void {
  if (!element || document.activeElement === element) return;
  element.focus();
  element.setSelectionRange(element.value.length, element.value.length);
}

const FINISH: Record<string, string> = {
  length: "Stopped at the token limit of the sampling settings.",
  context: "The context is full. Start a new chat, or give the model a longer context on the Models page.",
  cancelled: "Stopped.",
};

export function AssistantMessage({ message, pictures }: { message: StoredMessage; pictures: Picture[] }) {
  const live = runHere.value?.messageId === message.id ? runHere.value : undefined;
  const raw = live ? live.text.value : textOf(message);
  const answer = splitThinking(raw);
  const writing = live?.stage.value.name === "writing";
  // An answer without a finish was cut off by a reload or a crash.
  const note = live ? undefined : message.finish ? FINISH[message.finish] : "This answer was interrupted.";
  return (
    <article class="message assistant" aria-label={message.modelName ?? "Answer"} aria-busy={live !== undefined}>
      {live && !writing && <StageLine run={live} />}
      {(answer.thoughts || (writing && !answer.thoughtsEnded)) && (
        <details class="thoughts">
          <summary>{live && !answer.thoughtsEnded ? "Thinking …" : "Thoughts"}</summary>
          {/* As they were written: half-finished marks and pieces of code are common in thoughts. */}
          <div class="thoughts-text">{answer.thoughts}</div>
        </details>
      )}
      {answer.text && <MarkdownView text={answer.text} />}
      {writing && <span class="cursor" aria-hidden="true" />}
      <GroundingView text={answer.text} pictures={pictures} />
      {!live && (
        <footer class="message-foot">
          {note && <p class="hint">{note}</p>}
          <div class="message-actions">
            <IconButton icon="copy" label="Copy this answer" onClick={() => void copyText(answer.text)} />
            <IconButton
              icon="redo"
              label="Answer again"
              disabled={run.value !== undefined}
              onClick={() => void regenerate(message.id)}
            />
            <IconButton
              icon="trash"
              label="Delete this answer"
              disabled={runHere.value !== undefined}
              onClick={() => deleteMessage(message.id)}
            />
          </div>
          {message.stats && <Stats stats={message.stats} />}
        </footer>
      )}
    </article>
  );
}

export const STAGE_WORDS: Record<Stage["name"], string> = {
  waiting: "Waiting for the model",
  encoding: "Looking at the pictures",
  prefill: "Reading the conversation",
  writing: "Writing",
};

/** What happens before the first word. */
function StageLine({ run }: { run: Run }) {
  const { name, done, total } = run.stage.value;
  const count = total > 1 ? ` ${Math.min(done + (name === "encoding" ? 1 : 0), total)} of ${total}` : "";
  return (
    <p class="stage">
      <span class="spinner" aria-hidden="true" />
      {STAGE_WORDS[name]}
      {count} …
    </p>
  );
}
