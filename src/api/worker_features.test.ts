import "fake-indexeddb/auto";
import { beforeEach, expect, test, vi } from "vitest";
import { deleteRecord, listRecordIds, putRecord } from "../storage/index.ts";
import { DEFAULT_SETTINGS } from "../train/index.ts";
import type { RunRecord } from "../training_records.ts";
import { Adapters } from "./worker_adapters.ts";
import { Datasets } from "./worker_datasets.ts";
import { deleteFeaturesOfModel, deleteFeaturesOfPictures, featureStore } from "./worker_features.ts";
import { saveRun } from "./worker_runs.ts";
import { type TrainHost, TrainingRuns } from "./worker_trainer.ts";

const features = [new Float32Array([1, 2])];
const left = () => listRecordIds("picture-features");
beforeEach(async () => {
  vi.stubGlobal("navigator", {});
  for (const id of await left()) await deleteRecord("picture-features", id);
  for (const key of ["m/a@32x32", "m/a@64x64", "m/b@32x32", "n/a@32x32"]) await featureStore.put(key, features);
});

test("features are kept by model, picture and size, and go with either", async () => {
  expect(await featureStore.get("m/a@64x64")).toEqual(features);
  expect(await featureStore.get("m/a@96x96")).toBeUndefined();
  await deleteFeaturesOfPictures(new Set(["a"]), "m");
  expect(await left()).toEqual(["m/b@32x32", "n/a@32x32"]);
  await deleteFeaturesOfPictures(new Set());
  await deleteFeaturesOfModel("n");
  expect(await left()).toEqual(["m/b@32x32"]);
});

test("a deleted run takes the features of its pictures along, unless another run of the same data may want them", async () => {
  const message = (pictureId: string) => ({ role: "user", parts: [{ type: "image", pictureId }] });
  const rows = ["a", "b"].map((id) => ({ id, messages: [message(id)] }));
  await putRecord("dataset-rows", "d", rows);
  await putRecord("dataset", "d", { id: "d" });
  const run = (id: string): RunRecord => ({
    ...{ id, name: id, created: 0, updated: 0, state: "finished", settings: DEFAULT_SETTINGS, patience: 0 },
    ...{ steps: 1, log: [], evaluations: [], model: { id: "m", name: "M" } },
    dataset: { id: "d", name: "D", hash: "", trainRows: 2, heldBackRows: 0 },
  });
  for (const id of ["r1", "r2"]) await saveRun(run(id));
  const runs = new TrainingRuns({} as TrainHost, new Datasets(), new Adapters());
  await runs.delete("r1");
  expect(await left()).toHaveLength(4);
  await runs.delete("r2");
  expect(await left()).toEqual(["n/a@32x32"]);
});
