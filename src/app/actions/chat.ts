import { batch, signal } from "@preact/signals";
import {
  type Conversation,
  callback,
  type GenerateEvent,
  type GenerateRequest,
  type GenerateResult,
  type MessagePart,
  type Picture,
  type Sampling,
  type StoredMessage,
} from "../../api/index.ts";
import { isError } from "../../errors.ts";
import { engine } from "../engine_link.ts";
import {
  type Chat,
  currentChat,
  draft,
  editing,
  loaded,
  pictureKey,
  type Run,
  rejected,
  run,
  runError,
  type Stage,
  suggestions,
} from "../state.ts";
import { THOUGHTS } from "../thinking.ts";
import { change, chatAddress, chatOf, save, titleOf } from "./conversations.ts";
import { modelReady } from "./models.ts";
import { messageOf, toast } from "./notices.ts";
import { addInfos } from "./pictures.ts";
import { settle } from "./stop.ts";
import { useAdapter } from "./train_adapters.ts";

/** An answer in progress is stored this often, so that a reload keeps what was written. */
const SAVE_EVERY = 1_000;
/** Text is put on the page at most this often. */
const SHOW_EVERY = 40;

export const textOf = (message: Pick<StoredMessage, "parts">) =>
  message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");

export const picturesOf = (message: Pick<StoredMessage, "parts">, pictures: Picture[]): Picture[] =>
  message.parts.flatMap((part) => pictures.find((p) => part.type === "image" && p.id === part.pictureId) ?? []);

function partsOf(text: string, pictures: Picture[]): MessagePart[] {
  const images = pictures.map((p): MessagePart => ({ type: "image", pictureId: p.id }));
  return text.trim() === "" && images.length > 0 ? images : [...images, { type: "text", text: text.trim() }];
}

/** Pictures of the messages, once each; the latest budget of a picture holds. */
function mergePictures(messages: StoredMessage[], known: Picture[]): Picture[] {
  const used = new Set(messages.flatMap((m) => m.parts.flatMap((p) => (p.type === "image" ? p.pictureId : []))));
  const byId = new Map(known.map((p) => [p.id, p]));
  return [...byId.values()].filter((p) => used.has(p.id));
}

/** Sends the draft, or `text` in its place. */
export async function send(text = draft.peek().text): Promise<void> {
  const { pictures } = draft.peek();
  if (run.peek() || (text.trim() === "" && pictures.length === 0)) return;
  const chat = currentChat.peek();
  const { id, title, messages, pictures: known } = chat.peek();
  const message: StoredMessage = { id: crypto.randomUUID(), role: "user", parts: partsOf(text, pictures) };
  const all = [...messages, message];
  batch(() => {
    change(chat, {
      messages: all,
      pictures: mergePictures(all, [...known, ...pictures]),
      title: title || titleOf(text, pictures.length),
    });
    draft.value = { text: "", pictures: [] };
    rejected.value = [];
    // What is left of an example's questions goes on being offered.
    const { value } = suggestions;
    suggestions.value = value.includes(text) ? value.filter((question) => question !== text) : [];
  });
  // The address names the conversation from now on, so that a reload opens it again.
  if (location.hash !== chatAddress(id)) history.pushState(null, "", chatAddress(id));
  await answer(chat);
}

/** Writes the answer to the last user turn. */
async function answer(chat: Chat): Promise<void> {
  if (run.peek()) return;
  const message: StoredMessage = { id: crypto.randomUUID(), role: "assistant", parts: [{ type: "text", text: "" }] };
  const current: Run = {
    chat,
    taskId: crypto.randomUUID(),
    messageId: message.id,
    stage: signal<Stage>({ name: "waiting", done: 0, total: 0 }),
    text: signal(""),
    abort: new AbortController(),
  };
  const before = chat.peek().messages;
  batch(() => {
    runError.value = undefined;
    run.value = current;
    chat.value = { ...chat.peek(), messages: [...before, message], updated: Date.now() };
  });
  const stream = new Stream(current);
  try {
    const model = await Promise.race([modelReady(), whenAborted(current.abort.signal)]);
    const adapter = await useAdapter(chat.peek().adapterId, model);
    // The template of a thinking model has opened its thoughts: with the tag they stay folded wherever the answer stops.
    stream.opening = model.isThinking ? THOUGHTS : "";
    message.modelName = adapter ? `${model.name} + ${adapter.name}` : model.name;
    const request = requestOf({ ...chat.peek(), messages: before }, model.defaults);
    const result = await engine().generate(
      request,
      current.taskId,
      callback((event) => stream.take(event)),
    );
    stream.stop();
    finish(current, message, { ...result, text: stream.withOpening(result.text) });
  } catch (error) {
    stream.stop();
    finish(current, message, undefined);
    if (!current.abort.signal.aborted && !isError(error, "Cancelled")) fail(chat, error);
  } finally {
    stream.stop();
    run.value = undefined;
  }
}

function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
}

function fail(chat: Chat, error: unknown): void {
  const code = error instanceof Error ? error.name : "Internal";
  // The worker has given the model up; the next message loads it again.
  if (code === "DeviceLost" || code === "OutOfMemory" || code === "NotFound") loaded.value = undefined;
  runError.value = { chatId: chat.peek().id, code, message: messageOf(error) };
}

/** Gathers pieces of text and shows and stores them now and then. */
class Stream {
  /** What stands before the first word. */
  opening = "";
  #run: Run;
  #text = "";
  #shown: ReturnType<typeof setTimeout> | undefined;
  #saved: ReturnType<typeof setInterval>;

  constructor(run: Run) {
    this.#run = run;
    this.#saved = setInterval(() => this.#save(), SAVE_EVERY);
  }

  take(event: GenerateEvent): void {
    const { stage } = this.#run;
    switch (event.type) {
      case "pictures":
        this.#learn(event.pictures);
        break;
      case "progress":
        stage.value = { name: event.stage, done: event.done, total: event.total };
        break;
      case "text":
        this.#text = this.#text === "" ? this.withOpening(event.text) : this.#text + event.text;
        if (stage.peek().name !== "writing") stage.value = { name: "writing", done: 0, total: 0 };
        this.#shown ??= setTimeout(() => this.#show(), SHOW_EVERY);
        break;
      case "recovered":
        toast(event.message);
        break;
      case "stats":
        break;
    }
  }

  /** What the model saw, under the budgets of the conversation. */
  #learn(infos: Extract<GenerateEvent, { type: "pictures" }>["pictures"]): void {
    const { pictures } = this.#run.chat.peek();
    addInfos(
      infos.flatMap((info) => pictures.filter((p) => p.id === info.id).map((p) => [pictureKey(p), info] as const)),
    );
  }

  #show(): void {
    this.#shown = undefined;
    this.#run.text.value = this.#text;
  }

  #save(): void {
    const { chat, messageId } = this.#run;
    const { messages } = chat.peek();
    if (this.#text === "" || textOf(messages.at(-1)!) === this.#text) return;
    const parts: MessagePart[] = [{ type: "text", text: this.#text }];
    chat.value = { ...chat.peek(), messages: messages.map((m) => (m.id === messageId ? { ...m, parts } : m)) };
    void save(chat);
  }

  withOpening(text: string): string {
    return text && this.opening + text;
  }

  stop(): void {
    clearTimeout(this.#shown);
    clearInterval(this.#saved);
    this.#show();
  }
}

/** Puts the answer into its conversation; one without any text is taken out again. */
function finish(
  { chat, messageId, text, abort }: Run,
  message: StoredMessage,
  result: GenerateResult | undefined,
): void {
  const written = result?.text ?? text.peek();
  const done: StoredMessage = {
    ...message,
    parts: [{ type: "text", text: written }],
    ...(result ? { finish: result.finish, stats: result.stats } : abort.signal.aborted ? { finish: "cancelled" } : {}),
  };
  const { messages } = chat.peek();
  const empty = written === "" && (!result || result.finish === "cancelled");
  const next = empty
    ? messages.filter((m) => m.id !== messageId)
    : messages.map((m) => (m.id === messageId ? done : m));
  change(chat, { messages: next });
}

/** What a conversation asks the engine. */
export function requestOf({ system, messages, pictures, sampling }: Conversation, defaults: Sampling): GenerateRequest {
  const turns = messages.map(({ role, parts }) => ({ role, parts }));
  const text = system.trim();
  return {
    messages: text ? [{ role: "system", parts: [{ type: "text", text }] }, ...turns] : turns,
    pictures: mergePictures(messages, pictures),
    sampling: withSeed(sampling ?? defaults),
  };
}

/** Seed 0 means another answer each time; the engine itself knows only fixed seeds. */
function withSeed(sampling: Sampling): Sampling {
  return sampling.seed > 0
    ? sampling
    : { ...sampling, seed: 1 + (crypto.getRandomValues(new Uint32Array(1))[0]! % 0x7fffffff) };
}

// ── Changing what was said; each can be undone ──

function withUndo(chat: Chat, text: string, next: StoredMessage[], pictures = chat.peek().pictures): void {
  const before = chat.peek();
  change(chat, { messages: next, pictures: mergePictures(next, pictures) });
  runError.value = undefined;
  toast(text, {
    action: {
      label: "Undo",
      run: async () => {
        // It may have been closed and opened again since.
        const now = await chatOf(before.id);
        await settle(now);
        runError.value = undefined;
        change(now, { messages: before.messages, pictures: before.pictures });
      },
    },
  });
}

/** Deletes a message; with a question goes its answer. */
export function deleteMessage(id: string): void {
  const chat = currentChat.peek();
  const { messages } = chat.peek();
  const at = messages.findIndex((m) => m.id === id);
  if (at < 0 || run.peek()?.chat === chat) return;
  const pair = messages[at]!.role === "user" && messages[at + 1]?.role === "assistant";
  const next = messages.filter((_, i) => i !== at && !(pair && i === at + 1));
  withUndo(chat, pair ? "The message and its answer were deleted." : "The message was deleted.", next);
}

/** Answers the turn before message `id` anew; what followed is dropped. */
export async function regenerate(id: string): Promise<void> {
  const chat = currentChat.peek();
  const { messages } = chat.peek();
  const at = messages.findIndex((m) => m.id === id);
  if (at < 0 || run.peek()) return;
  const end = messages[at]!.role === "user" ? at + 1 : at;
  if (messages.length > end) withUndo(chat, "The earlier answer was dropped.", messages.slice(0, end));
  await answer(chat);
}

/** Changes a user turn and answers it; what followed is dropped. */
export async function edit(id: string, text: string, pictures: Picture[]): Promise<void> {
  const chat = currentChat.peek();
  const { messages, pictures: known } = chat.peek();
  const at = messages.findIndex((m) => m.id === id);
  editing.value = undefined;
  if (at < 0 || run.peek() || (text.trim() === "" && pictures.length === 0)) return;
  const changed: StoredMessage = { ...messages[at]!, parts: partsOf(text, pictures) };
  withUndo(
    chat,
    "The message was changed; what followed was dropped.",
    [...messages.slice(0, at), changed],
    [...known, ...pictures],
  );
  await answer(chat);
}

/** Tries again after a failure: the last turn is answered. */
export async function tryAgain(): Promise<void> {
  const chat = currentChat.peek();
  const last = chat.peek().messages.at(-1);
  if (!last) return;
  if (last.role === "assistant") await regenerate(last.id);
  else await answer(chat);
}

export async function copyText(text: string, what = "Copied."): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toast(what);
  } catch {
    toast("The browser does not let this page write to the clipboard.", { kind: "error" });
  }
}
