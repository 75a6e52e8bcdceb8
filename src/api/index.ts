export { callback, type EngineClient, startEngine } from "./client.ts";
export type * from "./protocol.ts";
