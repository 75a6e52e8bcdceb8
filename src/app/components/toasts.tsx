import { useEffect, useRef } from "preact/hooks";
import { dismissToast, holdToast } from "../actions/notices.ts";
import { type Toast, toasts } from "../state.ts";
import { IconButton } from "./controls.tsx";

/** Short notices, newest last. They wait while the pointer or the focus is on them. */
export function Toasts() {
  const ref = useRef<HTMLElement>(null);
  // As a popover it lies over a dialog too, if it was shown after it.
  const newest = toasts.value.at(-1)?.id;
  useEffect(() => {
    if (!ref.current?.showPopover) return;
    if (ref.current.matches(":popover-open")) ref.current.hidePopover();
    ref.current.showPopover();
  }, [newest]);
  return (
    <section class="toasts" aria-label="Notices" aria-live="polite" popover="manual" ref={ref}>
      {toasts.value.map((toast) => (
        <ToastView key={toast.id} toast={toast} />
      ))}
    </section>
  );
}

function ToastView({ toast }: { toast: Toast }) {
  const hold = () => holdToast(toast.id, undefined);
  const release = () => holdToast(toast.id, 4_000);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: it has a role; touching it only keeps it from going away
    <div
      class={`toast ${toast.kind}`}
      role={toast.kind === "error" ? "alert" : "status"}
      onMouseEnter={hold}
      onMouseLeave={release}
      onFocusIn={hold}
      onFocusOut={release}
    >
      <p>{toast.text}</p>
      {toast.action && (
        <button
          type="button"
          class="toast-action"
          onClick={() => {
            dismissToast(toast.id);
            void toast.action!.run();
          }}
        >
          {toast.action.label}
        </button>
      )}
      <IconButton icon="close" label="Dismiss" onClick={() => dismissToast(toast.id)} />
    </div>
  );
}
