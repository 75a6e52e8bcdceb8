import { effect } from "@preact/signals";
import { engine } from "../engine_link.ts";
import { isScreen } from "../screens.ts";
import { capabilities, conversation, draft, engineSilent, screen } from "../state.ts";
import { chatAddress, listConversations, openConversation, startChat } from "./conversations.ts";
import { loadExamples } from "./examples.ts";
import { modelReady, refreshModels } from "./models.ts";
import { messageOf } from "./notices.ts";
import { loadSettings } from "./settings.ts";
import { offerUnfinishedRun } from "./train_offer.ts";

const DRAFT_KEY = "tabtune-draft";

/** What is being written survives a reload of this tab, its pictures apart. */
function keepDraft(): void {
  try {
    draft.value = { ...draft.peek(), text: sessionStorage.getItem(DRAFT_KEY) ?? "" };
  } catch {}
  effect(() => {
    const { text } = draft.value;
    try {
      sessionStorage.setItem(DRAFT_KEY, text);
    } catch {}
  });
}

/** A worker that says nothing for this long has probably not started. */
const PATIENCE = 20_000;

/** Everything that happens when the page opens. */
export async function start(): Promise<void> {
  keepDraft();
  addEventListener("hashchange", () => void followAddress());
  const patience = setTimeout(() => {
    engineSilent.value = true;
  }, PATIENCE);
  void loadExamples();
  try {
    capabilities.value = await engine().capabilities();
  } catch (error) {
    const found = messageOf(error);
    capabilities.value = {
      ok: false,
      reason: "no-adapter",
      found,
      remedy: "Reload the page. If it stays, restart the browser.",
    };
  }
  clearTimeout(patience);
  engineSilent.value = false;
  await loadSettings();
  await Promise.all([listConversations(), refreshModels()]);
  if (capabilities.value.ok) modelReady().catch(() => {});
  void offerUnfinishedRun();
  await followAddress();
}

/** Shows what the address says: `#/`, `#/chat/ID`, `#/models`, `#/selftest`, `#/about`. */
async function followAddress(): Promise<void> {
  const [, name = "", id = ""] = location.hash.split("/");
  if (isScreen(name) && name !== "chat") screen.value = name;
  else {
    screen.value = "chat";
    if (name === "chat" && id) await openConversation(id);
    else if (conversation.peek().messages.length > 0) startChat();
  }
}

/** The address of the open conversation, for links back to it. */
export const homeAddress = () => (conversation.value.messages.length > 0 ? chatAddress(conversation.value.id) : "#/");
