import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { AboutScreen } from "./about.tsx";
import { reloadIntoUpdate } from "./actions/update.ts";
import { ChatScreen } from "./chat.tsx";
import { Dialog, Notice } from "./components/controls.tsx";
import { DropOverlay } from "./components/drop_overlay.tsx";
import { Lightbox } from "./components/grounding_view.tsx";
import { Header } from "./components/header.tsx";
import { SettingsDialog } from "./components/settings_dialog.tsx";
import { onKey, ShortcutsDialog } from "./components/shortcuts.tsx";
import { Sidebar } from "./components/sidebar.tsx";
import { Toasts } from "./components/toasts.tsx";
import { ModelsScreen } from "./models.tsx";
import type { Screen } from "./screens.ts";
import { SelfTestScreen } from "./selftest.tsx";
import { capabilities, conversation, dialog, drawerOpen, engineSilent, lightbox, newVersion, screen } from "./state.ts";
import { LazyTrainScreen } from "./train/lazy.tsx";
import { Unsupported } from "./unsupported.tsx";

const COMPONENTS: Record<Screen, () => JSX.Element> = {
  chat: ChatScreen,
  models: ModelsScreen,
  train: LazyTrainScreen,
  selftest: SelfTestScreen,
  about: AboutScreen,
};

export function App() {
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const { title } = conversation.value;
  useEffect(() => {
    document.title = screen.value === "chat" && title ? `${title} – TabTune` : "TabTune";
  }, [title, screen.value]);

  const Shown = COMPONENTS[screen.value];
  const found = capabilities.value;
  if (found && !found.ok) return <Unsupported missing={found} />;
  return (
    <div class="app">
      <button type="button" class="skip" onClick={skip}>
        {screen.value === "chat" ? "Skip to the message box" : "Skip to the content"}
      </button>
      <Sidebar />
      {drawerOpen.value && (
        <button
          type="button"
          class="drawer-shade"
          aria-label="Close the menu"
          onClick={() => {
            drawerOpen.value = false;
          }}
        />
      )}
      <div class="content">
        <Header />
        {engineSilent.value && (
          <Notice kind="error">
            <p>
              The engine has not answered for 20 seconds. A blocked worker, an outdated browser or a busy GPU is the
              usual reason. If this stays, reload the page.
            </p>
            <button type="button" class="quiet" onClick={() => location.reload()}>
              Reload
            </button>
          </Notice>
        )}
        {newVersion.value && (
          <Notice
            kind="info"
            onDismiss={() => {
              newVersion.value = false;
            }}
          >
            <p>A new version of TabTune is ready. Chats and models stay.</p>
            <button type="button" class="primary" onClick={reloadIntoUpdate}>
              Reload
            </button>
          </Notice>
        )}
        <Shown />
      </div>
      <DropOverlay />
      <Dialogs />
      <Toasts />
    </div>
  );
}

/** Past the sidebar, to the message box or the first thing of another screen. No link, since the address names the conversation. */
function skip(): void {
  const box = document.querySelector<HTMLElement>("#message-box");
  (box ?? document.querySelector<HTMLElement>("#main :is(a, button, input)"))?.focus();
}

function Dialogs() {
  const name = dialog.value;
  const shown = lightbox.value;
  if (name === "settings") return <SettingsDialog />;
  if (name === "shortcuts") return <ShortcutsDialog />;
  if (name !== "lightbox" || !shown) return null;
  return (
    <Dialog
      title={shown.picture.name}
      class="lightbox"
      onClose={() => {
        dialog.value = undefined;
      }}
    >
      <Lightbox {...shown} />
    </Dialog>
  );
}
