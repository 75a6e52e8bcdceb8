import { computed, type Signal, signal } from "@preact/signals";
import type {
  Capabilities,
  Conversation,
  ConversationSummary,
  GgufNames,
  ImportPlan,
  LoadedModel,
  ModelRecord,
  ModelSource,
  Picture,
  PictureInfo,
  Progress,
  Sampling,
  SelfTestRow,
  SelfTestSummary,
  WeightScheme,
} from "../api/index.ts";
import type { Screen } from "./screens.ts";

/** What the page shows. Only `actions/` changes it. */

export const screen = signal<Screen>("chat");

export const capabilities = signal<Capabilities | undefined>(undefined);
/** Set when the worker does not answer at all. */
export const engineSilent = signal(false);

/** True when a newer version of the page is ready. */
export const newVersion = signal(false);

export type Theme = "system" | "light" | "dark";
export const theme = signal<Theme>("system");

// ── Models ──

export interface Task {
  id: string;
  kind: "import" | "verify" | "export" | "load";
  modelId?: string;
  name: string;
  progress?: Progress;
  cancelling?: boolean;
}

export const models = signal<ModelRecord[]>([]);
export const storage = signal<{ used: number; quota: number; persistent: boolean } | undefined>(undefined);
export const loaded = signal<LoadedModel | undefined>(undefined);
/** One at a time each; an import goes on while the loaded model answers. */
export const importTask = signal<Task | undefined>(undefined);
export const loadTask = signal<Task | undefined>(undefined);
/** An import that the visitor has stopped for now, with all that it needs to go on: folders and tokens included. */
export const pausedImport = signal<{ plan: ImportPlan; source: ModelSource; scheme: WeightScheme } | undefined>(
  undefined,
);
export const importError = signal<string | undefined>(undefined);
export const loadError = signal<string | undefined>(undefined);
/** Where an interrupted import came from, by model id, so that it can go on. Folders and tokens are not kept. */
export interface ImportOrigin {
  source:
    | { kind: "demo" }
    | { kind: "hub"; repo: string; revision?: string; endpoint?: string; gguf?: GgufNames }
    | { kind: "url"; base: string; gguf?: GgufNames }
    | { kind: "files" };
  scheme: WeightScheme;
}
export const importOrigins = signal<Record<string, ImportOrigin>>({});
/** Shard numbers that a check found damaged, by model id; empty when all is well. */
export const verified = signal<Record<string, number[]>>({});

// ── Conversations ──

/** An open conversation. A running answer keeps its own, also after another one has been opened. */
export type Chat = Signal<Conversation>;

export function newChat(): Chat {
  const now = Date.now();
  const { system } = newChatSettings.peek();
  return signal({
    id: crypto.randomUUID(),
    title: "",
    created: now,
    updated: now,
    system,
    ...(newChatSettings.peek().sampling ? { sampling: newChatSettings.peek().sampling! } : {}),
    messages: [],
    pictures: [],
  });
}

/** What a new conversation starts with, as the visitor has kept it. */
export const newChatSettings = signal<{ system: string; sampling?: Sampling }>({ system: "" });
export const conversations = signal<ConversationSummary[]>([]);
export const currentChat = signal<Chat>(newChat());
export const conversation = computed(() => currentChat.value.value);

/** Where an answer is: waiting, then reading, then writing. */
export interface Stage {
  name: "waiting" | "encoding" | "prefill" | "writing";
  done: number;
  total: number;
}

/** The answer that is being written. */
export interface Run {
  chat: Chat;
  taskId: string;
  messageId: string;
  stage: Signal<Stage>;
  text: Signal<string>;
  /** Fired when the visitor stops the answer. */
  abort: AbortController;
}
export const run = signal<Run | undefined>(undefined);
export const runHere = computed(() => (run.value && run.value.chat === currentChat.value ? run.value : undefined));
/** Why the last answer of a conversation failed. */
export const runError = signal<{ chatId: string; code: string; message: string } | undefined>(undefined);

/** The user turn that is being edited. */
export const editing = signal<string | undefined>(undefined);

// ── The message that is being written ──

export interface Draft {
  text: string;
  pictures: Picture[];
}
export const draft = signal<Draft>({ text: "", pictures: [] });
/** Files that were not taken, with the reason. */
export const rejected = signal<{ name: string; message: string }[]>([]);
/** Pictures that are being read. */
export const reading = signal(0);
/** What the loaded model sees of a picture, by `pictureKey`. */
export const pictureInfos = signal<ReadonlyMap<string, PictureInfo>>(new Map());
export const pictureKey = (p: Pick<Picture, "id" | "minPixels" | "maxPixels">) =>
  `${p.id}:${p.minPixels ?? ""}:${p.maxPixels ?? ""}`;
/** Pixel budget of pictures that are added; the model's own when absent. */
export const pictureBudget = signal<{ minPixels?: number; maxPixels?: number }>({});

export interface Example {
  file: string;
  title: string;
  questions: string[];
}
export const examples = signal<Example[]>([]);
/** Questions of the example that was taken last. */
export const suggestions = signal<string[]>([]);

/** Sampling of the open conversation: its own, else the model's. */
export const sampling = computed<Sampling | undefined>(() => conversation.value.sampling ?? loaded.value?.defaults);

// ── Self-test ──

export const selfTest = signal<{
  running?: { taskId: string; started: number };
  rows: SelfTestRow[];
  summary?: SelfTestSummary;
  error?: string;
}>({ rows: [] });

// ── Dialogs and notices ──

export type DialogName = "settings" | "shortcuts" | "lightbox";
export const dialog = signal<DialogName | undefined>(undefined);
export const lightbox = signal<{ picture: Picture; answer?: string } | undefined>(undefined);
export const drawerOpen = signal(false);

export interface Toast {
  id: number;
  text: string;
  kind: "info" | "error";
  action?: { label: string; run: () => void | Promise<void> };
}
export const toasts = signal<Toast[]>([]);
