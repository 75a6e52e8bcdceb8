import type { Conversation, MessagePart, Picture, Sampling, StoredMessage } from "../api/index.ts";
import { TabTuneError } from "../errors.ts";
import { hashPicture } from "./picture_file.ts";

const FORMAT = "tabtune-conversation";
const VERSION = 1;

/** A conversation as one JSON file; pictures are inside as base64. */
export async function writeConversationFile(conversation: Conversation): Promise<Blob> {
  const pictures = [];
  for (const { blob, ...rest } of conversation.pictures)
    pictures.push({ ...rest, type: blob.type, data: toBase64(new Uint8Array(await blob.arrayBuffer())) });
  const { id: _, ...rest } = conversation;
  return new Blob([JSON.stringify({ format: FORMAT, version: VERSION, ...rest, pictures }, null, 1)], {
    type: "application/json",
  });
}

const bad = (what: string) =>
  new TabTuneError("BadInput", `This is not a conversation of this page: ${what}. Nothing was imported.`);

type Loose = Record<string, unknown>;
const isObject = (value: unknown): value is Loose =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Reads such a file, trusting nothing in it; the conversation gets an id of its own. Throws `BadInput`. */
export async function readConversationFile(text: string): Promise<Conversation> {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    throw bad("it is not JSON");
  }
  if (!isObject(file) || file.format !== FORMAT) throw bad(`expected "format": "${FORMAT}"`);
  if (file.version !== VERSION) throw bad(`expected version ${VERSION}, found ${JSON.stringify(file.version)}`);
  if (!Array.isArray(file.messages) || !Array.isArray(file.pictures)) throw bad("messages or pictures are missing");

  const pictures: Picture[] = [];
  const ids = new Map<unknown, string>();
  for (const [i, p] of file.pictures.entries()) {
    if (!isObject(p) || typeof p.data !== "string") throw bad(`picture ${i + 1} has no data`);
    const type = typeof p.type === "string" && /^image\/[\w.+-]+$/.test(p.type) ? p.type : "image/png";
    const blob = new Blob([fromBase64(p.data, i)], { type });
    const id = await hashPicture(blob);
    ids.set(p.id, id);
    if (pictures.some((known) => known.id === id)) continue;
    const pixels = (key: "minPixels" | "maxPixels") => (isCount(p[key]) ? { [key]: p[key] } : {});
    const name = typeof p.name === "string" ? p.name : "picture";
    pictures.push({ id, name, blob, ...pixels("minPixels"), ...pixels("maxPixels") });
  }
  const messages = file.messages.map((m, i) => readMessage(m, i, ids));
  const sampling = readSampling(file.sampling);
  const now = Date.now();
  return {
    id: crypto.randomUUID(),
    title: typeof file.title === "string" ? file.title.slice(0, 120) : "Imported chat",
    created: isCount(file.created) ? file.created : now,
    updated: now,
    system: typeof file.system === "string" ? file.system : "",
    ...(sampling ? { sampling } : {}),
    messages,
    pictures,
  };
}

const isCount = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value) && value > 0;

const FINISHES = ["stop", "length", "cancelled", "context"] as const;

function readMessage(m: unknown, i: number, ids: Map<unknown, string>): StoredMessage {
  if (!isObject(m) || (m.role !== "user" && m.role !== "assistant") || !Array.isArray(m.parts))
    throw bad(`message ${i + 1} has no role or no parts`);
  const parts = m.parts.map((part: unknown): MessagePart => {
    if (isObject(part) && part.type === "text" && typeof part.text === "string")
      return { type: "text", text: part.text };
    const pictureId = isObject(part) && part.type === "image" ? ids.get(part.pictureId) : undefined;
    if (!pictureId) throw bad(`message ${i + 1} has a part that is neither text nor a picture of this file`);
    return { type: "image", pictureId };
  });
  const modelName = typeof m.modelName === "string" ? { modelName: m.modelName } : {};
  // Without a finish, an answer counts as interrupted.
  const finish = m.role === "assistant" ? { finish: FINISHES.find((known) => known === m.finish) ?? "stop" } : {};
  return { id: crypto.randomUUID(), role: m.role, parts, ...modelName, ...finish };
}

const NUMBERS = [
  "temperature",
  "topK",
  "topP",
  "minP",
  "repetitionPenalty",
  "presencePenalty",
  "seed",
  "maxTokens",
] as const;

function readSampling(value: unknown): Sampling | undefined {
  if (!isObject(value)) return undefined;
  if (!NUMBERS.every((key) => typeof value[key] === "number" && Number.isFinite(value[key]))) return undefined;
  const numbers = Object.fromEntries(NUMBERS.map((key) => [key, value[key]])) as Omit<Sampling, "stop">;
  const stop = Array.isArray(value.stop)
    ? value.stop.filter((s): s is string => typeof s === "string" && s !== "")
    : [];
  const { thinkingBudget } = value;
  const isBudget = typeof thinkingBudget === "number" && Number.isFinite(thinkingBudget);
  return { ...numbers, ...(isBudget ? { thinkingBudget } : {}), stop };
}

function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

function fromBase64(data: string, i: number): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  } catch {
    throw bad(`the data of picture ${i + 1} is not base64`);
  }
}
