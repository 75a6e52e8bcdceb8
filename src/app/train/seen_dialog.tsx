import { useEffect, useRef, useState } from "preact/hooks";
import type { DatasetRow, SeenOptions, SeenPicture, SeenRow } from "../../api/index.ts";
import { messageOf } from "../actions/notices.ts";
import { Dialog, Notice } from "../components/controls.tsx";
import { engine } from "../engine_link.ts";
import { formatCount } from "../format.ts";
import { Scroll } from "./fields.tsx";
import { settingsOf } from "./settings_form.ts";
import { datasetId, form, model, seenRow } from "./state.ts";

/** What the model will see of a row: pictures at their size, and every token with whether its loss counts. */
export function SeenDialog({ row, rows }: { row: DatasetRow; rows: DatasetRow[] }) {
  const at = rows.findIndex(({ id }) => id === row.id);
  const go = (step: number) => {
    const next = rows[at + step];
    if (next) seenRow.value = next;
  };
  return (
    <Dialog
      title={`Row ${row.number}, as the model sees it`}
      class="seen-dialog"
      onClose={() => {
        seenRow.value = undefined;
      }}
    >
      <Seen key={row.id} row={row} />
      <div class="dialog-buttons">
        <button type="button" class="quiet" disabled={at <= 0} onClick={() => go(-1)}>
          Row before
        </button>
        <button type="button" class="quiet" disabled={at < 0 || at >= rows.length - 1} onClick={() => go(1)}>
          Row after
        </button>
      </div>
    </Dialog>
  );
}

/** Fields that cannot be used yet are for the settings page to tell; here the usual ones stand in. */
function optionsOf(): SeenOptions {
  const { settings } = form.peek() ? settingsOf(form.peek()!) : { settings: undefined };
  const good = (value: number | undefined, usual: number) => (value && value > 0 ? value : usual);
  return {
    turns: settings?.turns ?? "all",
    maxPixels: good(settings?.maxPixels, 448 * 448),
    maxTokens: good(settings?.maxTokens, 2048),
  };
}

function Seen({ row }: { row: DatasetRow }) {
  const [seen, setSeen] = useState<SeenRow | undefined>(undefined);
  const [problem, setProblem] = useState<string | undefined>(undefined);
  const modelId = model.value?.id;
  const options = optionsOf();
  useEffect(() => {
    let isGone = false;
    if (!modelId) return;
    engine()
      .inspectRow(modelId, datasetId.peek()!, row.id, options)
      .then(
        (found) => !isGone && setSeen(found),
        (error) => !isGone && setProblem(messageOf(error)),
      );
    return () => {
      isGone = true;
    };
  }, [modelId]);
  if (!modelId) {
    return (
      <Notice kind="info">
        <p>Tokens depend on the model, and none is stored yet.</p>
        <a class="quiet button" href="#/models">
          Get a model
        </a>
      </Notice>
    );
  }
  if (problem) {
    return (
      <Notice kind="error">
        <p>{problem}</p>
      </Notice>
    );
  }
  if (!seen) return <p class="hint">Reading …</p>;
  return (
    <>
      {seen.isTooLong && (
        <Notice kind="warning">
          <p>
            {formatCount(seen.tokens)} tokens are more than the limit of {formatCount(options.maxTokens)}: this row is
            left out. Raise the limit or lower the pictures’ size in the settings.
          </p>
        </Notice>
      )}
      {seen.pictures.map((picture, i) => (
        <figure key={`${picture.pictureId}-${i}`} class="seen-picture">
          <SeenCanvas modelId={modelId} pictureId={picture.pictureId} maxPixels={options.maxPixels} number={i + 1} />
          <figcaption class="hint numbers">
            Picture {i + 1}: {picture.width} × {picture.height} → {picture.resizedWidth} × {picture.resizedHeight},{" "}
            {formatCount(picture.tokens)} tokens
          </figcaption>
        </figure>
      ))}
      <p class="legend">
        <span class="token trained">learnt</span> its loss counts: {formatCount(seen.trained)} tokens
        <span class="token">read</span> only seen: {formatCount(seen.tokens - seen.trained)} tokens
      </p>
      <Tokens spans={seen.spans} />
    </>
  );
}

/** Tokens in a row that are learnt, or are not, are one group, so that a screen reader says it once. */
function groupsOf(spans: SeenRow["spans"]): { trained: boolean; spans: SeenRow["spans"] }[] {
  const groups: { trained: boolean; spans: SeenRow["spans"] }[] = [];
  for (const span of spans) {
    const last = groups.at(-1);
    if (last?.trained === span.trained) last.spans.push(span);
    else groups.push({ trained: span.trained, spans: [span] });
  }
  return groups;
}

function Tokens({ spans }: { spans: SeenRow["spans"] }) {
  return (
    <Scroll class="tokens" label="Tokens">
      {groupsOf(spans).map((group, i) => {
        const inside = group.spans.map((span, j) => <Token key={`${i}-${j}`} span={span} />);
        return group.trained ? (
          <mark key={i}>
            <span class="visually-hidden">learnt: </span>
            {inside}
            <span class="visually-hidden"> (end of what is learnt) </span>
          </mark>
        ) : (
          <span key={i}>{inside}</span>
        );
      })}
    </Scroll>
  );
}

function Token({ span }: { span: SeenRow["spans"][number] }) {
  const { text, count, trained, picture } = span;
  if (picture !== undefined)
    return (
      <span class="token picture">
        picture {picture + 1} × {formatCount(count)}
      </span>
    );
  const lines = text.split("\n");
  return (
    <span class={`token ${trained ? "trained" : ""}`} title={count > 1 ? `${count} tokens` : undefined}>
      {lines.map((line, i) => (
        <>
          {i > 0 && (
            <>
              <span class="newline" aria-label="new line" role="img">
                ↵
              </span>
              <br />
            </>
          )}
          {line}
        </>
      ))}
    </span>
  );
}

function SeenCanvas(props: { modelId: string; pictureId: string; maxPixels: number; number: number }) {
  const { modelId, pictureId, maxPixels, number } = props;
  const ref = useRef<HTMLCanvasElement>(null);
  const [picture, setPicture] = useState<SeenPicture | undefined>(undefined);
  const [problem, setProblem] = useState<string | undefined>(undefined);
  useEffect(() => {
    let isGone = false;
    engine()
      .seenPicture(modelId, pictureId, maxPixels)
      .then(
        (found) => !isGone && setPicture(found),
        (error) => !isGone && setProblem(messageOf(error)),
      );
    return () => {
      isGone = true;
    };
  }, []);
  useEffect(() => {
    if (!picture) return;
    const { width, height, rgba } = picture;
    ref.current!.getContext("2d")!.putImageData(new ImageData(rgba, width, height), 0, 0);
  }, [picture]);
  if (problem) return <p class="fail">{problem}</p>;
  if (!picture) return <span class="row-picture large" />;
  return (
    <canvas
      ref={ref}
      width={picture.width}
      height={picture.height}
      role="img"
      aria-label={`Picture ${number} at the size that the model sees`}
    />
  );
}
