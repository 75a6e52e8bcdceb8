import { Icon } from "../components/icons.tsx";
import { Scroll } from "./fields.tsx";
import type { LiveRun, Sample } from "./state.ts";

/** Held-back rows as they are answered, the newest first. */
export function Samples({ run }: { run: LiveRun }) {
  const latest = run.evaluations.at(-1);
  // Until the evaluation under way has answered something, the one before is shown.
  const { samples } = run.answers.samples.length > 0 ? run.answers : (latest ?? run.answers);
  if (samples.length === 0) return null;
  const right = samples.filter(({ right }) => right).length;
  return (
    <section class="card" aria-labelledby="samples-title">
      <h2 id="samples-title">
        Held-back rows, {right} of {samples.length} right
      </h2>
      <Scroll class="table-scroll full sample" label="Answers">
        <table class="results rows">
          <thead>
            <tr>
              <th scope="col">Question</th>
              <th scope="col">Expected</th>
              <th scope="col">Answer</th>
              <th scope="col">
                <span class="visually-hidden">Verdict</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {[...samples].reverse().map((sample) => (
              <tr key={sample.rowId}>
                <td class="text">{sample.question}</td>
                <td class="text">{sample.expected}</td>
                <td class="text">{sample.found}</td>
                <td>
                  <Verdict sample={sample} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
    </section>
  );
}

/** By ChartQA's relaxed rule, as the accuracy is counted. */
export function Verdict({ sample }: { sample: Sample }) {
  return (
    <span class={`verdict ${sample.right ? "pass" : "fail"}`}>
      <Icon name={sample.right ? "check" : "cross"} />
      {sample.right ? "right" : "wrong"}
    </span>
  );
}
