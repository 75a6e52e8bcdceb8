import { sha256Hex } from "../formats/index.ts";

/** SHA-256 of a value as JSON. */
export async function hashOf(value: unknown): Promise<string> {
  return await sha256Hex(new TextEncoder().encode(JSON.stringify(value)));
}

/** A model's id: the same for the same place and scheme at another time. Never a name that somebody else has chosen. */
export async function modelId(identity: string, scheme: string): Promise<string> {
  return (await hashOf([identity, scheme])).slice(0, 16);
}
