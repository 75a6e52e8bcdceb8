import { callback, type SelfTestRow } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import { selfTest } from "../state.ts";
import { messageOf } from "./notices.ts";

/** Rows are shown in batches: there may be hundreds in a second. */
const SHOW_EVERY = 100;

export async function runSelfTest(filter: string, timing: boolean): Promise<void> {
  if (selfTest.peek().running) return;
  const taskId = crypto.randomUUID();
  const rows: SelfTestRow[] = [];
  const show = () => {
    selfTest.value = { ...selfTest.peek(), rows: [...rows] };
  };
  selfTest.value = { running: { taskId, started: Date.now() }, rows: [] };
  const timer = setInterval(show, SHOW_EVERY);
  try {
    const options = { timing, ...(filter.trim() ? { filter: filter.trim() } : {}) };
    const summary = await engine().selfTest(
      options,
      taskId,
      callback((row) => void rows.push(row)),
    );
    // Rows come by a channel of their own and may arrive after the summary.
    for (let i = 0; i < 100 && rows.length < summary.passed + summary.failed; i++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    selfTest.value = { rows: [...rows], summary };
  } catch (error) {
    const stopped = isError(error, "Cancelled") ? "Stopped." : messageOf(error);
    selfTest.value = { rows: [...rows], error: stopped };
  } finally {
    clearInterval(timer);
  }
}

export function stopSelfTest(): void {
  const { running } = selfTest.peek();
  if (running)
    void engine()
      .cancel(running.taskId)
      .catch(() => {});
}
