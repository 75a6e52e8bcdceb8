import { useEffect, useState } from "preact/hooks";
import { importConversation } from "../actions/conversations.ts";
import { addPictures, filesOf } from "../actions/pictures.ts";
import type { Screen } from "../screens.ts";
import { screen } from "../state.ts";
import { Icon, type IconName } from "./icons.tsx";
import { takeDrop } from "./import_card.tsx";

/** What a screen takes; others only keep a dropped file from replacing the page. */
const WANTED: Partial<Record<Screen, { icon: IconName; words: string }>> = {
  chat: { icon: "picture", words: "Drop pictures to add them to your message" },
  models: { icon: "folder", words: "Drop the folder of a checkpoint" },
};

/** Files may be dropped anywhere on the page. */
export function DropOverlay() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    // Entering a child fires "leave" on its parent after "enter": they are counted.
    let depth = 0;
    const withFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const enter = (event: DragEvent) => {
      if (!withFiles(event)) return;
      depth++;
      setOver(true);
    };
    const leave = () => {
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(false);
    };
    const hover = (event: DragEvent) => event.preventDefault();
    const drop = (event: DragEvent) => {
      depth = 0;
      setOver(false);
      // A file that is dropped where nobody takes it would otherwise replace the page.
      if (event.defaultPrevented) return;
      event.preventDefault();
      if (screen.peek() === "models" && event.dataTransfer) takeDrop(event.dataTransfer);
      if (screen.peek() !== "chat") return;
      const files = filesOf(event.dataTransfer);
      const chats = files.filter((file) => file.name.endsWith(".json"));
      for (const file of chats) void importConversation(file);
      void addPictures(files.filter((file) => !chats.includes(file)));
      document.querySelector<HTMLElement>("#message-box")?.focus();
    };
    addEventListener("dragenter", enter);
    addEventListener("dragleave", leave);
    addEventListener("dragover", hover);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragenter", enter);
      removeEventListener("dragleave", leave);
      removeEventListener("dragover", hover);
      removeEventListener("drop", drop);
    };
  }, []);
  const wanted = WANTED[screen.value];
  if (!over || !wanted) return null;
  return (
    <div class="drop-overlay" aria-hidden="true">
      <div>
        <Icon name={wanted.icon} />
        <p>{wanted.words}</p>
      </div>
    </div>
  );
}
