import type { ImportPlan, ModelSource, WeightScheme } from "../../api/index.ts";
import { importModel } from "../actions/models.ts";
import { formatBytes, formatParameters } from "../format.ts";
import { Notice } from "./controls.tsx";
import { Icon } from "./icons.tsx";
import { MemoryView } from "./memory_view.tsx";

export interface Planned {
  plan: ImportPlan;
  source: ModelSource;
  scheme: WeightScheme;
}

/** What the import costs and whether it will fit, before the first byte is written. */
export function PlanView({ plan, source, scheme, onDone }: Planned & { onDone: () => void }) {
  const toStore = Math.max(0, plan.bytesToStore - plan.bytesAlreadyStored);
  const missing = toStore - plan.quotaFree;
  const rows: [string, string][] = [
    ["From", plan.source],
    ["Parameters", formatParameters(plan.parameters)],
    ["To read", formatBytes(plan.bytesToRead)],
    ["To store", formatBytes(toStore)],
  ];
  if (plan.bytesAlreadyStored > 0) rows.splice(4, 0, ["Already stored", formatBytes(plan.bytesAlreadyStored)]);
  if (plan.licence) rows.push(["Licence", plan.licence]);
  const { weightFiles, hashedFiles } = plan;
  rows.push([
    "Compared with the source",
    hashedFiles === weightFiles ? "size and SHA-256 of every file" : "size of every file; no SHA-256 is given there",
  ]);
  return (
    <section class="plan" aria-label={`Import of ${plan.name}`}>
      <h3>{plan.name}</h3>
      <table class="facts">
        <tbody>
          {rows.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td>{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <ul class="verdicts">
        {missing <= 0 && (
          <Verdict good>
            <strong>Storage is enough.</strong> The browser allows {formatBytes(plan.quotaFree)} more.
          </Verdict>
        )}
      </ul>
      <MemoryView id={plan.id} />
      {plan.warnings.map((warning) => (
        <Notice key={warning} kind="warning">
          <p>{warning}</p>
        </Notice>
      ))}
      {missing > 0 && (
        <Notice kind="error">
          <p>
            Not enough storage: {formatBytes(toStore)} are needed, the browser allows {formatBytes(plan.quotaFree)}{" "}
            more, {formatBytes(missing)} are missing. Free space on the disk, delete a model above, or choose smaller
            weights.
          </p>
        </Notice>
      )}
      <div class="row-form">
        <button
          type="button"
          class="primary"
          disabled={missing > 0}
          onClick={() => {
            onDone();
            void importModel(plan, source, scheme);
          }}
        >
          {plan.bytesAlreadyStored > 0 ? "Go on with the import" : "Import"}
        </button>
        <button type="button" class="quiet" onClick={onDone}>
          Not now
        </button>
      </div>
    </section>
  );
}

function Verdict({ good = false, children }: { good?: boolean; children: preact.ComponentChildren }) {
  return (
    <li class={good ? "good" : "doubtful"}>
      <Icon name={good ? "check" : "warning"} />
      <span>{children}</span>
    </li>
  );
}
