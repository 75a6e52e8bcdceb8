import { TabTuneError } from "../errors.ts";
import {
  expandPrompt,
  type Grid,
  imageSize,
  type ProcessorConfig,
  parseGenerationConfig,
  parseProcessorConfig,
  prepareImageInTurns,
  type Qwen3VLConfig,
} from "../models/index.ts";
import {
  decodeImage,
  findChatTemplate,
  probeImage,
  renderChat,
  type StreamDecoder,
  type TemplateMessage,
  Tokenizer,
} from "../processor/index.ts";
import type { Prompt, PromptImage } from "./prompt.ts";
import type { ThoughtsEnd } from "./thinking.ts";

/** A turn as the chat template takes it; pictures stand where they are in the turn. */
export interface ChatMessage {
  role: "system" | "user" | "assistant";
  parts: ({ type: "text"; text: string } | { type: "image"; picture: ChatPicture })[];
}

export interface ChatPicture {
  /** Content hash. */
  id: string;
  name: string;
  blob: Blob;
  /** Pixel budget; the checkpoint's own where absent. */
  minPixels?: number;
  maxPixels?: number;
}

/** A picture as the model sees it. */
export interface SeenPicture {
  id: string;
  width: number;
  height: number;
  resizedWidth: number;
  resizedHeight: number;
  tokens: number;
  grid: Grid;
}

export interface DefaultSampling {
  temperature: number;
  topK: number;
  topP: number;
  repetitionPenalty: number;
}

/** Turns conversations into prompts with the checkpoint's own tokenizer, template and picture processor. */
export class ChatFormat {
  readonly tokenizer: Tokenizer;
  readonly processor: ProcessorConfig;
  readonly defaults: DefaultSampling;
  /** Ids that end a turn. */
  readonly ends: number[];
  /** True for a model whose template opens its thoughts, so that an answer begins inside them. */
  readonly isThinking: boolean;
  #config: Qwen3VLConfig;
  #template: string;
  /** Sizes of pictures met so far, by content hash: old pictures are not decoded again each turn. */
  #sizes = new Map<string, { width: number; height: number }>();

  private constructor(texts: Record<string, string>, config: Qwen3VLConfig) {
    this.#config = config;
    const tokenizer = texts["tokenizer.json"];
    if (tokenizer === undefined) {
      throw new TabTuneError(
        "BadCheckpoint",
        "tokenizer.json is missing: a text tokenizer is needed to talk with the model.",
      );
    }
    this.tokenizer = Tokenizer.from(tokenizer, texts["tokenizer_config.json"]);
    this.#template = findChatTemplate(texts);
    this.processor = parseProcessorConfig(texts, config);
    const generation = parseGenerationConfig(texts["generation_config.json"]);
    const found = ["<|im_end|>", "<|endoftext|>"].map((t) => this.tokenizer.tokenId(t));
    this.ends = [...new Set([...generation.endTokenIds, ...found.filter((id) => id !== undefined)])].slice(0, 8);
    this.defaults = generation.sampling;
    this.isThinking = this.#opensThoughts();
  }

  /** @param texts small files of the checkpoint by path. Throws `BadCheckpoint` when one is missing or broken. */
  static from(texts: Record<string, string>, config: Qwen3VLConfig): ChatFormat {
    return new ChatFormat(texts, config);
  }

  #opensThoughts(): boolean {
    try {
      return /<think>\s*$/.test(this.render([{ role: "user", content: "Hello" }]));
    } catch {
      // A template that cannot take this says so when it is asked for a real conversation.
      return false;
    }
  }

  /** How thoughts are ended for the model; undefined where it has none. */
  get thoughtsEnd(): ThoughtsEnd | undefined {
    const close = this.tokenizer.tokenId("</think>");
    if (!this.isThinking || close === undefined) return undefined;
    return { close, closing: this.tokenizer.encode("\n</think>\n\n") };
  }

  streamDecoder(): StreamDecoder {
    return this.tokenizer.streamDecoder();
  }

  /** The size and cost of a picture without encoding it. Throws `BadImage`. */
  async inspect(picture: ChatPicture): Promise<SeenPicture> {
    let size = this.#sizes.get(picture.id);
    if (!size) {
      const { width, height } = await probeImage(picture.blob, picture.name);
      size = { width, height };
      this.#sizes.set(picture.id, size);
    }
    const { grid, width, height, tokens } = imageSize(size.height, size.width, this.processor, picture);
    return { id: picture.id, ...size, resizedWidth: width, resizedHeight: height, tokens, grid };
  }

  /**
   * The conversation as the model's text, with one placeholder for each picture, up to where the answer starts. What people wrote is
   * guarded: "<|im_end|>" typed by a visitor ends no turn, and "<|image_pad|>" is no picture.
   */
  render(messages: readonly TemplateMessage[]): string {
    const guarded = messages.map((message) => {
      const guard = (text: string) => this.tokenizer.guard(text, { all: message.role !== "assistant" });
      const { content } = message;
      if (typeof content === "string") return { ...message, content: guard(content) };
      return {
        ...message,
        content: content.map((part) => (typeof part.text === "string" ? { ...part, text: guard(part.text) } : part)),
      };
    });
    return renderChat(this.#template, guarded, { addGenerationPrompt: true });
  }

  /** Renders, tokenizes and places pictures. Throws `BadImage`, `BadInput`. */
  async prompt(messages: readonly ChatMessage[]): Promise<{ prompt: Prompt; pictures: SeenPicture[] }> {
    const pictures: SeenPicture[] = [];
    const sources: ChatPicture[] = [];
    for (const message of messages) {
      for (const part of message.parts) {
        if (part.type !== "image") continue;
        pictures.push(await this.inspect(part.picture));
        sources.push(part.picture);
      }
    }
    const rendered = this.render(
      messages.map(({ role, parts }) => ({
        role,
        content: parts.map((part) => (part.type === "image" ? { type: "image" } : { type: "text", text: part.text })),
      })),
    );
    const expanded = expandPrompt(
      rendered,
      this.tokenizer,
      this.#config,
      pictures.map((p) => p.grid),
    );
    const images: PromptImage[] = expanded.images.map((image, i) => {
      const source = sources[i]!;
      const seen = pictures[i]!;
      return {
        runs: image.runs,
        grid: seen.grid,
        key: `${source.id}@${seen.resizedWidth}x${seen.resizedHeight}`,
        pixels: async (signal) => {
          const decoded = await decodeImage(source.blob, source.name, signal);
          return (await prepareImageInTurns(decoded, this.processor, source, signal)).pixels;
        },
      };
    });
    return { prompt: { ids: expanded.ids, images }, pictures };
  }
}
