export { Engine } from "./engine.ts";
export { importModel, planImport } from "./import.ts";
export { deleteModel, listModels, openModel, readShards, verifyModel } from "./import_models.ts";
export { type MemoryPlan, planMemory } from "./memory.ts";
export { promptChunks } from "./prompt.ts";
export { type Finish, type GenerateTimes, Session } from "./session.ts";
export { StopStrings } from "./stop_strings.ts";
export { tune, tuningKey } from "./tune.ts";
