import "./train.css";
import { useEffect, useState } from "preact/hooks";
import { folderOfDrop } from "../actions/folder.ts";
import { messageOf } from "../actions/notices.ts";
import { refreshAdapters } from "../actions/train_adapters.ts";
import { readFiles, refreshDatasets } from "../actions/train_data.ts";
import { refreshRuns } from "../actions/train_history.ts";
import { restoreForm } from "../actions/train_plan.ts";
import { Icon } from "../components/icons.tsx";
import { AdaptersView, dropAdapter } from "./adapters_view.tsx";
import { DataStep } from "./data_step.tsx";
import { HistoryView } from "./history_view.tsx";
import { RunView } from "./run_view.tsx";
import { SettingsView } from "./settings_view.tsx";
import { dataError, dataset, isRunning, VIEWS, type View, view } from "./state.ts";

const COMPONENTS = {
  data: DataStep,
  settings: SettingsView,
  run: RunView,
  history: HistoryView,
  adapters: AdaptersView,
};

const addressOf = (name: View) => (name === "data" ? "#/train" : `#/train/${name}`);

/** The part of the screen that the address names: `#/train`, `#/train/settings`, `#/train/history/ID`. */
function followAddress(): void {
  const [, screen, name = "", id] = location.hash.split("/");
  if (screen !== "train") return;
  view.value = { name: Object.hasOwn(VIEWS, name) ? (name as View) : "data", ...(id ? { id } : {}) };
}

/** Training in three steps, and what came out of it. */
export function TrainScreen() {
  useEffect(() => {
    followAddress();
    addEventListener("hashchange", followAddress);
    void restoreForm();
    void refreshDatasets();
    void refreshRuns();
    void refreshAdapters();
    return () => removeEventListener("hashchange", followAddress);
  }, []);
  const { name } = view.value;
  const Shown = COMPONENTS[name];
  return (
    <main class="page wide train" id="main">
      <nav class="train-nav" aria-label="Training">
        <ol class="steps">
          <StepLink name="data" number={1} note={dataset.value?.name} />
          <StepLink name="settings" number={2} />
          <StepLink name="run" number={3} note={isRunning.value ? "under way" : undefined} />
        </ol>
        <div class="train-more">
          <ViewLink name="history" />
          <ViewLink name="adapters" />
        </div>
      </nav>
      <Shown />
      <DropFiles />
    </main>
  );
}

function StepLink({ name, number, note }: { name: View; number: number; note?: string | undefined }) {
  return (
    <li>
      <a href={addressOf(name)} aria-current={view.value.name === name ? "step" : undefined}>
        <span class="step-number" aria-hidden="true">
          {number}
        </span>
        <span class="step-name">
          {VIEWS[name]}
          {note && <span class="hint">{note}</span>}
        </span>
      </a>
    </li>
  );
}

function ViewLink({ name }: { name: View }) {
  return (
    <a class="quiet button" href={addressOf(name)} aria-current={view.value.name === name ? "page" : undefined}>
      {VIEWS[name]}
    </a>
  );
}

/** Files may be dropped anywhere on the screen: an adapter's on its list, else they are data. */
function DropFiles() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    // Dialogs and the line for new rows take pictures themselves.
    const hasOwnPlace = (event: DragEvent) =>
      document.querySelector("dialog[open]") !== null ||
      (event.target instanceof Element && event.target.closest("[data-takes-files]") !== null);
    const enter = (event: DragEvent) => {
      if (!hasFiles(event) || document.querySelector("dialog[open]")) return;
      depth++;
      setOver(true);
    };
    const leave = () => {
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(false);
    };
    const drop = (event: DragEvent) => {
      depth = 0;
      setOver(false);
      if (event.defaultPrevented || !event.dataTransfer || hasOwnPlace(event)) return;
      event.preventDefault();
      void takeDrop(event.dataTransfer);
    };
    addEventListener("dragenter", enter);
    addEventListener("dragleave", leave);
    // Before the page's own listener, which lets files on other screens fall.
    addEventListener("drop", drop, { capture: true });
    return () => {
      removeEventListener("dragenter", enter);
      removeEventListener("dragleave", leave);
      removeEventListener("drop", drop, { capture: true });
    };
  }, []);
  if (!over) return null;
  const isAdapter = view.value.name === "adapters";
  return (
    <div class="drop-overlay" aria-hidden="true">
      <div>
        <Icon name="folder" />
        <p>{isAdapter ? "Drop an adapter’s folder or zip" : "Drop a folder, a zip or files with rows and pictures"}</p>
      </div>
    </div>
  );
}

async function takeDrop(data: DataTransfer): Promise<void> {
  try {
    const source = await folderOfDrop(data);
    if (!source) throw new Error("There are no files in what was dropped.");
    if (view.peek().name === "adapters") await dropAdapter(source);
    else {
      location.hash = addressOf("data");
      await readFiles(source);
    }
  } catch (error) {
    dataError.value = messageOf(error);
  }
}
