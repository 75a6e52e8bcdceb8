import { useEffect, useState } from "preact/hooks";
import type { EvaluationRecord, RunRecord } from "../../api/index.ts";
import { chatWith, downloadAdapter, downloadLog } from "../actions/train_history.ts";
import { exportScript } from "../actions/train_plan.ts";
import { Notice } from "../components/controls.tsx";
import { engine } from "../engine_link.ts";
import { formatCount, formatDuration } from "../format.ts";
import { Scroll } from "./fields.tsx";
import { beforeAndAfter, notBetter } from "./progress.ts";
import { picturesOf, RowPicture } from "./row_picture.tsx";
import { Verdict } from "./samples.tsx";
import { formOf } from "./settings_form.ts";
import { adapters } from "./shared.ts";
import { datasets } from "./state.ts";

/** What a run has brought: scores from and to, answers before and after, and what can be done with the adapter. */
export function RunResult({ run, isNamed = true }: { run: RunRecord; isNamed?: boolean }) {
  const { before, after } = beforeAndAfter(run);
  const warning = notBetter(run);
  const time = run.log.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const done = run.log.at(-1)?.step ?? 0;
  const words = {
    finished: "has finished",
    stopped: "was stopped",
    failed: "stopped with an error",
    running: "is unfinished",
    paused: "is paused",
  };
  return (
    <section class="card result" aria-labelledby={`result-${run.id}`}>
      <h2 id={`result-${run.id}`}>
        {isNamed ? `“${run.name}”` : "It"} {words[run.state]}
      </h2>
      <p class="hint numbers">
        {formatCount(done)} of {formatCount(run.steps)} steps in {formatDuration(time)} · {run.model.name} ·{" "}
        {run.dataset.name}
        {run.device && ` · ${run.device}`}
      </p>
      {run.message && (
        <Notice kind={run.state === "failed" ? "error" : "info"}>
          <p>{run.message}</p>
        </Notice>
      )}
      {warning && (
        <Notice kind="info">
          <p>{warning}</p>
        </Notice>
      )}
      {before && after && <Scores before={before} after={after} />}
      <Buttons run={run} />
      {before && after && <BeforeAfter run={run} before={before} after={after} />}
    </section>
  );
}

function Scores({ before, after }: { before: EvaluationRecord; after: EvaluationRecord }) {
  const share = (value: number) => `${Math.round(100 * value)} %`;
  const rows: [string, string, string][] = [
    ["Right answers, relaxed", share(before.relaxed), share(after.relaxed)],
    ["Right answers, exact", share(before.exact), share(after.exact)],
    ["Loss", before.loss.toPrecision(3), after.loss.toPrecision(3)],
  ];
  return (
    <dl class="scores full">
      {rows.map(([name, from, to]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            <span class="visually-hidden">from </span>
            {from}
            <span aria-hidden="true"> → </span>
            <span class="visually-hidden"> to </span>
            <strong>{to}</strong>
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Buttons({ run }: { run: RunRecord }) {
  const adapter = adapters.value.find(({ id }) => id === run.adapterId);
  const data = datasets.value?.find(({ id }) => id === run.dataset.id);
  return (
    <div class="row-form">
      {adapter && (
        <>
          <button type="button" class="primary" onClick={() => void chatWith(adapter)}>
            Chat with it
          </button>
          <button type="button" class="quiet" onClick={() => void downloadAdapter(adapter, "peft")}>
            Adapter for PEFT, vLLM
          </button>
          <button
            type="button"
            class="quiet"
            disabled={adapter.hasVision}
            title={adapter.hasVision ? "llama.cpp's adapters hold language layers only" : undefined}
            onClick={() => void downloadAdapter(adapter, "gguf")}
          >
            For llama.cpp (GGUF)
          </button>
        </>
      )}
      {data && (
        <button
          type="button"
          class="quiet"
          onClick={() => void exportScript(run.model.id, data.id, data.name, formOf(run.settings, run.patience))}
        >
          Continue elsewhere
        </button>
      )}
      {run.log.length > 0 && (
        <button type="button" class="quiet" onClick={() => void downloadLog(run)}>
          Log as CSV
        </button>
      )}
    </div>
  );
}

/** The same questions before the first step and with the adapter. */
function BeforeAfter(props: { run: RunRecord; before: EvaluationRecord; after: EvaluationRecord }) {
  const { run, before, after } = props;
  const pictures = usePictures(run.dataset.id);
  const then = new Map(before.samples.map((sample) => [sample.rowId, sample]));
  if (after.samples.length === 0) return null;
  return (
    <Scroll class="table-scroll full sample" label="Answers before and after">
      <table class="results rows">
        <thead>
          <tr>
            <th scope="col">Picture</th>
            <th scope="col">Question</th>
            <th scope="col">Expected</th>
            <th scope="col">Before</th>
            <th scope="col">After</th>
          </tr>
        </thead>
        <tbody>
          {after.samples.map((sample) => {
            const earlier = then.get(sample.rowId);
            const picture = pictures.get(sample.rowId);
            return (
              <tr key={sample.rowId}>
                <td>{picture && <RowPicture id={picture} />}</td>
                <td class="text">{sample.question}</td>
                <td class="text">{sample.expected}</td>
                <td class="text">
                  {earlier && (
                    <>
                      {earlier.found} <Verdict sample={earlier} />
                    </>
                  )}
                </td>
                <td class="text">
                  {sample.found} <Verdict sample={sample} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Scroll>
  );
}

/** The first picture of each row held back, where the data set is still there. */
function usePictures(datasetId: string): ReadonlyMap<string, string> {
  const [found, setFound] = useState<ReadonlyMap<string, string>>(new Map());
  useEffect(() => {
    let isGone = false;
    engine()
      .datasetRows(datasetId, { from: 0, count: Number.MAX_SAFE_INTEGER, part: "heldBack" })
      .then(
        ({ rows }) => {
          if (!isGone)
            setFound(
              new Map(
                rows.flatMap((row) =>
                  picturesOf(row)
                    .slice(0, 1)
                    .map((id) => [row.id, id]),
                ),
              ),
            );
        },
        () => {},
      );
    return () => {
      isGone = true;
    };
  }, [datasetId]);
  return found;
}
