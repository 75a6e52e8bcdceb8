import { batch } from "@preact/signals";
import { isError } from "../../errors.ts";
import { type Toast, toasts } from "../state.ts";

let next = 1;
const timers = new Map<number, ReturnType<typeof setTimeout>>();

/** Shows a notice for some seconds. The same text is never shown twice at once. */
export function toast(text: string, options: { kind?: Toast["kind"]; action?: Toast["action"] } = {}): void {
  const id = next++;
  const notice: Toast = {
    id,
    text,
    kind: options.kind ?? "info",
    ...(options.action ? { action: options.action } : {}),
  };
  batch(() => {
    toasts.value = [...toasts.value.filter((t) => t.text !== text), notice].slice(-4);
  });
  holdToast(id, options.action || options.kind === "error" ? 10_000 : 5_000);
}

/** Keeps a notice for `milliseconds` more; forever while the pointer or the focus is on it. */
export function holdToast(id: number, milliseconds: number | undefined): void {
  clearTimeout(timers.get(id));
  if (milliseconds !== undefined)
    timers.set(
      id,
      setTimeout(() => dismissToast(id), milliseconds),
    );
}

export function dismissToast(id: number): void {
  clearTimeout(timers.get(id));
  timers.delete(id);
  toasts.value = toasts.value.filter((t) => t.id !== id);
}

export function messageOf(error: unknown): string {
  return error instanceof Error && error.message ? error.message : String(error);
}

/** Runs something that the visitor asked for; a failure becomes a notice, a cancellation does not. */
export async function attempt(what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (isError(error, "Cancelled")) return;
    toast(`${what}: ${messageOf(error)}`, { kind: "error" });
  }
}
