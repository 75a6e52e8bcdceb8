import { useState } from "preact/hooks";
import type { SelfTestRow } from "../api/index.ts";
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
  const shown = rows.filter((row) => show === "all" || !row.pass);
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
          <input
            type="text"
            placeholder="all"
            value={filter}
            disabled={running !== undefined}
            onInput={(e) => setFilter(e.currentTarget.value)}
          />
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
            <span class="spinner" aria-hidden="true" /> {rows.length} cases done, {failed} failed …
          </p>
        )}
        {error && (
          <Notice kind="error">
            <p>{error}</p>
          </Notice>
        )}
        {summary && (
          <Notice kind={summary.failed ? "error" : "info"}>
            <p>
              <strong>
                {summary.failed === 0
                  ? `All ${formatCount(summary.passed)} cases passed`
                  : `${formatCount(summary.failed)} of ${formatCount(summary.passed + summary.failed)} cases failed`}
              </strong>{" "}
              in {formatDuration(summary.milliseconds)}.
              {summary.copyBandwidth ? ` Copying: ${formatBytes(summary.copyBandwidth)}/s.` : ""}
              {summary.arithmetic ? ` Arithmetic: ${flops(summary.arithmetic)}.` : ""}
            </p>
          </Notice>
        )}
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
