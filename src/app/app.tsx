import { useEffect } from "preact/hooks";
import { AboutScreen } from "./about.tsx";
import { ChatScreen } from "./chat.tsx";
import { Dialog } from "./components/controls.tsx";
import { DropOverlay } from "./components/drop_overlay.tsx";
import { Lightbox } from "./components/grounding_view.tsx";
import { Header } from "./components/header.tsx";
import { SettingsDialog } from "./components/settings_dialog.tsx";
import { onKey, ShortcutsDialog } from "./components/shortcuts.tsx";
import { Sidebar } from "./components/sidebar.tsx";
import { Toasts } from "./components/toasts.tsx";
import { ModelsScreen } from "./models.tsx";
import { SelfTestScreen } from "./selftest.tsx";
import { capabilities, conversation, dialog, drawerOpen, engineSilent, lightbox, screen } from "./state.ts";
import { LazyTrainScreen } from "./train/lazy.tsx";
import { Unsupported } from "./unsupported.tsx";

export function App() {
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const { title } = conversation.value;
  useEffect(() => {
    document.title = screen.value === "chat" && title ? `${title} – TabTune` : "TabTune";
  }, [title, screen.value]);

  const found = capabilities.value;
  if (found && !found.ok) return <Unsupported missing={found} />;
  return (
    <div class="app">
      <button type="button" class="skip" onClick={skip}>
        Skip to the message box
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
          <p class="notice warning" role="alert">
            The engine has not started yet. If this stays, reload the page; a blocked or outdated browser is the usual
            reason.
          </p>
        )}
        {screen.value === "chat" && <ChatScreen />}
        {screen.value === "models" && <ModelsScreen />}
        {screen.value === "train" && <LazyTrainScreen />}
        {screen.value === "selftest" && <SelfTestScreen />}
        {screen.value === "about" && <AboutScreen />}
      </div>
      <DropOverlay />
      <Dialogs />
      <Toasts />
    </div>
  );
}

/** Past the sidebar. No link, since the address names the conversation. */
function skip(): void {
  document.querySelector<HTMLElement>("#message-box, #main a, #main button")?.focus();
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
