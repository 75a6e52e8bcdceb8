import { TabTuneError } from "../errors.ts";
import { deleteRecord, getRecord, listRecords, putRecord } from "../storage/index.ts";
import { deleteCheckpoints, runCsv } from "../train/index.ts";
import type { RunRecord } from "../training_records.ts";

/** Runs, newest first. */
export async function listRuns(): Promise<RunRecord[]> {
  const all = (await listRecords("run")).map(({ value }) => value as RunRecord);
  return all.sort((a, b) => b.created - a.created);
}

/** Throws `NotFound`. */
export async function loadRun(id: string): Promise<RunRecord> {
  const found = (await getRecord("run", id)) as RunRecord | undefined;
  if (!found) throw new TabTuneError("NotFound", "This run is not in the history any more.");
  return found;
}

/** Keeps a run, or what it has become. */
export async function saveRun(run: RunRecord): Promise<void> {
  await putRecord("run", run.id, { ...run, updated: Date.now() });
}

export async function renameRun(id: string, name: string): Promise<RunRecord> {
  const run = { ...(await loadRun(id)), name: name.trim() || "Run" };
  await putRecord("run", id, run);
  return run;
}

/** The run with its checkpoints; the adapter that came out of it stays. */
export async function deleteRun(id: string): Promise<void> {
  await deleteCheckpoints(id);
  await deleteRecord("run", id);
}

/** The run's log as CSV. Throws `NotFound`. */
export async function runLog(id: string): Promise<Blob> {
  return new Blob([runCsv(await loadRun(id))], { type: "text/csv" });
}
