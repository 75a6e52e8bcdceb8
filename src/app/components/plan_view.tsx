import type { ImportPlan, ModelSource, WeightScheme } from "../../api/index.ts";
import { importModel } from "../actions/models.ts";
import { formatBytes, formatCount, formatParameters } from "../format.ts";
import { capabilities } from "../state.ts";
import { Notice } from "./controls.tsx";
import { Icon } from "./icons.tsx";

export interface Planned {
  plan: ImportPlan;
  source: ModelSource;
  scheme: WeightScheme;
}

/** A model with its cache should leave this share of the GPU's memory to activations and to everybody else. */
const HEADROOM = 1.25;

/** What the import costs and whether it will fit, before the first byte is written. */
export function PlanView({ plan, source, scheme, onDone }: Planned & { onDone: () => void }) {
  const toStore = Math.max(0, plan.bytesToStore - plan.bytesAlreadyStored);
  const missing = toStore - plan.quotaFree;
  const rows: [string, string][] = [
    ["Parameters", formatParameters(plan.parameters)],
    ["To read", formatBytes(plan.bytesToRead)],
    ["To store", formatBytes(toStore)],
    ["GPU memory for weights", formatBytes(plan.gpuWeightBytes)],
    [`GPU memory for a context of ${formatCount(plan.contextLength)} tokens`, formatBytes(plan.gpuCacheBytes)],
  ];
  if (plan.bytesAlreadyStored > 0) rows.splice(3, 0, ["Already stored", formatBytes(plan.bytesAlreadyStored)]);
  if (plan.licence) rows.push(["Licence", plan.licence]);
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
        <MemoryVerdict bytes={plan.gpuWeightBytes + plan.gpuCacheBytes} />
      </ul>
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

/** Browsers do not say how much memory a GPU has; what can be said is how much it takes. */
function MemoryVerdict({ bytes }: { bytes: number }) {
  const gpu = capabilities.value;
  const gigabytes = Math.max(1, Math.ceil((bytes * HEADROOM) / 1e9));
  if (gpu?.ok && gpu.software)
    return (
      <Verdict>
        <strong>This browser computes on the processor</strong>, not on a GPU. It works, but every answer of a large
        model takes minutes. It needs about {formatBytes(bytes)} of memory.
      </Verdict>
    );
  return (
    <Verdict good={gigabytes <= 4}>
      <strong>Takes about {formatBytes(bytes)} of GPU memory.</strong> A GPU with {gigabytes} GB or more should hold it;
      the browser does not say how much yours has. If it is short, the context is made shorter.
    </Verdict>
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
