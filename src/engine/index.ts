export { ChatFormat, type ChatMessage, type ChatPicture, type SeenPicture } from "./chat_format.ts";
export { Engine, type EngineOptions } from "./engine.ts";
export { importModel, planImport } from "./import.ts";
export { deleteModel, listModels, openModel, readShards, verifyModel } from "./import_models.ts";
export { planMemory } from "./memory.ts";
export type { Prompt, PromptImage } from "./prompt.ts";
export type { Finish, GenerateTimes } from "./session.ts";
export { StopStrings } from "./stop_strings.ts";
