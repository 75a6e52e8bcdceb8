import { useMemo } from "preact/hooks";
import type { EvaluationRecord, StepRecord, TrainingPlan } from "../../api/index.ts";
import { Chart, type Curve } from "./chart.tsx";
import { smooth } from "./progress.ts";

type Log = readonly StepRecord[];
type Evaluations = readonly EvaluationRecord[];

const formatLoss = (value: number) => value.toPrecision(3);
const formatShare = (value: number) => `${Math.round(100 * value)} %`;
export const formatLearningRate = (value: number) => (value === 0 ? "0" : value.toExponential(1).replace("e-0", "e-"));

/** Every step that any of the lists knows, in order. */
function stepsOf(...lists: readonly (readonly { step: number }[])[]): number[] {
  return [...new Set(lists.flatMap((list) => list.map(({ step }) => step)))].sort((a, b) => a - b);
}

/** Values by step, null where there is none. */
function over<T extends { step: number }>(x: number[], list: readonly T[], value: (record: T) => number) {
  const at = new Map(list.map((record) => [record.step, value(record)]));
  return x.map((step) => at.get(step) ?? null);
}

/** Loss of the steps, as measured and smoothed, and of the rows held back. */
export function LossChart({ log, evaluations }: { log: Log; evaluations: Evaluations }) {
  const { x, curves } = useMemo(() => {
    const x = stepsOf(log, evaluations);
    const smoothed = smooth(log.map(({ loss }) => loss));
    const line = log.map(({ step }, i) => ({ step, value: smoothed[i]! }));
    const curves: Curve[] = [
      { label: "loss", values: over(x, log, ({ loss }) => loss), look: "faint", colour: 1 },
      { label: "smoothed", values: over(x, line, ({ value }) => value), look: "line", colour: 1 },
    ];
    if (evaluations.length > 0)
      curves.push({ label: "held back", values: over(x, evaluations, ({ loss }) => loss), look: "points", colour: 2 });
    return { x, curves };
  }, [log, evaluations]);
  return <Chart title="Loss" x={x} curves={curves} format={formatLoss} />;
}

/** Right answers to the rows held back. */
export function AccuracyChart({ evaluations }: { evaluations: Evaluations }) {
  const { x, curves } = useMemo(() => {
    const x = stepsOf(evaluations);
    const curves: Curve[] = [
      { label: "relaxed", values: over(x, evaluations, ({ relaxed }) => relaxed), look: "points", colour: 3 },
      { label: "exact", values: over(x, evaluations, ({ exact }) => exact), look: "dashed", colour: 4 },
    ];
    return { x, curves };
  }, [evaluations]);
  return <Chart title="Right answers on held-back rows" x={x} curves={curves} format={formatShare} range={[0, 1]} />;
}

/** Learning rate and gradient norm: seldom looked at, often what explains a curve. */
export function DetailCharts({ log }: { log: Log }) {
  const { x, rate, norm } = useMemo(() => {
    const x = log.map(({ step }) => step);
    const curve = (label: string, values: number[], colour: number): Curve[] => [
      { label, values, look: "line", colour },
    ];
    return {
      x,
      rate: curve(
        "rate",
        log.map((s) => s.learningRate),
        4,
      ),
      norm: curve(
        "norm",
        log.map((s) => s.gradientNorm),
        1,
      ),
    };
  }, [log]);
  return (
    <div class="chart-pair">
      <Chart title="Learning rate" x={x} curves={rate} format={formatLearningRate} height={150} />
      <Chart title="Gradient norm, before clipping" x={x} curves={norm} format={formatLoss} height={150} />
    </div>
  );
}

/** The learning rates of a plan. */
export function RateChart({ rates }: { rates: NonNullable<TrainingPlan["plan"]>["rates"] }) {
  const { x, curves } = useMemo(() => {
    const values = rates.map(({ rate }) => rate);
    const curves: Curve[] = [{ label: "rate", values, look: "line", colour: 4 }];
    return { x: rates.map(({ step }) => step + 1), curves };
  }, [rates]);
  return <Chart title="Learning rate over the run" x={x} curves={curves} format={formatLearningRate} height={130} />;
}

export interface Compared {
  name: string;
  log: Log;
  evaluations: Evaluations;
}

/** One curve for each run. */
export function CompareCharts({ runs }: { runs: Compared[] }) {
  const { steps, losses, looks, scores } = useMemo(() => {
    const steps = stepsOf(...runs.map(({ log }) => log));
    const looks = stepsOf(...runs.map(({ evaluations }) => evaluations));
    const look = (i: number) => (["line", "dashed", "points", "faint"] as const)[Math.floor(i / 4) % 4]!;
    const colour = (i: number) => (i % 4) + 1;
    const losses = runs.map(({ name, log }, i): Curve => {
      const smoothed = smooth(log.map(({ loss }) => loss));
      const line = log.map(({ step }, at) => ({ step, value: smoothed[at]! }));
      return { label: name, values: over(steps, line, ({ value }) => value), look: look(i), colour: colour(i) };
    });
    const scores = runs.map(({ name, evaluations }, i): Curve => {
      const values = over(looks, evaluations, ({ relaxed }) => relaxed);
      return { label: name, values, look: i < 4 ? "points" : look(i), colour: colour(i) };
    });
    return { steps, losses, looks, scores };
  }, [runs]);
  return (
    <>
      <Chart title="Loss, smoothed" x={steps} curves={losses} format={formatLoss} />
      {looks.length > 0 && (
        <Chart
          title="Right answers on held-back rows, relaxed"
          x={looks}
          curves={scores}
          format={formatShare}
          range={[0, 1]}
        />
      )}
    </>
  );
}
