import { TabTuneError } from "../errors.ts";
import { deleteRecord, getRecord, listRecords, putRecord } from "../storage/index.ts";
import type { Conversation, ConversationSummary, Picture } from "./protocol.ts";

/** A conversation as stored: pictures are records of their own, once for each content hash. */
type Stored = Omit<Conversation, "pictures"> & { pictures: Omit<Picture, "blob">[] };

async function stored(): Promise<Stored[]> {
  return (await listRecords("conversation")).map(({ value }) => value as Stored);
}

export async function listConversations(): Promise<ConversationSummary[]> {
  const all = await stored();
  return all
    .map(({ id, title, updated, messages }) => ({ id, title, updated, messages: messages.length }))
    .sort((a, b) => b.updated - a.updated);
}

/** Throws `NotFound`. A picture whose bytes are gone is left out; the text stays readable. */
export async function loadConversation(id: string): Promise<Conversation> {
  const found = (await getRecord("conversation", id)) as Stored | undefined;
  if (!found) throw new TabTuneError("NotFound", "This conversation is not stored in this browser any more.");
  const pictures: Picture[] = [];
  for (const picture of found.pictures) {
    const blob = await getRecord("picture", picture.id);
    if (blob instanceof Blob) pictures.push({ ...picture, blob });
  }
  return { ...found, pictures };
}

/** Pictures first, so that a stored conversation never points to one that is missing. Throws `Quota`. */
export async function saveConversation(conversation: Conversation): Promise<void> {
  for (const { id, blob } of conversation.pictures) {
    if ((await getRecord("picture", id)) === undefined) await putRecord("picture", id, blob);
  }
  const pictures = conversation.pictures.map(({ blob: _, ...rest }) => rest);
  await putRecord("conversation", conversation.id, { ...conversation, pictures } satisfies Stored);
}

/** Deletes a conversation and the pictures that no other one shows. */
export async function deleteConversation(id: string): Promise<void> {
  const all = await stored();
  const gone = all.find((c) => c.id === id);
  await deleteRecord("conversation", id);
  const used = new Set(all.filter((c) => c.id !== id).flatMap((c) => c.pictures.map((p) => p.id)));
  for (const picture of gone?.pictures ?? []) {
    if (!used.has(picture.id)) await deleteRecord("picture", picture.id);
  }
}

export async function getSetting(key: string): Promise<unknown> {
  return await getRecord("setting", key);
}

export async function putSetting(key: string, value: unknown): Promise<void> {
  await putRecord("setting", key, value);
}
