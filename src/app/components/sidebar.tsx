import { useEffect, useRef, useState } from "preact/hooks";
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
import { SCREENS, type Screen } from "../screens.ts";
import {
  conversation,
  conversations,
  dialog,
  drawerOpen,
  importTask,
  run,
  screen,
  type Theme,
  theme,
} from "../state.ts";
import { training } from "../train/shared.ts";
import { IconButton } from "./controls.tsx";
import { Icon, type IconName } from "./icons.tsx";
import { RenameField } from "./rename_field.tsx";

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
        {(Object.keys(SCREENS) as Screen[]).map((name) => (
          <ScreenLink key={name} name={name} />
        ))}
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

function ScreenLink({ name }: { name: Screen }) {
  return (
    <a
      href={name === "chat" ? homeAddress() : `#/${name}`}
      aria-current={screen.value === name ? "page" : undefined}
      onClick={() => {
        drawerOpen.value = false;
      }}
    >
      <Icon name={SCREENS[name].icon} />
      {SCREENS[name].label}
      {name === "models" && <ImportShare />}
      {name === "train" && <TrainShare />}
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
          return (
            <li key={c.id}>
              {first && <h2 class="day">{heading}</h2>}
              <ConversationRow id={c.id} title={c.title || "New chat"} />
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

function ConversationRow({ id, title }: { id: string; title: string }) {
  const [renaming, setRenaming] = useState(false);
  const link = useRef<HTMLAnchorElement>(null);
  const focusLink = useRef(false);
  useEffect(() => {
    if (!renaming && focusLink.current) link.current?.focus();
    focusLink.current = false;
  }, [renaming]);
  const current = id === conversation.value.id && screen.value === "chat";
  if (renaming)
    return (
      <RenameField
        id={id}
        title={title}
        onDone={(byKey) => {
          focusLink.current = byKey;
          setRenaming(false);
        }}
      />
    );
  return (
    <div class={`conversation ${current ? "current" : ""}`}>
      <a
        ref={link}
        href={chatAddress(id)}
        aria-current={current ? "page" : undefined}
        onClick={() => {
          drawerOpen.value = false;
        }}
      >
        {run.value?.chat.value.id === id && <span class="spinner" role="img" aria-label="Being answered" />}
        {title}
      </a>
      <IconButton icon="edit" label={`Rename ${title}`} onClick={() => setRenaming(true)} />
      <IconButton icon="trash" label={`Delete ${title}`} onClick={() => void deleteConversation(id)} />
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
