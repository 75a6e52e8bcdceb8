import * as Comlink from "comlink";
import { DEFAULT_SETTINGS } from "../train/index.ts";
import type { TrainApi } from "./train_protocol.ts";
import { Datasets } from "./worker_datasets.ts";
import { appBase } from "./worker_models.ts";
import { planTraining, seenPicture, seenRow } from "./worker_plans.ts";

/** The part of the worker that the methods below need. */
interface Host {
  task<T>(taskId: string, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

/** Data sets, adapters and runs, for the page. */
export function trainMethods(worker: Host): TrainApi {
  const datasets = new Datasets();
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
        planTraining(modelId, await datasets.forTraining(datasetId), settings, signal, onProgress),
      ),
  };
}
