import { useState } from "preact/hooks";
import type { DatasetDraft, DatasetIssue } from "../../api/index.ts";
import { discardDraft, storeDraft } from "../actions/train_data.ts";
import { Notice } from "../components/controls.tsx";
import { Icon } from "../components/icons.tsx";
import { formatBytes, formatCount } from "../format.ts";
import { Scroll } from "./fields.tsx";
import { lastTurns, picturesOf, RowPicture } from "./row_picture.tsx";

/** What was read, before anything is stored: the first rows, and what is wrong with the others. */
export function DraftView({ draft }: { draft: DatasetDraft }) {
  const [name, setName] = useState(draft.name);
  const [storing, setStoring] = useState(false);
  const { rows, rowsRead, pictures, bytes, formats, issueCount } = draft;
  const leftOut = rowsRead - rows;
  const store = async () => {
    setStoring(true);
    await storeDraft(name);
    setStoring(false);
  };
  return (
    <section class="card" aria-labelledby="draft-title">
      <h2 id="draft-title">
        {formatCount(rows)} {rows === 1 ? "row" : "rows"} can be learnt
      </h2>
      <p class="hint numbers">
        {formatCount(pictures)} pictures, {formatBytes(bytes)}
        {formats.length > 0 && ` · read as ${formats.join(", ")}`}
        {leftOut > 0 && ` · ${formatCount(leftOut)} of ${formatCount(rowsRead)} rows are left out`}
      </p>
      {rows === 0 && (
        <Notice kind="error">
          <p>No row can be learnt. The report below says what each of them lacks.</p>
        </Notice>
      )}
      {rows > 0 && <Sample draft={draft} />}
      {issueCount > 0 && <Report issues={draft.issues} count={issueCount} />}
      <form
        class="row-form"
        onSubmit={(event) => {
          event.preventDefault();
          void store();
        }}
      >
        <label>
          Name{" "}
          <input type="text" value={name} maxLength={120} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <button type="submit" class="primary" disabled={rows === 0 || storing}>
          {storing ? "Storing …" : `Keep ${rows === 1 ? "this row" : `these ${formatCount(rows)} rows`}`}
        </button>
        <button type="button" class="quiet" disabled={storing} onClick={() => void discardDraft()}>
          Discard
        </button>
      </form>
    </section>
  );
}

function Sample({ draft }: { draft: DatasetDraft }) {
  return (
    <Scroll class="table-scroll full sample" label="The first rows">
      <table class="results rows">
        <caption class="visually-hidden">The first {draft.sample.length} rows</caption>
        <thead>
          <tr>
            <th scope="col">Picture</th>
            <th scope="col">Question</th>
            <th scope="col">Answer</th>
          </tr>
        </thead>
        <tbody>
          {draft.sample.map((row) => {
            const { question, answer } = lastTurns(row);
            const [first] = picturesOf(row);
            return (
              <tr key={row.id}>
                <td>{first && <RowPicture id={first} />}</td>
                <td class="text">{question}</td>
                <td class="text">{answer}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Scroll>
  );
}

const WORDS = { error: "left out", warning: "taken" };

function Report({ issues, count }: { issues: DatasetIssue[]; count: number }) {
  const [only, setOnly] = useState<DatasetIssue["severity"] | undefined>(undefined);
  const errors = issues.filter(({ severity }) => severity === "error").length;
  const shown = issues.filter(({ severity }) => !only || severity === only);
  return (
    <details class="report full" open={errors > 0}>
      <summary>
        Report: {formatCount(count)} {count === 1 ? "remark" : "remarks"}
        {errors > 0 && `, ${formatCount(errors)} about rows or files that are left out`}
      </summary>
      {errors > 0 && errors < issues.length && (
        <label class="check">
          <input
            type="checkbox"
            checked={only === "error"}
            onChange={(event) => setOnly(event.currentTarget.checked ? "error" : undefined)}
          />
          Only what is left out
        </label>
      )}
      <Scroll class="table-scroll report-table" label="Report">
        <table class="results">
          <thead>
            <tr>
              <th scope="col">Where</th>
              <th scope="col">What</th>
              <th scope="col">What to do</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((issue) => (
              <tr key={`${issue.file}:${issue.row}:${issue.field}:${issue.found}`}>
                <td>
                  <span class={issue.severity === "error" ? "fail" : "doubt"}>
                    <Icon name={issue.severity === "error" ? "cross" : "warning"} />
                    {WORDS[issue.severity]}
                  </span>
                  <br />
                  {issue.file}
                  {issue.row !== undefined && `, row ${formatCount(issue.row)}`}
                </td>
                <td class="text">
                  {issue.field && <strong>{issue.field}: </strong>}
                  expected {issue.expected}; found <q>{issue.found}</q>
                </td>
                <td class="text">{issue.remedy}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {count > issues.length && <p class="hint">The first {formatCount(issues.length)} are listed.</p>}
    </details>
  );
}
