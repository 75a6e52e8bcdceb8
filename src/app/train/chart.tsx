import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { theme } from "../state.ts";

/** A curve; `values` stand over the chart's `x`, null where it has none. */
export interface Curve {
  label: string;
  values: (number | null)[];
  /** Curves are told apart by more than colour. */
  look: "faint" | "line" | "dashed" | "points";
  /** One of the chart colours of train.css, from 1. */
  colour: number;
}

interface Props {
  /** Said aloud in the chart's place: what it shows, and the latest values. */
  title: string;
  x: number[];
  curves: Curve[];
  /** Of a value, in legend and axis. */
  format: (value: number) => string;
  /** Pixels. */
  height?: number;
  /** Fixed bounds of the values; else they follow the curves. */
  range?: [number, number];
}

/** Curves over steps. The legend below follows the pointer. */
export function Chart(props: Props) {
  const { title, x, curves, height = 220 } = props;
  const ref = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const format = useRef(props.format);
  format.current = props.format;
  const dark = useDark();
  const shape = curves.map(({ label, look, colour }) => `${label}/${look}/${colour}`).join();
  const data = [x, ...curves.map(({ values }) => values)] as uPlot.AlignedData;
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    const element = ref.current!;
    const made = new uPlot(
      options(element, curves, { ...props, height }, (value) => format.current(value)),
      latest.current,
      element,
    );
    plot.current = made;
    showLatest(made);
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [shape, dark, height]);
  useEffect(() => {
    plot.current?.setData(data);
    if (plot.current) showLatest(plot.current);
  }, [x, curves]);
  const last = curves.flatMap(({ label, values }) => {
    const value = values.findLast((v) => v !== null && Number.isFinite(v));
    return value === undefined || value === null ? [] : `${label} ${props.format(value)}`;
  });
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={ref} role="img" aria-label={`${title}, latest: ${last.join(", ") || "nothing yet"}`} />
    </figure>
  );
}

/** Until the pointer says otherwise, the legend shows the latest value of each curve. */
function showLatest(plot: uPlot): void {
  if (plot.cursor.idx !== null && plot.cursor.idx !== undefined) return;
  const idxs = plot.data.map((values) => {
    const at = [...values].findLastIndex((value) => value !== null && value !== undefined);
    return at < 0 ? null : at;
  });
  plot.setLegend({ idxs }, false);
}

/** Colours are those of the page's theme; a canvas needs them resolved. */
function colourOf(element: HTMLElement, name: string): string {
  const probe = document.createElement("span");
  probe.className = name;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function options(
  element: HTMLElement,
  curves: Curve[],
  { height, range }: { height: number; range?: [number, number] },
  format: (value: number) => string,
): uPlot.Options {
  const muted = colourOf(element, "chart-ink");
  const line = colourOf(element, "chart-line");
  const axis: uPlot.Axis = {
    stroke: muted,
    font: "12px system-ui",
    grid: { stroke: line, width: 1 },
    ticks: { stroke: line, width: 1, size: 4 },
  };
  return {
    width: element.clientWidth,
    height,
    legend: { live: true },
    hooks: { setCursor: [showLatest] },
    cursor: { drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: { time: false }, y: range ? { range } : {} },
    axes: [
      { ...axis, size: 28, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000] },
      { ...axis, size: 56, values: (_, ticks) => ticks.map(format) },
    ],
    series: [{ label: "step" }, ...curves.map((curve) => seriesOf(element, curve, format))],
  };
}

function seriesOf(element: HTMLElement, { label, look, colour }: Curve, format: (v: number) => string): uPlot.Series {
  const stroke = colourOf(element, `chart-colour-${colour}`);
  const isPoints = look === "points";
  return {
    label,
    stroke,
    width: look === "faint" ? 1 : 2,
    ...(look === "faint" ? { alpha: 0.45 } : {}),
    ...(look === "dashed" ? { dash: [6, 4] } : {}),
    spanGaps: true,
    points: isPoints ? { show: true, size: 7, fill: stroke } : { show: look === "dashed", size: 5 },
    value: (_, value) => (value === null ? "–" : format(value)),
  };
}

/** True in dark colours, whoever chose them. */
function useDark(): boolean {
  const query = matchMedia("(prefers-color-scheme: dark)");
  const [system, setSystem] = useState(query.matches);
  useEffect(() => {
    const listen = () => setSystem(query.matches);
    query.addEventListener("change", listen);
    return () => query.removeEventListener("change", listen);
  }, []);
  return theme.value === "system" ? system : theme.value === "dark";
}
