import { useRef } from "preact/hooks";
import { renameConversation } from "../actions/conversations.ts";

/** The name of a conversation as a field: Enter or leaving it keeps the new name, Escape the old one. */
export function RenameField(props: { id: string; title: string; onDone: (byKey: boolean) => void }) {
  const { id, title, onDone } = props;
  const byKey = useRef(false);
  return (
    <input
      type="text"
      class="title-input"
      aria-label="Name of this chat"
      maxLength={120}
      defaultValue={title}
      ref={takeFocus}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== "Escape") return;
        // Escape would also stop an answer.
        event.stopPropagation();
        if (event.key === "Escape") event.currentTarget.value = title;
        byKey.current = true;
        event.currentTarget.blur();
      }}
      onBlur={(event) => {
        void renameConversation(id, event.currentTarget.value);
        onDone(byKey.current);
      }}
    />
  );
}

function takeFocus(element: HTMLInputElement | null): void {
  if (!element || document.activeElement === element) return;
  element.focus();
  element.select();
}
