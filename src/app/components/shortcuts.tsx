import { startChat } from "../actions/conversations.ts";
import { stop } from "../actions/stop.ts";
import { dialog, drawerOpen, lightbox, run } from "../state.ts";
import { Dialog } from "./controls.tsx";

const command = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";

const KEYS: [keys: string[], what: string][] = [
  [["Enter"], "Send the message"],
  [["Shift", "Enter"], "Start a new line"],
  [["Esc"], "Stop the answer; close a dialog"],
  [["↑"], "Edit your last message, when the box is empty"],
  [["/"], "Go to the message box"],
  [[command, "Shift", "O"], "New chat"],
  [[command, "K"], "Search chats"],
  [["?"], "This list"],
];

export function ShortcutsDialog() {
  return (
    <Dialog
      title="Keyboard"
      onClose={() => {
        dialog.value = undefined;
      }}
    >
      <dl class="shortcuts">
        {KEYS.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}

/** Keys that work everywhere on the page. */
export function onKey(event: KeyboardEvent): void {
  const target = event.target instanceof HTMLElement ? event.target : undefined;
  const typing = target?.matches("input, textarea, select, [contenteditable]") ?? false;
  const chord = event.ctrlKey || event.metaKey;
  if (event.key === "Escape" && !dialog.peek() && !event.defaultPrevented) {
    if (drawerOpen.peek()) drawerOpen.value = false;
    else if (run.peek()) stop();
  } else if (chord && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    startChat();
  } else if (chord && !event.shiftKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    drawerOpen.value = true;
    document.querySelector<HTMLElement>("#search-box")?.focus();
  } else if (!typing && !chord && !event.altKey && !dialog.peek()) {
    if (event.key === "/") {
      event.preventDefault();
      document.querySelector<HTMLElement>("#message-box")?.focus();
    } else if (event.key === "?") {
      lightbox.value = undefined;
      dialog.value = "shortcuts";
    }
  }
}
