export { Engine } from "./engine.ts";
export { importModel, planImport } from "./import.ts";
export { deleteModel, listModels, openModel, readShards, verifyModel } from "./import_models.ts";
export { planMemory } from "./memory.ts";
export type { Finish, GenerateTimes } from "./session.ts";
export { StopStrings } from "./stop_strings.ts";
