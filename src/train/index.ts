export { type Dataset, DatasetEditor, datasetHash, partsOf, picturesOf } from "./data/dataset.ts";
export { exportDataset } from "./data/export_dataset.ts";
export { type ReadResult, readDataset } from "./data/read_dataset.ts";
export type { DataRow } from "./data/row.ts";
