import { engine } from "../engine_link.ts";
import { capabilities, conversation, engineSilent, type Screen, screen } from "../state.ts";
import { chatAddress, listConversations, openConversation, startChat } from "./conversations.ts";
import { modelReady, refreshModels } from "./models.ts";
import { messageOf } from "./notices.ts";
import { loadExamples } from "./pictures.ts";
import { loadSettings } from "./settings.ts";
import { offerUnfinishedRun } from "./train_offer.ts";

/** A worker that says nothing for this long has probably not started. */
const PATIENCE = 20_000;

/** Everything that happens when the page opens. */
export async function start(): Promise<void> {
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

const SCREENS: Record<string, Screen> = { models: "models", train: "train", selftest: "selftest", about: "about" };

/** Shows what the address says: `#/`, `#/chat/ID`, `#/models`, `#/selftest`, `#/about`. */
async function followAddress(): Promise<void> {
  const [, name = "", id = ""] = location.hash.split("/");
  const other = SCREENS[name];
  if (other) screen.value = other;
  else {
    screen.value = "chat";
    if (name === "chat" && id) await openConversation(id);
    else if (conversation.peek().messages.length > 0) startChat();
  }
}

/** The address of the open conversation, for links back to it. */
export const homeAddress = () => (conversation.value.messages.length > 0 ? chatAddress(conversation.value.id) : "#/");
