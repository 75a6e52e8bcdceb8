export { ChatFormat } from "./chat_format.ts";
export { Engine } from "./engine.ts";
export { exportFiles } from "./export_model.ts";
export { importModel, planImport } from "./import.ts";
export {
  deleteModel,
  findManifest,
  listModels,
  openModel,
  renameModel,
  verifyModel,
} from "./import_models.ts";
export { measureRoom, type Room } from "./measure_room.ts";
export { longestContext, type MemoryPlan, type PlannedDevice, planMemory, visionBytes } from "./memory.ts";
export { promptChunks } from "./prompt.ts";
export { readShards, type ShardReader } from "./read_shards.ts";
export { type Finish, type GenerateOptions, type GenerateTimes, Session } from "./session.ts";
export { StopStrings } from "./stop_strings.ts";
export { generateWithin } from "./thinking.ts";
export { prepareTuning, tune, tuningKey } from "./tune.ts";
