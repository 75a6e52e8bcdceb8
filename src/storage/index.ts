export { withLock } from "./locks.ts";
export { deleteManifest, getManifest, listManifests, putManifest } from "./manifests.ts";
export { type StorageSpace, storageSpace } from "./quota.ts";
export { deleteRecord, getRecord, listRecords, putRecord, type RecordKind } from "./records.ts";
export {
  deleteShard,
  deleteShards,
  getShard,
  listShards,
  modelsWithShards,
  putShard,
  type ShardInfo,
} from "./shards.ts";
