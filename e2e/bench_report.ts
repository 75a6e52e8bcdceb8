import type { BenchRow } from "../src/api/bench_protocol.ts";

/** One run of the benchmark, as kept in e2e/results/. */
export interface BenchReport {
  version: 1;
  date: string;
  commit: string;
  gpu: string;
  browser: string;
  flags: string;
  /** Features that the device was opened without. */
  without?: string;
  preset: string;
  seconds: number;
  rows: BenchRow[];
}

/** More is better for these units; for the others less is. */
const RATES: readonly string[] = ["tok/s", "GB/s", "TFLOP/s", "×"];

function figure(value: number): string {
  if (value === 0) return "–";
  if (value >= 1000) return value.toFixed(0);
  return value.toPrecision(value < 0.1 ? 2 : 3);
}

/** Lines of cells, padded to columns. */
function columns(table: string[][]): string {
  const widths = (table[0] ?? []).map((_, i) => Math.max(...table.map((line) => line[i]!.length)));
  return table
    .map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** The readable form of a run. */
export function describe(report: BenchReport): string {
  const head = `${report.gpu} · ${report.browser} · ${report.preset} · ${report.commit} · ${report.date} · ${report.seconds.toFixed(0)} s`;
  const table = report.rows.map((row) => [
    row.part,
    row.name,
    `${figure(row.value)} ${row.unit}`,
    row.share === undefined ? "" : `${(100 * row.share).toFixed(0)} % of ${row.bound}`,
    row.note ?? "",
  ]);
  return `${head}\n${columns(table)}`;
}

/** A number of a peer, and the part and name of ours that it stands beside, if there is one. */
export interface PeerRow {
  row: BenchRow;
  ours?: [part: string, name: string];
}

/** A peer's number, and how many times as fast (or as small) ours of the same run is, where both were measured. */
export function besidePeer(rows: readonly BenchRow[], { row, ours: [part, name] = ["", ""] }: PeerRow): BenchRow[] {
  const ours = rows.find((r) => r.part === part && r.name === name);
  if (!ours || !(ours.value > 0) || !(row.value > 0)) return [row];
  if (ours.unit !== row.unit) throw new Error(`${row.name} is in ${row.unit}, and ${part}, ${name} in ${ours.unit}`);
  const value = RATES.includes(row.unit) ? ours.value / row.value : row.value / ours.value;
  return [row, { part: row.part, name: `ours to ${row.name}`, value, unit: "×" }];
}

/** What moved by more than `least` (a share) between two runs, and what only one of them has. */
export function compare(before: BenchReport, after: BenchReport, least = 0.03): string {
  const key = (row: BenchRow) => `${row.part}, ${row.name}`;
  const old = new Map(before.rows.map((row) => [key(row), row]));
  const moved: string[][] = [];
  for (const row of after.rows) {
    const was = old.get(key(row));
    old.delete(key(row));
    if (!was || !(was.value > 0) || !(row.value > 0)) {
      if (!was) moved.push([key(row), "–", `${figure(row.value)} ${row.unit}`, "new"]);
      continue;
    }
    const ratio = row.value / was.value;
    if (Math.abs(ratio - 1) <= least) continue;
    const better = ratio > 1 === RATES.includes(row.unit);
    moved.push([
      key(row),
      figure(was.value),
      `${figure(row.value)} ${row.unit}`,
      `× ${ratio.toFixed(2)} ${better ? "better" : "worse"}`,
    ]);
  }
  for (const [name, row] of old) moved.push([name, `${figure(row.value)} ${row.unit}`, "–", "gone"]);
  const between = `${before.commit} on ${before.gpu} → ${after.commit} on ${after.gpu}`;
  return moved.length ? `${between}\n${columns(moved)}` : `${between}: nothing moved by more than ${100 * least} %`;
}
