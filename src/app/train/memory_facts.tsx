import type { TrainingPlan } from "../../api/index.ts";
import { keepGpuMemory, reduce } from "../actions/train_plan.ts";
import { Notice } from "../components/controls.tsx";
import { formatBytes } from "../format.ts";
import { parseNumber } from "./settings_form.ts";
import { gpuMemory } from "./state.ts";

type Memory = NonNullable<TrainingPlan["plan"]>["memory"];

/** What the system and other pages take of a GPU's memory. */
const OTHERS = 0.1;

/** Bytes that a run may take: what the visitor says the GPU has, less what others need. Undefined where nothing is known. */
export function memoryLimit(typed: string): number | undefined {
  const gigabytes = parseNumber(typed);
  return gigabytes > 0 ? (1 - OTHERS) * gigabytes * 1e9 : undefined;
}

/** Why a run would not fit, for the visitor; undefined where it fits, or where nobody can tell before it is tried. */
export function whyTooLarge(memory: Memory, limit: number | undefined): string | undefined {
  if (memory.largest > memory.mostAllowed) {
    return `One buffer of it needs ${formatBytes(memory.largest)}, and this device binds at most ${formatBytes(memory.mostAllowed)}.`;
  }
  if (limit === undefined || memory.total <= limit) return undefined;
  return `It needs ${formatBytes(memory.total)}, and ${formatBytes(limit)} of the GPU’s memory can be used; a tenth is left to the system.`;
}

/** What a run takes of the GPU's memory, and what to do where that is too much. */
export function MemoryFacts({ memory }: { memory: Memory }) {
  const problem = whyTooLarge(memory, memoryLimit(gpuMemory.value));
  const reductions = (
    <ul class="reductions">
      {memory.reductions.map(({ words, saves, settings }) => (
        <li key={words}>
          <button type="button" class="quiet" onClick={() => reduce(settings)}>
            {words}
          </button>
          <span class="numbers">saves {formatBytes(saves)}</span>
        </li>
      ))}
    </ul>
  );
  return (
    <>
      <details class="report full">
        <summary>GPU memory: {formatBytes(memory.total)}</summary>
        <table class="facts wide-facts">
          <tbody>
            {memory.parts.map(({ name, bytes }) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td class="numbers">{formatBytes(bytes)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <label class="row-form">
          This GPU has{" "}
          <input
            type="text"
            inputMode="decimal"
            class="short"
            value={gpuMemory.value}
            onInput={(event) => keepGpuMemory(event.currentTarget.value)}
          />{" "}
          GB
        </label>
        <p class="hint">
          Browsers do not tell; the task manager does. Once it is known, a run that would not fit is not started.
        </p>
        {!problem && memory.reductions.length > 0 && (
          <>
            <p>To take less:</p>
            {reductions}
          </>
        )}
      </details>
      {problem && (
        <Notice kind="error">
          <div>
            <p>This run would not fit. {problem}</p>
            {memory.reductions.length > 0 ? reductions : <p>Take shorter rows, or a smaller model.</p>}
          </div>
        </Notice>
      )}
    </>
  );
}
