import { useEffect, useState } from "preact/hooks";
import { addPictures, filesOf } from "../actions/pictures.ts";
import { screen } from "../state.ts";
import { Icon } from "./icons.tsx";

/** Files may be dropped anywhere on the page. On the Models screen, its own drop area takes folders. */
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
      if (screen.peek() !== "chat") return;
      void addPictures(filesOf(event.dataTransfer));
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
  if (!over || screen.value !== "chat") return null;
  return (
    <div class="drop-overlay" aria-hidden="true">
      <div>
        <Icon name="picture" />
        <p>Drop pictures to add them to your message</p>
      </div>
    </div>
  );
}
