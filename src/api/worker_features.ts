import { deleteRecord, getRecord, listRecordIds, putRecord } from "../storage/index.ts";
import { type FeatureStore, ownerOfFeatures } from "../train/index.ts";

/** Features of pictures between epochs and runs, in this browser's storage. */
export const featureStore: FeatureStore = {
  get: async (key) => (await getRecord("picture-features", key)) as Float32Array<ArrayBuffer>[] | undefined,
  put: (key, features) => putRecord("picture-features", key, features),
};

/** Deletes the features that these are the owners of. */
async function deleteWhere(isGone: (owner: { modelId: string; pictureId: string }) => boolean): Promise<void> {
  for (const key of await listRecordIds("picture-features")) {
    const owner = ownerOfFeatures(key);
    if (!owner || isGone(owner)) await deleteRecord("picture-features", key);
  }
}

/** What any model made of these pictures; of one model alone where it is named. */
export async function deleteFeaturesOfPictures(pictures: ReadonlySet<string>, modelId?: string): Promise<void> {
  if (pictures.size === 0) return;
  await deleteWhere((owner) => pictures.has(owner.pictureId) && (!modelId || owner.modelId === modelId));
}

export async function deleteFeaturesOfModel(modelId: string): Promise<void> {
  await deleteWhere((owner) => owner.modelId === modelId);
}
