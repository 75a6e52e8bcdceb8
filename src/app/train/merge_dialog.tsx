import { useRef, useState } from "preact/hooks";
import type { AdapterRecord, MergedModel, ModelSource, Progress } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { folderOfInput } from "../actions/folder.ts";
import { messageOf } from "../actions/notices.ts";
import { cancelMerge, mergeAdapter } from "../actions/train_merge.ts";
import { Dialog, Notice, ProgressBar } from "../components/controls.tsx";
import { importOrigins } from "../state.ts";

/** Where the original checkpoint can be read again without asking; folders must be chosen anew. */
function knownSource(modelId: string): ModelSource | undefined {
  const source = importOrigins.value[modelId]?.source;
  return source && source.kind !== "files" ? source : undefined;
}

/** Writes the whole model with the adapter in it, for programs that load no adapters. */
export function MergeDialog({ adapter, onClose }: { adapter: AdapterRecord; onClose: () => void }) {
  const [source, setSource] = useState(() => knownSource(adapter.modelId));
  const [progress, setProgress] = useState<Progress | undefined>(undefined);
  const [state, setState] = useState<"asking" | "working" | "done">("asking");
  const [proof, setProof] = useState<MergedModel["proof"]>(undefined);
  const [problem, setProblem] = useState<string | undefined>(undefined);
  const taskId = useRef(crypto.randomUUID());
  const start = async () => {
    if (!source) return;
    setProblem(undefined);
    setState("working");
    try {
      setProof(await mergeAdapter(adapter, source, taskId.current, setProgress));
      setState("done");
    } catch (error) {
      // AbortError: the visitor has closed the browser's own dialog.
      const isCancelled = isError(error, "Cancelled") || (error instanceof Error && error.name === "AbortError");
      if (!isCancelled) setProblem(messageOf(error));
      setState("asking");
    }
  };
  const close = () => {
    if (state === "working") cancelMerge(taskId.current);
    onClose();
  };
  return (
    <Dialog title={`Merge ${adapter.name} into its model`} onClose={close}>
      <p>
        The original checkpoint is read again and written in 16 bits with the adapter merged in: a model of its own, for
        programs that load no adapters. It is as large as the original. A folder takes least memory; where the browser
        cannot write to one, it becomes a zip.
      </p>
      {!source && (
        <div class="row-form">
          <label class="quiet button">
            Choose the checkpoint’s folder
            <input
              type="file"
              class="visually-hidden"
              {...{ webkitdirectory: true }}
              onChange={(event) => {
                const { files } = event.currentTarget;
                if (files?.length) setSource(folderOfInput(files));
              }}
            />
          </label>
          <span class="hint">the one that the model was imported from</span>
        </div>
      )}
      {problem && (
        <Notice kind="error">
          <p>{problem}</p>
        </Notice>
      )}
      {state === "working" && <ProgressBar progress={progress} label="Merging" />}
      {state === "done" && (
        <Notice kind="info">
          <p>
            {proof
              ? `The merged model is written and was read back: its ${proof.layers} adapted layers answer like the adapter, within ${proof.difference.toExponential(0)}, which is rounding.`
              : "The merged model is written. It is too large to be opened again from a zip, so it was not compared with the adapter."}
          </p>
        </Notice>
      )}
      <div class="dialog-buttons">
        <button type="button" class="quiet" onClick={close}>
          {state === "working" ? "Cancel" : "Close"}
        </button>
        {state !== "done" && (
          <button type="button" class="primary" disabled={!source || state === "working"} onClick={() => void start()}>
            Merge
          </button>
        )}
      </div>
    </Dialog>
  );
}
