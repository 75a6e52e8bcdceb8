import { engine } from "../engine_link.ts";
import { type Chat, run } from "../state.ts";

/** Stops the answer, also one that still waits for its model. */
export function stop(): void {
  const current = run.peek();
  if (!current) return;
  current.abort.abort();
  void engine()
    .cancel(current.taskId)
    .catch(() => {});
}

/** Stops the answer that is being written in `chat`, if there is one, and waits until it has been put away. */
export async function settle(chat: Chat): Promise<void> {
  if (run.peek()?.chat !== chat) return;
  stop();
  await new Promise<void>((resolve) => {
    const forget = run.subscribe((now) => {
      if (now?.chat === chat) return;
      resolve();
      queueMicrotask(() => forget());
    });
  });
}
