export { BlobFileSet } from "./blob_files.ts";
export { type CheckedShard, checkedShard } from "./checked_shard.ts";
export type { Checkpoint, TensorInfo, WeightDtype } from "./checkpoint.ts";
export { parseCsv } from "./csv.ts";
export { decodeFloats, encodeFloats, f16ToF32, isWeightDtype } from "./dtype.ts";
export type { FileSet } from "./file_set.ts";
export { sha256Hex } from "./fingerprint.ts";
export { readGgufFile } from "./gguf/container.ts";
export type { GgufChoice } from "./gguf/pick.ts";
export { type GgufValue, writeGguf } from "./gguf_writer.ts";
export { HttpFileSet } from "./http_files.ts";
export { openHub } from "./hub.ts";
export { MANIFEST_VERSION, type ModelManifest, type ShardChunk, type ShardRecord } from "./manifest.ts";
export { MergedFiles } from "./merged_files.ts";
export { openCheckpoint } from "./open_checkpoint.ts";
export {
  PACKED_INDEX,
  type PackedIndex,
  packIndex,
  readPackedIndex,
  readPackedShard,
  readPackedText,
} from "./packed_model.ts";
export { parquetRows } from "./parquet/rows.ts";
export { dequantizeRows } from "./quant/planes.ts";
export { type EncodedRows, type EncodeJob, encodeRows } from "./quant/rows.ts";
export { exactScheme, rowFormat } from "./row_format.ts";
export { readSafetensors, writeSafetensors } from "./safetensors.ts";
export { type HashState, hashOnward } from "./source_hash.ts";
export { VerifiedFiles } from "./verified_files.ts";
export {
  type CodeKind,
  GROUPED_SCHEMES,
  type GroupedScheme,
  grouping,
  type MetaKind,
  metaWords,
  rowLayout,
  type SlotScheme,
  type WeightSlot,
} from "./weight_slot.ts";
export { type FileToZip, openZip, writeZip, writeZipTo } from "./zip.ts";
export { ZipFileSet } from "./zip_files.ts";
