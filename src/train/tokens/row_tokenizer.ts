import { TabTuneError } from "../../errors.ts";
import {
  expandPrompt,
  type Grid,
  imageSize,
  type ProcessorConfig,
  parseConfig,
  parseProcessorConfig,
  type Qwen3VLConfig,
} from "../../models/index.ts";
import { findChatTemplate, renderChat, type TemplateMessage, Tokenizer } from "../../processor/index.ts";
import type { DataRow } from "../data/row.ts";

export interface TokenizeOptions {
  /** Whose loss counts: every assistant turn, or the last one alone. */
  turns: "all" | "last";
  /** Pixel budget of pictures; the checkpoint's own where absent. */
  minPixels?: number;
  maxPixels?: number;
}

/** A picture of an example: which one, at what size, and where its tokens stand. */
export interface ExampleImage {
  pictureId: string;
  width: number;
  height: number;
  resizedWidth: number;
  resizedHeight: number;
  grid: Grid;
  start: number;
  tokens: number;
}

/** A row as the model sees it. */
export interface Example {
  rowId: string;
  ids: number[];
  /** As many as ids: the id where its loss counts, −100 elsewhere. */
  labels: number[];
  /** Labels that are not −100. */
  trained: number;
  images: ExampleImage[];
}

/** Label of tokens whose loss does not count: the number that PyTorch's loss ignores. */
const IGNORED = -100;

/** Turns rows into ids and labels with a checkpoint's own tokenizer, template and picture sizes. Needs no GPU. */
export class RowTokenizer {
  readonly tokenizer: Tokenizer;
  #template: string;
  #config: Qwen3VLConfig;
  #processor: ProcessorConfig;
  /** How an answer begins: "<|im_start|>assistant", and all that a prompt supplies before the model goes on. */
  #head: number[];
  #opening: number[];
  #end: number;

  /**
   * @param texts small files of the checkpoint by path; @param config config.json as parsed
   * Throws `BadCheckpoint` when one is missing or broken, or when the template is not made of Qwen's turns.
   */
  constructor(texts: Readonly<Record<string, string>>, config: unknown) {
    this.#config = parseConfig(config);
    this.tokenizer = Tokenizer.from(texts["tokenizer.json"] ?? "", texts["tokenizer_config.json"]);
    this.#template = findChatTemplate(texts);
    this.#processor = parseProcessorConfig(texts, this.#config);
    const question = [{ role: "user", content: "?" }];
    const prompt = renderChat(this.#template, question, { addGenerationPrompt: true });
    const opening = prompt.slice(renderChat(this.#template, question).length);
    const end = this.tokenizer.tokenId("<|im_end|>");
    if (!opening.startsWith("<|im_start|>assistant\n") || end === undefined) {
      throw new TabTuneError(
        "BadCheckpoint",
        `The chat template begins an answer with ${JSON.stringify(opening)}; expected <|im_start|>assistant and a line break, and turns that end in <|im_end|>. It cannot be told which tokens are the answer's.`,
      );
    }
    this.#head = this.tokenizer.encode("<|im_start|>assistant");
    this.#opening = this.tokenizer.encode(opening);
    this.#end = end;
  }

  /** Throws `BadImage` for an impossible picture size, `BadInput` when pictures and placeholders do not agree. */
  encode(
    row: Pick<DataRow, "id" | "messages">,
    sizeOf: (pictureId: string) => { width: number; height: number },
    options: TokenizeOptions,
  ): Example {
    const shown = row.messages.flatMap(({ parts }) => parts.filter((part) => part.type === "image"));
    const pictures = shown.map(({ pictureId }) => {
      const { width, height } = sizeOf(pictureId);
      const { grid, ...resized } = imageSize(height, width, this.#processor, options);
      return { pictureId, width, height, resizedWidth: resized.width, resizedHeight: resized.height, grid };
    });
    // Guarded as in a chat: what stands in a data set is text, whatever it looks like.
    const messages: TemplateMessage[] = row.messages.map(({ role, parts }) => ({
      role,
      content: parts.map((part) =>
        part.type === "image"
          ? { type: "image" }
          : { type: "text", text: this.tokenizer.guard(part.text, { all: role !== "assistant" }) },
      ),
    }));
    const grids = pictures.map(({ grid }) => grid);
    const { ids, images } = expandPrompt(renderChat(this.#template, messages), this.tokenizer, this.#config, grids);
    const labels = this.#labels(ids, options.turns);
    return {
      rowId: row.id,
      ids,
      labels,
      trained: labels.filter((label) => label !== IGNORED).length,
      images: images.map(({ runs }, i) => ({ ...pictures[i]!, ...runs[0]! })),
    };
  }

  /**
   * Everything after "<|im_start|>assistant\n" up to and including "<|im_end|>" and the line break after it; source: qwen3-vl.md §8.2.
   * Where the template's prompt supplies more (a thinking model's "<think>\n"), that is not learnt either.
   */
  #labels(ids: readonly number[], turns: "all" | "last"): number[] {
    const labels = ids.map(() => IGNORED);
    const spans: [start: number, end: number][] = [];
    for (let i = 0; i < ids.length; i++) {
      if (!this.#head.every((id, k) => ids[i + k] === id)) continue;
      // A line break that belongs to the answer can melt into the opening's: such a token is the answer's.
      let supplied = this.#head.length;
      while (supplied < this.#opening.length && ids[i + supplied] === this.#opening[supplied]) supplied++;
      const end = ids.indexOf(this.#end, i + supplied);
      if (end < 0) break;
      const isBreak = end + 1 < ids.length && this.tokenizer.decode([ids[end + 1]!]).startsWith("\n");
      spans.push([i + supplied, end + (isBreak ? 2 : 1)]);
      i = end;
    }
    for (const [start, end] of turns === "last" ? spans.slice(-1) : spans) {
      for (let i = start; i < end; i++) labels[i] = ids[i]!;
    }
    return labels;
  }

  /** What a page shows of an example: tokens with their text, a picture's run as one span. */
  spans({ ids, labels, images }: Example): TokenSpan[] {
    const spans: TokenSpan[] = [];
    let pending: number[] = [];
    for (let i = 0; i < ids.length; i++) {
      const picture = images.findIndex(({ start }) => start === i);
      if (picture >= 0) {
        const { tokens } = images[picture]!;
        spans.push({ text: "", count: tokens, trained: false, picture });
        i += tokens - 1;
        continue;
      }
      pending.push(ids[i]!);
      const text = this.tokenizer.decode(pending, { skipSpecial: false });
      // Bytes of one character spread over several tokens are shown together.
      if (text.endsWith("\ufffd") && pending.length < 8 && i + 1 < ids.length) continue;
      spans.push({ text, count: pending.length, trained: labels[i] !== IGNORED });
      pending = [];
    }
    return spans;
  }
}

/** Tokens side by side that are shown as one. */
export interface TokenSpan {
  text: string;
  count: number;
  /** True when its loss counts. */
  trained: boolean;
  /** Index of the picture that these tokens stand for. */
  picture?: number;
}
