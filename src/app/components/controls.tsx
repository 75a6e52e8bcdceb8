import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Progress } from "../../api/index.ts";
import { formatBytes, formatSpeed, formatTimeLeft } from "../format.ts";
import { Icon, type IconName } from "./icons.tsx";

/** A button that shows only an icon; its name is read aloud and shown as a hint. */
export function IconButton(props: {
  icon: IconName;
  label: string;
  onClick: () => void;
  disabled?: boolean;
  class?: string;
  pressed?: boolean;
  keys?: string;
  /** Id of the message that it opens for editing, so that the focus finds back. */
  edits?: string;
}) {
  return (
    <button
      type="button"
      class={`icon-button ${props.class ?? ""}`}
      aria-label={props.label}
      aria-pressed={props.pressed}
      aria-keyshortcuts={props.keys}
      data-edits={props.edits}
      title={props.label}
      disabled={props.disabled ?? false}
      onClick={props.onClick}
    >
      <Icon name={props.icon} />
    </button>
  );
}

/** Progress of a long task: phase, bytes, speed, time left. */
export function ProgressBar(props: { progress?: Progress | undefined; label: string; name?: string }) {
  const { progress, label, name } = props;
  const known = progress && progress.bytesTotal > 0;
  const parts = progress && [
    known
      ? `${formatBytes(progress.bytesDone)} of ${formatBytes(progress.bytesTotal)}`
      : progress.bytesDone > 0
        ? formatBytes(progress.bytesDone)
        : "",
    formatSpeed(progress.bytesPerSecond),
    known && progress.bytesDone < progress.bytesTotal && progress.bytesPerSecond > 0
      ? `${formatTimeLeft(progress.secondsLeft)} left`
      : "",
  ];
  return (
    <div class="progress">
      <progress
        aria-label={label}
        max={known ? progress.bytesTotal : undefined}
        value={known ? progress.bytesDone : undefined}
      />
      <p class="progress-text">
        <span>
          {name && <strong>{name}</strong>} {progress?.phase ?? "Getting ready"}
        </span>
        <span class="numbers">{parts?.filter(Boolean).join(" · ")}</span>
      </p>
    </div>
  );
}

/** A native modal dialog: the browser keeps the focus inside and closes it with Escape. */
export function Dialog(props: { title: string; onClose: () => void; class?: string; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = ref.current!;
    const before = document.activeElement;
    element.showModal();
    return () => {
      element.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes a dialog by itself; the click is for the backdrop
    <dialog
      ref={ref}
      class={`dialog ${props.class ?? ""}`}
      aria-label={props.title}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
      onClick={(event) => event.target === ref.current && props.onClose()}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2>{props.title}</h2>
          <IconButton icon="close" label="Close" onClick={props.onClose} />
        </header>
        {props.children}
      </div>
    </dialog>
  );
}

/** A message that stays where it happened. */
export function Notice(props: {
  kind: "error" | "warning" | "info";
  /** Shows a way to put the message away. */
  onDismiss?: () => void;
  children: ComponentChildren;
}) {
  const { kind, onDismiss, children } = props;
  return (
    <div class={`notice ${kind}`} role={kind === "error" ? "alert" : undefined}>
      <Icon name={kind === "info" ? "info" : "warning"} />
      <div>{children}</div>
      {onDismiss && <IconButton icon="close" label="Dismiss" onClick={onDismiss} />}
    </div>
  );
}
