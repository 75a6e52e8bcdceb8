export { ChatFormat, type ChatMessage, type ChatPicture, type SeenPicture } from "./chat_format.ts";
export { Engine, type EngineOptions } from "./engine.ts";
export { planMemory } from "./memory.ts";
export type { Finish, GenerateTimes } from "./session.ts";
export { StopStrings } from "./stop_strings.ts";
