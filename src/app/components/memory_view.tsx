import { useEffect, useState } from "preact/hooks";
import type { MemoryVerdict } from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { messageOf } from "../actions/notices.ts";
import { engine } from "../engine_link.ts";
import { formatBytes, formatCount } from "../format.ts";
import { capabilities } from "../state.ts";
import { Icon } from "./icons.tsx";

const CONTEXTS = [2048, 8192, 32768, 131072];
const RANKS = [8, 16, 32, 64];

/** Whether a planned or stored model fits this GPU, for a context and a rank of the visitor's choice. */
export function MemoryView({ id }: { id: string }) {
  const [contextLength, setContext] = useState(8192);
  const [rank, setRank] = useState(16);
  const [verdict, setVerdict] = useState<MemoryVerdict>();
  const [problem, setProblem] = useState<string>();
  useEffect(() => {
    const taskId = crypto.randomUUID();
    let stale = false;
    setVerdict(undefined);
    setProblem(undefined);
    engine()
      .memoryVerdict(id, { contextLength, rank }, taskId)
      .then(
        (found) => !stale && setVerdict(found),
        (error: unknown) => !stale && !isError(error, "Cancelled") && setProblem(messageOf(error)),
      );
    return () => {
      stale = true;
      void engine()
        .cancel(taskId)
        .catch(() => {});
    };
  }, [id, contextLength, rank]);
  return (
    <section class="memory" aria-label="GPU memory">
      <div class="row-form">
        <Choice label="Context" values={CONTEXTS} value={contextLength} unit="tokens" set={setContext} />
        <Choice label="LoRA rank" values={RANKS} value={rank} set={setRank} />
      </div>
      {verdict ? (
        <Found verdict={verdict} rank={rank} />
      ) : problem ? (
        <p class="hint">The GPU's memory could not be tried: {problem}</p>
      ) : (
        <p class="stage" role="status">
          <span class="spinner" aria-hidden="true" /> Trying how much memory this GPU gives …
        </p>
      )}
    </section>
  );
}

function Choice(props: {
  label: string;
  values: number[];
  value: number;
  unit?: string;
  set: (value: number) => void;
}) {
  return (
    <label>
      {props.label}{" "}
      <select value={String(props.value)} onChange={(e) => props.set(Number(e.currentTarget.value))}>
        {props.values.map((value) => (
          <option key={value} value={String(value)}>
            {formatCount(value)}
            {props.unit && ` ${props.unit}`}
          </option>
        ))}
      </select>
    </label>
  );
}

function Found({ verdict, rank }: { verdict: MemoryVerdict; rank: number }) {
  const { weights, cache, activations, vision, training, contextLength, measured = 0 } = verdict;
  const rows: [string, number][] = [
    ["Weights", weights],
    [`KV cache for ${formatCount(contextLength)} tokens`, cache],
    ["Working memory", activations],
    ["Encoding a picture", vision],
    ["Chat, all together", weights + cache + activations + vision],
    [`Training at rank ${rank}, all together`, weights + training],
  ];
  return (
    <>
      <table class="facts">
        <caption>GPU memory that it takes</caption>
        <tbody>
          {rows.map(([name, bytes]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{formatBytes(bytes)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="hint">
        {verdict.isAll ? "This GPU gave " : "This GPU gave at least "}
        {formatBytes(measured)} in a test just now, what this page holds included. It binds up to{" "}
        {formatBytes(verdict.largestBuffer)} at once, enough for {formatCount(verdict.longestContext)} tokens.
      </p>
      <ul class="verdicts">
        <Line fits={verdict.chatFits} what="Chat" />
        <Line fits={verdict.trainingFits} what="Training" />
        <Best verdict={verdict} />
      </ul>
      {capabilities.value?.ok && capabilities.value.software && (
        <p class="hint">
          This browser computes on the processor, not on a GPU: it works, but every answer of a large model takes
          minutes.
        </p>
      )}
    </>
  );
}

function Line({ fits, what }: { fits: boolean | undefined; what: string }) {
  const words = fits ? "fits" : fits === false ? "does not fit" : "was not tried with so much memory";
  return (
    <li class={fits ? "good" : "doubtful"}>
      <Icon name={fits ? "check" : "warning"} />
      <span>
        <strong>{what}</strong> {words}.
      </span>
    </li>
  );
}

/** The largest settings that fit into what was measured. */
function Best({ verdict: { bestContext, bestRank, isAll } }: { verdict: MemoryVerdict }) {
  if (bestContext === undefined && !isAll) return null;
  return (
    <li class={bestContext ? "good" : "doubtful"}>
      <Icon name={bestContext ? "check" : "warning"} />
      <span>
        {bestContext
          ? `The most that fits for certain: a context of ${formatCount(bestContext)} tokens; ${bestRank ? `training at rank ${bestRank}` : "no training"}.`
          : "Not even the shortest context fits. Choose smaller weights or a smaller model."}
      </span>
    </li>
  );
}
