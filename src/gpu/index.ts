export { type DeviceOptions, Gpu, type Kernel, type Slice, storageBytes } from "./gpu.ts";
export { f32, type GridHandle, Program } from "./program.ts";
export { type Clock, submitTime } from "./stopwatch.ts";
export { type Destination, Uploads } from "./uploads.ts";
