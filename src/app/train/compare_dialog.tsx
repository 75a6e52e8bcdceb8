import { useEffect, useState } from "preact/hooks";
import { textOf } from "../actions/chat.ts";
import { messageOf } from "../actions/notices.ts";
import { compareAnswers } from "../actions/train_compare.ts";
import { Dialog, Notice } from "../components/controls.tsx";
import { MarkdownView } from "../components/markdown_view.tsx";
import { conversation, currentChat } from "../state.ts";
import { adapters } from "./shared.ts";

interface Answer {
  text: string;
  state: "waiting" | "writing" | "done";
}
const NOTHING: Answer = { text: "", state: "waiting" };

/** The chat's last question, answered by the base model and with the adapter, one after the other. */
export function CompareDialog({ onClose }: { onClose: () => void }) {
  const [base, setBase] = useState(NOTHING);
  const [adapted, setAdapted] = useState(NOTHING);
  const [problem, setProblem] = useState<string | undefined>(undefined);
  const question = conversation.value.messages.findLast(({ role }) => role === "user");
  const adapter = adapters.value.find(({ id }) => id === conversation.value.adapterId);
  useEffect(() => {
    const controller = new AbortController();
    const show = (set: (answer: Answer) => void) => (text: string, isDone: boolean) =>
      set({ text, state: isDone ? "done" : "writing" });
    compareAnswers(currentChat.peek().peek(), show(setBase), show(setAdapted), controller.signal).catch((error) => {
      if (!controller.signal.aborted) setProblem(messageOf(error));
    });
    return () => controller.abort();
  }, []);
  return (
    <Dialog title="With and without the adapter" class="compare-dialog" onClose={onClose}>
      {question && <p class="hint">{textOf(question) || "The last question"}</p>}
      {problem && (
        <Notice kind="error">
          <p>{problem}</p>
        </Notice>
      )}
      <div class="compare-answers">
        <Column title="Base model" answer={base} hasFailed={problem !== undefined} />
        <Column title={adapter?.name ?? "Adapter"} answer={adapted} hasFailed={problem !== undefined} />
      </div>
    </Dialog>
  );
}

function Column({ title, answer, hasFailed }: { title: string; answer: Answer; hasFailed: boolean }) {
  return (
    <section aria-label={title} aria-busy={answer.state !== "done" && !hasFailed}>
      <h3>{title}</h3>
      {answer.state === "waiting" && !hasFailed && (
        <p class="stage">
          <span class="spinner" aria-hidden="true" /> Waiting …
        </p>
      )}
      <MarkdownView text={answer.text} />
    </section>
  );
}
