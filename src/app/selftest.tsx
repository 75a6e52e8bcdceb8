import { useState } from "preact/hooks";
import type { SelfTestRow, SelfTestSummary } from "../api/index.ts";
import { copyText } from "./actions/chat.ts";
import { runSelfTest, stopSelfTest } from "./actions/self_test.ts";
import { Notice } from "./components/controls.tsx";
import { Icon } from "./components/icons.tsx";
import { formatBytes, formatCount, formatDuration } from "./format.ts";
import { capabilities, selfTest } from "./state.ts";

type Show = "all" | "failed";

/** Every kernel case in the visitor's own browser, beside its reference. */
export function SelfTestScreen() {
  const [filter, setFilter] = useState("");
  const [timing, setTiming] = useState(true);
  const [show, setShow] = useState<Show>("all");
  const { running, rows, summary, error } = selfTest.value;
  const failed = rows.filter((row) => !row.pass).length;
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = rows
    .filter((row) => show === "all" || !row.pass)
    .filter((row) => {
      const text = `${row.kernel} ${row.shape}`.toLowerCase();
      return words.every((word) => text.includes(word));
    })
    // What failed stands on top; the order is kept otherwise.
    .sort((a, b) => Number(a.pass) - Number(b.pass));
  return (
    <main class="page wide" id="main">
      <p>
        Each computation of the model runs on your GPU and is compared with a slow reference in double precision. Times
        are the median of one dispatch; the share says how much of this device's own measured bandwidth or arithmetic it
        reaches.
      </p>
      <form
        class="row-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (!running) void runSelfTest(filter, timing);
        }}
      >
        <label>
          Only kernels with{" "}
          <input type="search" placeholder="all" value={filter} onInput={(e) => setFilter(e.currentTarget.value)} />
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked={timing}
            disabled={running !== undefined}
            onChange={(e) => setTiming(e.currentTarget.checked)}
          />
          Measure times
        </label>
        {running ? (
          <button type="button" class="quiet" onClick={stopSelfTest}>
            Stop
          </button>
        ) : (
          <button type="submit" class="primary">
            Run the self-test
          </button>
        )}
        {rows.length > 0 && (
          <button type="button" class="quiet" onClick={() => void copyText(asText(rows), "The table was copied.")}>
            <Icon name="copy" /> Copy as text
          </button>
        )}
      </form>
      <div role="status">
        {running && (
          <p class="stage">
            <span class="spinner" aria-hidden="true" /> {formatCount(rows.length)} cases done, {formatCount(failed)}{" "}
            failed …{rows.length > 0 && <span class="hint">{rows.at(-1)!.kernel}</span>}
          </p>
        )}
        {error && (
          <Notice kind="error">
            <p>{error}</p>
          </Notice>
        )}
        {summary && <Summary summary={summary} />}
      </div>
      {rows.length > 0 && (
        <>
          <fieldset class="tabs">
            <legend class="visually-hidden">Rows</legend>
            {(["all", "failed"] as const).map((name) => (
              <label key={name} class={show === name ? "chosen" : ""}>
                <input
                  type="radio"
                  name="show"
                  class="visually-hidden"
                  checked={show === name}
                  onChange={() => setShow(name)}
                />
                {name === "all" ? `All ${rows.length}` : `Failed ${failed}`}
              </label>
            ))}
          </fieldset>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a wide table must be scrollable by keyboard */}
          <section class="table-scroll" tabIndex={0} aria-label="Results">
            <table class="results">
              <thead>
                <tr>
                  <th scope="col">Result</th>
                  <th scope="col">Kernel</th>
                  <th scope="col">Shape</th>
                  <th scope="col" class="num">
                    Error
                  </th>
                  <th scope="col" class="num">
                    Tolerance
                  </th>
                  <th scope="col" class="num">
                    Time
                  </th>
                  <th scope="col">Share of ceiling</th>
                </tr>
              </thead>
              <tbody>
                {shown.length === 0 && (
                  <tr>
                    <td colSpan={7}>
                      {show === "failed" && failed === 0 ? "None failed." : "No row has these words."}
                    </td>
                  </tr>
                )}
                {shown.map((row, i) => (
                  <Row key={i} row={row} />
                ))}
              </tbody>
            </table>
          </section>
        </>
      )}
    </main>
  );
}

function Summary({ summary }: { summary: SelfTestSummary }) {
  const { passed, failed, copyBandwidth, arithmetic } = summary;
  return (
    <>
      <Notice kind={failed ? "error" : passed === 0 ? "warning" : "info"}>
        <p>
          <strong>
            {passed + failed === 0
              ? "No kernel has these words: nothing was run"
              : failed === 0
                ? `All ${formatCount(passed)} cases passed`
                : `${formatCount(failed)} of ${formatCount(passed + failed)} cases failed`}
          </strong>{" "}
          in {formatDuration(summary.milliseconds)}.
          {failed > 0 && " They stand on top. Copy the table as text for a report; it names your GPU and browser."}
        </p>
      </Notice>
      {(copyBandwidth !== undefined || arithmetic !== undefined) && (
        <dl class="ceilings">
          {copyBandwidth !== undefined && (
            <div>
              <dt>Copying, measured here</dt>
              <dd>{formatBytes(copyBandwidth)}/s</dd>
            </div>
          )}
          {arithmetic !== undefined && (
            <div>
              <dt>Arithmetic, measured here</dt>
              <dd>{flops(arithmetic)}</dd>
            </div>
          )}
        </dl>
      )}
    </>
  );
}

function Row({ row }: { row: SelfTestRow }) {
  const { share } = row;
  return (
    <tr class={row.pass ? "" : "failed"}>
      <td>
        <span class={row.pass ? "pass" : "fail"}>
          <Icon name={row.pass ? "check" : "cross"} /> {row.pass ? "ok" : "failed"}
        </span>
      </td>
      <td>{row.kernel}</td>
      <td>
        {row.shape}
        {row.message && <span class="hint"> {row.message}</span>}
      </td>
      <td class="num">{exponent(row.error)}</td>
      <td class="num">{exponent(row.tolerance)}</td>
      <td class="num">{row.milliseconds === undefined ? "" : milliseconds(row.milliseconds)}</td>
      <td>
        {share !== undefined && (
          <span class="share">
            <meter min={0} max={1} value={Math.min(1, share)} aria-hidden="true" />
            {Math.round(100 * share)} % of {row.bound ?? "ceiling"}
          </span>
        )}
      </td>
    </tr>
  );
}

const exponent = (value: number) => (value === 0 ? "0" : value.toExponential(1));
const milliseconds = (value: number) => (value < 1 ? `${(1000 * value).toFixed(0)} µs` : `${value.toFixed(2)} ms`);
const flops = (perSecond: number) =>
  perSecond >= 1e12 ? `${(perSecond / 1e12).toFixed(1)} TFLOP/s` : `${(perSecond / 1e9).toFixed(0)} GFLOP/s`;

/** The table as aligned text, with the device on top: what belongs in a report. */
function asText(rows: SelfTestRow[]): string {
  const gpu = capabilities.value;
  const head = gpu?.ok ? `${gpu.vendor} ${gpu.architecture} ${gpu.description}`.trim() : "";
  const lines = rows.map((row) => [
    row.pass ? "ok" : "FAILED",
    row.kernel,
    row.shape,
    exponent(row.error),
    exponent(row.tolerance),
    row.milliseconds === undefined ? "" : milliseconds(row.milliseconds),
    row.share === undefined ? "" : `${Math.round(100 * row.share)} % of ${row.bound}`,
    row.message ?? "",
  ]);
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const table = lines.map((line) =>
    line
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join("  ")
      .trimEnd(),
  );
  return [head, navigator.userAgent, ...table].join("\n");
}
