export { withLock } from "./locks.ts";
export { deleteManifest, getManifest, listManifests, putManifest } from "./manifests.ts";
export { storageSpace } from "./quota.ts";
export { deleteRecord, getRecord, listRecordIds, listRecords, putRecord } from "./records.ts";
export { deleteShards, getShard, listShards, modelsWithShards, putShard } from "./shards.ts";
