export { callback, type EngineClient, startEngine } from "./client.ts";
export type * from "./protocol.ts";
export type * from "./train_protocol.ts";
