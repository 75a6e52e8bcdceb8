import * as Comlink from "comlink";
import { type Adapter, DEFAULT_SETTINGS } from "../train/index.ts";
import type { ExportProof, TrainApi } from "./train_protocol.ts";
import type { Adapters } from "./worker_adapters.ts";
import { Datasets } from "./worker_datasets.ts";
import { exportMerged } from "./worker_merge.ts";
import { appBase, openSource, progressOf } from "./worker_models.ts";
import { exportScript, planTraining, seenPicture, seenRow } from "./worker_plans.ts";
import { listRuns, loadRun, renameRun, runLog } from "./worker_runs.ts";
import { type TrainHost, TrainingRuns } from "./worker_trainer.ts";

/** The part of the worker that the methods below need. */
interface Host extends TrainHost {
  readonly adapters: Adapters;
  /** Puts a stored adapter on the loaded model, or takes off what is on. */
  useAdapter(id: string | undefined): Promise<void>;
  /** Compares the logits of two adapters on the loaded model; undefined where another one or none is loaded. */
  compareAdapters(
    modelId: string,
    live: Adapter,
    again: Adapter,
    signal: AbortSignal,
  ): Promise<ExportProof | undefined>;
  /** Frees a deleted adapter. */
  dropAdapter(id: string): Promise<void>;
  task<T>(taskId: string, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

/** Data sets, adapters and runs, for the page. */
export function trainMethods(worker: Host): TrainApi {
  const datasets = new Datasets();
  const { adapters } = worker;
  const runs = new TrainingRuns(worker, datasets, adapters);
  // Without a GPU a plan can still be made.
  const anyDevice = {
    maxBytes: Number.POSITIVE_INFINITY,
    variants: { subgroups: false, half: false, matrix: undefined },
  };
  const device = async () => await worker.gpu().catch(() => anyDevice);
  return {
    readDataset: (source, taskId, onProgress) =>
      worker.task(taskId, (signal) => datasets.readDataset(source, appBase(), signal, onProgress)),
    storeDataset: (draftId, name) => datasets.storeDataset(draftId, name),
    discardDraft: (draftId) => datasets.discardDraft(draftId),
    listDatasets: () => datasets.listDatasets(),
    createDataset: (name) => datasets.createDataset(name),
    renameDataset: (id, name) => datasets.renameDataset(id, name),
    deleteDataset: (id) => datasets.deleteDataset(id),
    datasetRows: (id, range) => datasets.datasetRows(id, range),
    datasetPicture: (pictureId) => datasets.datasetPicture(pictureId),
    editDataset: (id, change) => datasets.editDataset(id, change),
    exportDataset: (id) => datasets.exportDataset(id),
    inspectRow: async (modelId, datasetId, rowId, options) =>
      await seenRow(modelId, await datasets.forTraining(datasetId, rowId), options),
    seenPicture: async (modelId, pictureId, maxPixels) => {
      const seen = await seenPicture(modelId, await datasets.datasetPicture(pictureId), maxPixels);
      return Comlink.transfer(seen, [seen.rgba.buffer]);
    },
    defaultTrainSettings: async () => DEFAULT_SETTINGS,
    planTraining: (modelId, datasetId, settings, taskId, onProgress) =>
      worker.task(taskId, async (signal) =>
        planTraining(modelId, await datasets.forTraining(datasetId), settings, await device(), signal, onProgress),
      ),
    exportScript: (modelId, datasetId, settings, taskId, onProgress) =>
      worker.task(taskId, async (signal) => {
        const data = await datasets.forTraining(datasetId);
        return await exportScript(modelId, data, settings, datasets.picture, signal, onProgress);
      }),
    importAdapter: (source, modelId, taskId) =>
      worker.task(taskId, (signal) => adapters.importAdapter(source, modelId, signal)),
    listAdapters: () => adapters.listAdapters(),
    renameAdapter: (id, name) => adapters.renameAdapter(id, name),
    async deleteAdapter(id) {
      await worker.dropAdapter(id);
      await adapters.deleteAdapter(id);
    },
    exportAdapter: (id, form, taskId) =>
      worker.task(taskId, (signal) =>
        adapters.exportAdapter(id, form, async (modelId, live, again) =>
          runs.isActive ? undefined : await worker.compareAdapters(modelId, live, again, signal),
        ),
      ),
    exportMerged: (source, adapterId, folder, taskId, onProgress) =>
      worker.task(taskId, async (signal) => {
        const adapter = await adapters.load(adapterId);
        const files = await openSource(source, signal);
        return await exportMerged(files, adapter, folder, signal, progressOf("Merging", onProgress));
      }),
    startRun: (modelId, datasetId, settings, options, taskId, onEvent) =>
      worker.task(taskId, (signal) => runs.start(modelId, datasetId, settings, options, signal, onEvent)),
    resumeRun: (id, taskId, onEvent) => worker.task(taskId, (signal) => runs.resume(id, signal, onEvent)),
    endRun: async (id, how) => runs.end(id, how),
    checkpointSoon: async () => runs.checkpointSoon(),
    useAdapter: (id) => worker.useAdapter(id),
    listRuns,
    loadRun,
    renameRun,
    deleteRun: (id) => runs.delete(id),
    runLog,
  };
}
