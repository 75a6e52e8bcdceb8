import { useEffect, useRef, useState } from "preact/hooks";
import { exportConversation, startChat } from "../actions/conversations.ts";
import { formatBytes, formatCount, formatDuration } from "../format.ts";
import { SCREENS } from "../screens.ts";
import { capabilities, conversation, dialog, drawerOpen, loaded, loadTask, screen } from "../state.ts";
import { AdapterPicker } from "../train/adapter_picker.tsx";
import { IconButton } from "./controls.tsx";
import { Icon } from "./icons.tsx";
import { RenameField } from "./rename_field.tsx";
import { ContextMeter } from "./stats.tsx";

export function Header() {
  const chat = screen.value === "chat";
  const stats = conversation.value.messages.findLast((m) => m.stats)?.stats;
  return (
    <header class="header">
      <IconButton
        icon="menu"
        class="only-narrow"
        label="Open the menu"
        onClick={() => {
          drawerOpen.value = true;
        }}
      />
      {screen.value === "chat" ? <Title /> : <h1 class="title">{SCREENS[screen.value].label}</h1>}
      <div class="header-tools">
        {chat && stats && <ContextMeter used={stats.contextUsed} total={stats.contextLength} />}
        {chat && <AdapterPicker />}
        <ModelChip />
        {chat && (
          <>
            <IconButton
              icon="sliders"
              label="System prompt and sampling"
              onClick={() => {
                dialog.value = "settings";
              }}
            />
            {conversation.value.messages.length > 0 && (
              <IconButton icon="download" label="Export this chat" onClick={() => void exportConversation()} />
            )}
            <IconButton icon="plus" class="only-narrow" label="New chat" onClick={startChat} />
          </>
        )}
      </div>
    </header>
  );
}

/** The conversation's name; a click makes it editable. */
function Title() {
  const [editing, setEditing] = useState(false);
  const { id, title, messages } = conversation.value;
  useEffect(() => setEditing(false), [id]);
  if (messages.length === 0) return <p class="title">New chat</p>;
  if (!editing)
    return (
      <h1 class="title">
        <button type="button" title="Rename" aria-label={`${title}. Rename`} onClick={() => setEditing(true)}>
          {title}
        </button>
      </h1>
    );
  return <RenameField id={id} title={title} onDone={() => setEditing(false)} />;
}

/** The loaded model; opens what it takes on the GPU. */
function ModelChip() {
  const ref = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const close = (event: Event) => {
      const outside = event.type === "pointerdown" && !ref.current?.contains(event.target as Node);
      if (outside || (event instanceof KeyboardEvent && event.key === "Escape")) ref.current?.removeAttribute("open");
    };
    addEventListener("pointerdown", close);
    addEventListener("keydown", close);
    return () => {
      removeEventListener("pointerdown", close);
      removeEventListener("keydown", close);
    };
  }, []);
  const model = loaded.value;
  const task = loadTask.value;
  const progress = task?.progress;
  const percent = progress?.bytesTotal ? ` ${Math.floor((100 * progress.bytesDone) / progress.bytesTotal)} %` : "";
  return (
    <details class="chip" ref={ref}>
      <summary>
        {task ? <span class="spinner" aria-hidden="true" /> : <Icon name={model?.notes.length ? "warning" : "chip"} />}
        <span class={`chip-name ${model && !task ? "wide-name" : ""}`}>
          {task ? `Loading${percent}` : (model?.name ?? "No model")}
        </span>
      </summary>
      <div class="popover">
        <ModelFacts />
        <a class="quiet button" href="#/models">
          Choose another model
        </a>
      </div>
    </details>
  );
}

/** Memory by owner, context, device. */
export function ModelFacts() {
  const model = loaded.value;
  const gpu = capabilities.value;
  if (!model) return <p class="hint">{loadTask.value ? "The model is on its way." : "No model is loaded."}</p>;
  const owners = Object.entries(model.ledger).sort((a, b) => b[1] - a[1]);
  return (
    <>
      {model.notes.map((note) => (
        <p key={note} class="model-note">
          {note}
        </p>
      ))}
      <table class="facts">
        <caption>GPU memory</caption>
        <tbody>
          {owners.map(([owner, bytes]) => (
            <tr key={owner}>
              <th scope="row">{owner}</th>
              <td>{formatBytes(bytes)}</td>
            </tr>
          ))}
          <tr class="total">
            <th scope="row">Together</th>
            <td>{formatBytes(model.gpuBytes)}</td>
          </tr>
        </tbody>
      </table>
      <dl class="facts">
        <div>
          <dt>Context</dt>
          <dd>
            {formatCount(model.contextLength)} of {formatCount(model.maxContextLength)} tokens
          </dd>
        </div>
        <div>
          <dt>Loaded in</dt>
          <dd>{formatDuration(model.loadMilliseconds)}</dd>
        </div>
        {gpu?.ok && (
          <div>
            <dt>GPU</dt>
            <dd>
              {[gpu.vendor, gpu.architecture, gpu.description].filter(Boolean).join(" ") || "not named by the browser"}
              {gpu.software && " (software, slow)"}
            </dd>
          </div>
        )}
      </dl>
    </>
  );
}
