import { batch } from "@preact/signals";
import type { Conversation } from "../../api/index.ts";
import { readConversationFile, writeConversationFile } from "../conversation_file.ts";
import { engine } from "../engine_link.ts";
import {
  type Chat,
  conversation,
  conversations,
  currentChat,
  drawerOpen,
  editing,
  newChat,
  newChatSettings,
  run,
  screen,
  suggestions,
} from "../state.ts";
import { attempt, messageOf, toast } from "./notices.ts";
import { inspect } from "./pictures.ts";
import { writeSetting } from "./settings.ts";
import { settle } from "./stop.ts";

export async function listConversations(): Promise<void> {
  await attempt("The list of conversations could not be read", async () => {
    conversations.value = await engine().listConversations();
  });
}

let saves: Promise<void> = Promise.resolve();
let saveFailed = false;

/** Stores a conversation; an older state never overwrites a newer one. A failure is told once. */
export function save(chat: Chat): Promise<void> {
  saves = saves.then(async () => {
    const value = chat.peek();
    if (value.messages.length === 0 || deleted.has(value.id)) return;
    try {
      await engine().saveConversation(value);
      saveFailed = false;
    } catch (error) {
      if (!saveFailed) toast(`This conversation is not being stored: ${messageOf(error)}`, { kind: "error" });
      saveFailed = true;
    }
    listOne(value);
  });
  return saves;
}

function listOne({ id, title, updated, messages }: Conversation): void {
  const summary = { id, title, updated, messages: messages.length };
  const rest = conversations.peek().filter((c) => c.id !== id);
  conversations.value = [summary, ...rest].sort((a, b) => b.updated - a.updated);
}

/** Changes a conversation and stores it. */
export function change(chat: Chat, parts: Partial<Conversation>, touch = true): void {
  chat.value = { ...chat.peek(), ...parts, ...(touch ? { updated: Date.now() } : {}) };
  void save(chat);
}

/** The first words of the first message. */
export function titleOf(text: string, pictures: number): string {
  const line = text.trim().split(/\n/)[0]?.replace(/\s+/g, " ") ?? "";
  if (line === "") return pictures > 1 ? `${pictures} pictures` : pictures ? "A picture" : "New chat";
  return line.length > 60 ? `${line.slice(0, 57).replace(/\s\S*$/, "")}…` : line;
}

export const chatAddress = (id: string) => `#/chat/${id}`;

function show(chat: Chat): void {
  batch(() => {
    currentChat.value = chat;
    editing.value = undefined;
    suggestions.value = [];
    drawerOpen.value = false;
    screen.value = "chat";
  });
  for (const picture of chat.peek().pictures) void inspect(picture);
}

/** Opens an empty conversation. */
export function startChat(): void {
  show(newChat());
  if (location.hash !== "#/") location.hash = "#/";
}

/** Opens a stored conversation, or the one whose answer is being written. */
export async function openConversation(id: string): Promise<void> {
  if (conversation.peek().id === id) {
    drawerOpen.value = false;
    return;
  }
  try {
    show(await chatOf(id));
  } catch (error) {
    toast(messageOf(error), { kind: "error" });
    startChat();
  }
}

/** Conversations that were deleted in this page: a late save must not bring them back. */
const deleted = new Set<string>();

export async function deleteConversation(id: string): Promise<void> {
  await attempt("The conversation could not be deleted", async () => {
    const running = run.peek()?.chat;
    if (running?.peek().id === id) await settle(running);
    await saves;
    const kept = await engine().loadConversation(id);
    deleted.add(id);
    await engine().deleteConversation(id);
    conversations.value = conversations.peek().filter((c) => c.id !== id);
    if (conversation.peek().id === id) startChat();
    toast(`“${kept.title}” was deleted.`, {
      action: {
        label: "Undo",
        run: () =>
          void attempt("The conversation could not be brought back", async () => {
            deleted.delete(id);
            await engine().saveConversation(kept);
            listOne(kept);
          }),
      },
    });
  });
}

/** The open or running conversation with this id, else the stored one. */
export async function chatOf(id: string): Promise<Chat> {
  const open = [currentChat.peek(), run.peek()?.chat].find((chat) => chat?.peek().id === id);
  if (open) return open;
  await saves;
  const chat = newChat();
  chat.value = await engine().loadConversation(id);
  return chat;
}

export async function renameConversation(id: string, title: string): Promise<void> {
  await attempt("The conversation could not be renamed", async () => {
    const clean = title.trim().slice(0, 120);
    const chat = await chatOf(id);
    const before = chat.peek().title;
    if (!clean || clean === before) return;
    change(chat, { title: clean }, false);
    toast(`Renamed to “${clean}”.`, {
      action: { label: "Undo", run: async () => change(await chatOf(id), { title: before }, false) },
    });
  });
}

/** The system prompt and the sampling of the open conversation become those of every new one. */
export function keepForNewChats(): void {
  const { system, sampling } = conversation.peek();
  newChatSettings.value = { system, ...(sampling ? { sampling } : {}) };
  void writeSetting("newChat", newChatSettings.value);
  toast("New chats start with these settings.");
}

export async function exportConversation(): Promise<void> {
  await attempt("The conversation could not be written", async () => {
    const value = conversation.peek();
    const address = URL.createObjectURL(await writeConversationFile(value));
    const link = document.createElement("a");
    link.href = address;
    link.download = `${
      value.title
        .replace(/[^\p{L}\p{N}]+/gu, "-")
        .replace(/^-|-$/g, "")
        .slice(0, 60) || "chat"
    }.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
}

export async function importConversation(file: File): Promise<void> {
  await attempt(`${file.name} could not be imported`, async () => {
    const chat = newChat();
    chat.value = await readConversationFile(await file.text());
    await save(chat);
    location.hash = chatAddress(chat.value.id);
  });
}

const texts = new Map<string, { updated: number; text: string }>();

/** Ids of conversations whose title or messages contain the words. Texts are read once and kept. */
export async function searchConversations(
  words: string,
  found: (ids: Set<string>) => void,
  signal: AbortSignal,
): Promise<void> {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const ids = new Set<string>();
  for (const { id, updated, title } of conversations.peek()) {
    if (signal.aborted) return;
    let known = texts.get(id);
    if (known?.updated !== updated) {
      try {
        const { messages } = await engine().loadConversation(id);
        const text = messages.flatMap((m) => m.parts.map((p) => (p.type === "text" ? p.text : ""))).join("\n");
        known = { updated, text: `${title}\n${text}`.toLowerCase() };
        texts.set(id, known);
      } catch {
        continue;
      }
    }
    if (known && wanted.every((word) => known.text.includes(word))) ids.add(id);
  }
  if (!signal.aborted) found(ids);
}
