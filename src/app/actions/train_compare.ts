import { type Conversation, callback } from "../../api/index.ts";
import { engine } from "../engine_link.ts";
import { requestOf } from "./chat.ts";
import { modelReady } from "./models.ts";
import { useAdapter } from "./train_adapters.ts";

/** Called with the whole text so far. */
type Show = (text: string, isDone: boolean) => void;

/**
 * Answers the last question of a chat twice, without its adapter and with it, with the same settings and the same seed. Rejects with a
 * message for the visitor.
 */
export async function compareAnswers(
  chat: Conversation,
  onBase: Show,
  onAdapted: Show,
  signal: AbortSignal,
): Promise<void> {
  const model = await modelReady();
  const last = chat.messages.findLastIndex(({ role }) => role === "user");
  const request = requestOf({ ...chat, messages: chat.messages.slice(0, last + 1) }, model.defaults);
  for (const [adapter, show] of [
    [undefined, onBase],
    [chat.adapterId, onAdapted],
  ] as const) {
    if (signal.aborted) return;
    await useAdapter(adapter, model);
    const taskId = crypto.randomUUID();
    const cancel = () => void engine().cancel(taskId);
    signal.addEventListener("abort", cancel);
    let text = "";
    try {
      const onEvent = callback((event: { type: string; text?: string }) => {
        if (event.type !== "text") return;
        text += event.text;
        show(text, false);
      });
      const result = await engine().generate(request, taskId, onEvent);
      show(result.text, true);
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }
}
