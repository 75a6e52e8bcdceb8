import { dismissToast, holdToast } from "../actions/notices.ts";
import { type Toast, toasts } from "../state.ts";
import { IconButton } from "./controls.tsx";

/** Short notices, newest last. They wait while the pointer or the focus is on them. */
export function Toasts() {
  return (
    <section class="toasts" aria-label="Notices" aria-live="polite" popover="manual" ref={keepOnTop}>
      {toasts.value.map((toast) => (
        <ToastView key={toast.id} toast={toast} />
      ))}
    </section>
  );
}

/** As a popover it lies over dialogs too. */
function keepOnTop(element: HTMLElement | null): void {
  if (element?.showPopover && !element.matches(":popover-open")) element.showPopover();
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
            toast.action!.run();
          }}
        >
          {toast.action.label}
        </button>
      )}
      <IconButton icon="close" label="Dismiss" onClick={() => dismissToast(toast.id)} />
    </div>
  );
}
