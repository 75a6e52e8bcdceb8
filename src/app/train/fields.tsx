import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Dialog, IconButton } from "../components/controls.tsx";

/** A name that a click makes editable: Enter keeps the new one, Escape the old. */
export function NameField(props: {
  name: string;
  label: string;
  onRename: (name: string) => void;
  level?: "h2" | "h3";
}) {
  const { name, label, onRename, level: Heading = "h2" } = props;
  const [editing, setEditing] = useState(false);
  if (!editing)
    return (
      <div class="name-field">
        <Heading>{name}</Heading>
        <IconButton icon="edit" label={`Rename ${name}`} onClick={() => setEditing(true)} />
      </div>
    );
  return (
    <input
      type="text"
      class="name-field"
      aria-label={label}
      maxLength={120}
      defaultValue={name}
      ref={takeFocus}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== "Escape") return;
        event.stopPropagation();
        if (event.key === "Escape") event.currentTarget.value = name;
        event.currentTarget.blur();
      }}
      onBlur={(event) => {
        const next = event.currentTarget.value.trim();
        setEditing(false);
        if (next && next !== name) onRename(next);
      }}
    />
  );
}

function takeFocus(element: HTMLInputElement | null): void {
  if (!element || document.activeElement === element) return;
  element.focus();
  element.select();
}

/** Something wide or long that scrolls on its own, with the keyboard too. */
export function Scroll(props: { label: string; class: string; children: ComponentChildren }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <section class={props.class} aria-label={props.label} tabIndex={0}>
      {props.children}
    </section>
  );
}

/** Asks before something is gone for good. */
export function Sure(props: { title: string; text: string; onNo: () => void; onYes: () => void }) {
  return (
    <Dialog title={props.title} onClose={props.onNo}>
      <p>{props.text}</p>
      <div class="dialog-buttons">
        <button type="button" class="quiet" onClick={props.onNo}>
          Keep it
        </button>
        <button
          type="button"
          class="primary danger"
          onClick={() => {
            props.onNo();
            props.onYes();
          }}
        >
          Delete
        </button>
      </div>
    </Dialog>
  );
}
