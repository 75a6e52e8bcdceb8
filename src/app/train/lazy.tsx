import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { messageOf } from "../actions/notices.ts";
import { Notice } from "../components/controls.tsx";

/** The Train screen brings tables, forms and a plotting library: it is loaded when somebody asks for it. */
const screen = signal<ComponentType | undefined>(undefined);
const problem = signal<string | undefined>(undefined);

async function load(): Promise<void> {
  problem.value = undefined;
  try {
    screen.value = (await import("./train_screen.tsx")).TrainScreen;
  } catch (error) {
    problem.value = messageOf(error);
  }
}

export function LazyTrainScreen() {
  useEffect(() => {
    if (!screen.peek()) void load();
  }, []);
  const Shown = screen.value;
  if (Shown) return <Shown />;
  return (
    <main class="page" id="main">
      {problem.value ? (
        <Notice kind="error">
          <p>This part of the page could not be loaded: {problem.value}</p>
          <button type="button" class="quiet" onClick={() => void load()}>
            Try again
          </button>
        </Notice>
      ) : (
        <p class="hint">Loading …</p>
      )}
    </main>
  );
}
