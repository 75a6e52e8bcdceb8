import { useEffect, useState } from "preact/hooks";
import {
  chatAddress,
  deleteConversation,
  importConversation,
  searchConversations,
  startChat,
} from "../actions/conversations.ts";
import { setTheme } from "../actions/settings.ts";
import { homeAddress } from "../actions/start.ts";
import { formatDay } from "../format.ts";
import {
  conversation,
  conversations,
  dialog,
  drawerOpen,
  importTask,
  run,
  type Screen,
  screen,
  type Theme,
  theme,
} from "../state.ts";
import { training } from "../train/shared.ts";
import { IconButton } from "./controls.tsx";
import { Icon, type IconName } from "./icons.tsx";

/** Conversations and the way to the other screens; a drawer on narrow screens. */
export function Sidebar() {
  return (
    <aside class={`sidebar ${drawerOpen.value ? "open" : ""}`} id="sidebar" aria-label="Conversations and screens">
      <div class="sidebar-head">
        <a class="brand" href={homeAddress()}>
          <img class="brand-mark" src="icon.svg" alt="" />
          TabTune
        </a>
        <IconButton
          icon="close"
          class="only-narrow"
          label="Close the menu"
          onClick={() => {
            drawerOpen.value = false;
          }}
        />
      </div>
      <button type="button" class="new-chat" aria-keyshortcuts="Control+Shift+O" onClick={startChat}>
        <Icon name="plus" />
        New chat
      </button>
      <Conversations />
      <nav class="screens" aria-label="Screens">
        <ScreenLink name="chat" icon="chat" href={homeAddress()} label="Chat" />
        <ScreenLink name="models" icon="cube" href="#/models" label="Models" />
        <ScreenLink name="train" icon="tune" href="#/train" label="Train" />
        <ScreenLink name="selftest" icon="gauge" href="#/selftest" label="Self-test" />
        <ScreenLink name="about" icon="info" href="#/about" label="About" />
      </nav>
      <div class="sidebar-foot">
        <ThemeSwitch />
        <IconButton
          icon="keyboard"
          label="Keyboard shortcuts"
          onClick={() => {
            dialog.value = "shortcuts";
          }}
        />
      </div>
    </aside>
  );
}

function ScreenLink(props: { name: Screen; icon: IconName; href: string; label: string }) {
  return (
    <a
      href={props.href}
      aria-current={screen.value === props.name ? "page" : undefined}
      onClick={() => {
        drawerOpen.value = false;
      }}
    >
      <Icon name={props.icon} />
      {props.label}
      {props.name === "models" && <ImportShare />}
      {props.name === "train" && <TrainShare />}
    </a>
  );
}

/** How far a training run is, visible from every screen. */
function TrainShare() {
  const run = training.value;
  if (!run) return null;
  return <span class="badge">{run.total ? `${Math.floor((100 * run.done) / run.total)} %` : "training"}</span>;
}

/** How far an import is, visible from every screen. */
function ImportShare() {
  const task = importTask.value;
  if (task?.kind !== "import") return null;
  const { bytesDone = 0, bytesTotal = 0 } = task.progress ?? {};
  return <span class="badge">importing {bytesTotal ? Math.floor((100 * bytesDone) / bytesTotal) : 0} %</span>;
}

function Conversations() {
  const [words, setWords] = useState("");
  const [found, setFound] = useState<Set<string> | undefined>(undefined);
  const all = conversations.value;
  useEffect(() => {
    setFound(undefined);
    if (words.trim() === "") return;
    const controller = new AbortController();
    const timer = setTimeout(() => void searchConversations(words, setFound, controller.signal), 150);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [words, all]);
  const titled = words.trim().toLowerCase();
  const shown = all.filter(
    (c) => titled === "" || found?.has(c.id) || (!found && c.title.toLowerCase().includes(titled)),
  );
  let day = "";
  return (
    <div class="conversations">
      <label class="search">
        <Icon name="search" />
        <input
          id="search-box"
          type="search"
          placeholder="Search chats"
          aria-label="Search chats"
          value={words}
          onInput={(e) => setWords(e.currentTarget.value)}
        />
      </label>
      <ul aria-label="Conversations">
        {shown.map((c) => {
          const heading = formatDay(c.updated);
          const first = heading !== day;
          day = heading;
          const current = c.id === conversation.value.id;
          return (
            <li key={c.id}>
              {first && <h2 class="day">{heading}</h2>}
              <div class={`conversation ${current ? "current" : ""}`}>
                <a href={chatAddress(c.id)} aria-current={current ? "page" : undefined}>
                  {run.value?.chat.value.id === c.id && <span class="spinner" role="img" aria-label="Being answered" />}
                  {c.title || "New chat"}
                </a>
                <IconButton
                  icon="trash"
                  label={`Delete ${c.title || "New chat"}`}
                  onClick={() => void deleteConversation(c.id)}
                />
              </div>
            </li>
          );
        })}
      </ul>
      {shown.length === 0 && <p class="hint">{titled ? "Nothing found." : "Your chats will be listed here."}</p>}
      <label class="quiet button import-chat">
        <Icon name="upload" />
        Import a chat
        <input
          type="file"
          class="visually-hidden"
          accept=".json,application/json"
          onChange={(event) => {
            const file = event.currentTarget.files?.[0];
            event.currentTarget.value = "";
            if (file) void importConversation(file);
          }}
        />
      </label>
    </div>
  );
}

const THEMES: [Theme, IconName, string][] = [
  ["system", "system", "Colours of the system"],
  ["light", "sun", "Light"],
  ["dark", "moon", "Dark"],
];

function ThemeSwitch() {
  return (
    <fieldset class="theme-switch">
      <legend class="visually-hidden">Colours</legend>
      {THEMES.map(([name, icon, label]) => (
        <IconButton
          key={name}
          icon={icon}
          label={label}
          pressed={theme.value === name}
          onClick={() => setTheme(name)}
        />
      ))}
    </fieldset>
  );
}
