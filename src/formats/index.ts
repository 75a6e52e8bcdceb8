export type { Checkpoint, TensorInfo, WeightDtype } from "./checkpoint.ts";
export type { FileEntry, FileSet } from "./file_set.ts";
export { MANIFEST_VERSION, type ModelManifest, type ShardChunk, type ShardRecord } from "./manifest.ts";
export { groupSize, type RowLayout, rowLayout, type SlotScheme, type WeightSlot } from "./weight_slot.ts";
