export { type Dataset, DatasetEditor, datasetHash, partsOf, picturesOf } from "./data/dataset.ts";
export { exportDataset } from "./data/export_dataset.ts";
export { type ReadResult, readDataset } from "./data/read_dataset.ts";
export type { DataRow } from "./data/row.ts";
export { planRun } from "./plan.ts";
export { checkSettings, DEFAULT_SETTINGS, type TrainSettings } from "./settings.ts";
export { encodeRows } from "./tokens/encode_rows.ts";
export { RowTokenizer } from "./tokens/row_tokenizer.ts";
