import { Template } from "@huggingface/jinja";
import { TabTuneError } from "../errors.ts";

/** Messages as chat templates take them: the field's common form. */
export interface TemplateMessage {
  role: string;
  content: string | Record<string, unknown>[];
  [field: string]: unknown;
}

export interface RenderOptions {
  addGenerationPrompt?: boolean;
  tools?: unknown[];
  /** Numbers the pictures in the prompt: "Picture 1: ". */
  addVisionId?: boolean;
}

/** The template that was used last, parsed: data sets render one thousands of times. */
let last: { text: string; template: Template } | undefined;

function compiled(text: string): Template {
  if (last?.text !== text) last = { text, template: new Template(text) };
  return last.template;
}

/** Renders a conversation with a checkpoint's own template. Throws `BadCheckpoint` when the template is broken. */
export function renderChat(
  template: string,
  messages: readonly TemplateMessage[],
  options: RenderOptions = {},
): string {
  try {
    return compiled(template).render({
      messages,
      add_generation_prompt: options.addGenerationPrompt ?? false,
      add_vision_id: options.addVisionId ?? false,
      ...(options.tools ? { tools: options.tools } : {}),
    });
  } catch (cause) {
    throw new TabTuneError(
      "BadCheckpoint",
      `The checkpoint's chat template could not be rendered (${cause instanceof Error ? cause.message : cause}).`,
      { cause },
    );
  }
}

/**
 * The chat template from wherever a checkpoint keeps it: chat_template.jinja, chat_template.json or tokenizer_config.json.
 * Throws `BadCheckpoint` when there is none.
 */
export function findChatTemplate(texts: Readonly<Record<string, string>>): string {
  if (texts["chat_template.jinja"]) return texts["chat_template.jinja"];
  for (const path of ["chat_template.json", "tokenizer_config.json"]) {
    const json = texts[path];
    if (!json) continue;
    const found = (parse(json, path) as { chat_template?: unknown }).chat_template;
    if (typeof found === "string") return found;
    // Several named ones: the default is the chat template.
    if (Array.isArray(found)) {
      const entry = found.find((t) => t?.name === "default") ?? found[0];
      if (typeof entry?.template === "string") return entry.template;
    }
  }
  throw new TabTuneError(
    "BadCheckpoint",
    "The checkpoint has no chat template: expected chat_template.jinja, chat_template.json, or chat_template in tokenizer_config.json.",
  );
}

function parse(json: string, path: string): object {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new TabTuneError("BadCheckpoint", `${path} is not valid JSON (${String(cause)}).`, { cause });
  }
}
