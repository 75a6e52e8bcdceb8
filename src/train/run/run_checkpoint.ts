import { sha256Hex } from "../../formats/index.ts";
import { deleteRecord, getRecord, putRecord } from "../../storage/index.ts";

/** All that a run needs to go on where it was. What it learns from is decided by its spec and the number of the step alone. */
export interface RunCheckpoint {
  /** Hash of settings, data and base model: a checkpoint is never taken for another run's. */
  spec: string;
  /** Steps done. */
  step: number;
  /** Plain values of the trainer. */
  state: unknown;
  /** How the device ran its products (`Gpu.choices`): other ways add up in another order, so a run keeps its own to the end. */
  choices: Readonly<Record<string, number>>;
  /** Raw contents of the trained buffers and of the optimizer's, by name. */
  buffers: Record<string, Uint8Array<ArrayBuffer>>;
}

interface Stored extends Omit<RunCheckpoint, "buffers"> {
  version: 1;
  buffers: { name: string; sha256: string; blob: Blob }[];
}

/** Two slots take turns: while one is written the other still holds the checkpoint before, whatever happens to the tab. */
const SLOTS = [0, 1] as const;
const slotKey = (runId: string, slot: number) => `${runId}/${slot}`;

async function readSlot(runId: string, slot: number): Promise<Stored | undefined> {
  const value = (await getRecord("run-checkpoint", slotKey(runId, slot)).catch(() => undefined)) as Stored | undefined;
  return value?.version === 1 && Array.isArray(value.buffers) ? value : undefined;
}

/** Writes over the older of the two that are kept. Rejects with `Quota`; the newer one is untouched then. */
export async function saveCheckpoint(runId: string, { buffers, ...rest }: RunCheckpoint): Promise<void> {
  const steps = await Promise.all(SLOTS.map(async (slot) => (await readSlot(runId, slot))?.step ?? -1));
  const slot = steps[0]! <= steps[1]! ? 0 : 1;
  const parts: Stored["buffers"] = [];
  for (const [name, data] of Object.entries(buffers)) {
    parts.push({ name, sha256: await sha256Hex(data), blob: new Blob([data]) });
  }
  await putRecord("run-checkpoint", slotKey(runId, slot), { version: 1, ...rest, buffers: parts } satisfies Stored);
}

/** The newest checkpoint whose bytes are what was written; `damaged` says which steps could not be taken, and why. */
export async function loadCheckpoint(
  runId: string,
  spec: string,
): Promise<{ checkpoint: RunCheckpoint | undefined; damaged: string[] }> {
  const found = await Promise.all(SLOTS.map((slot) => readSlot(runId, slot)));
  const newestFirst = found.filter((s) => s !== undefined && s.spec === spec) as Stored[];
  newestFirst.sort((a, b) => b.step - a.step);
  const damaged: string[] = [];
  for (const { step, state, choices, buffers } of newestFirst) {
    const bytes: RunCheckpoint["buffers"] = {};
    let fault: string | undefined;
    for (const { name, sha256, blob } of buffers) {
      try {
        bytes[name] = new Uint8Array(await blob.arrayBuffer());
        if ((await sha256Hex(bytes[name]!)) !== sha256) fault ??= `${name} is not what was written`;
      } catch (error) {
        fault ??= `${name} cannot be read (${error instanceof Error ? error.message : String(error)})`;
      }
    }
    if (fault === undefined) return { checkpoint: { spec, step, state, choices, buffers: bytes }, damaged };
    damaged.push(`The checkpoint of step ${step} is damaged: ${fault}.`);
  }
  return { checkpoint: undefined, damaged };
}

export async function deleteCheckpoints(runId: string): Promise<void> {
  for (const slot of SLOTS) await deleteRecord("run-checkpoint", slotKey(runId, slot));
}
