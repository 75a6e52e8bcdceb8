import { Tokenizer as Library } from "@huggingface/tokenizers";
import { TabTuneError } from "../errors.ts";

/**
 * The checkpoint's own tokenizer. The work is done by @huggingface/tokenizers, from the makers of the format;
 * this class adds typed errors, a reverse table and streaming.
 */
export class Tokenizer {
  #library: Library;
  /** Ids of tokens that text output leaves out (<|im_end|>, …; <think> and <tool_call> are kept). */
  #special = new Set<number>();
  /** Ids at or over this exist only as padding rows of the embedding table. */
  readonly size: number;

  private constructor(library: Library, size: number, special: Set<number>) {
    this.#library = library;
    this.size = size;
    this.#special = special;
  }

  /** @param json tokenizer.json; @param config tokenizer_config.json. Throws `BadCheckpoint`. */
  static from(json: string, config?: string): Tokenizer {
    try {
      const parsed = JSON.parse(json);
      const library = new Library(parsed, config ? JSON.parse(config) : {});
      const added: { id: number; special?: boolean }[] = parsed.added_tokens ?? [];
      const ids = [...Object.values(parsed.model.vocab as Record<string, number>), ...added.map((t) => t.id)];
      let last = -1;
      for (const id of ids) if (id > last) last = id;
      return new Tokenizer(library, last + 1, new Set(added.filter((t) => t.special).map((t) => t.id)));
    } catch (cause) {
      throw new TabTuneError(
        "BadCheckpoint",
        `tokenizer.json could not be read as a Hugging Face tokenizer (${cause instanceof Error ? cause.message : cause}). Fetch the checkpoint again.`,
        { cause },
      );
    }
  }

  /** Token ids of a text; special tokens written in it count as such. Adds nothing of its own. */
  encode(text: string): number[] {
    return this.#library.encode(text, { add_special_tokens: false }).ids;
  }

  decode(ids: readonly number[], { skipSpecial = true }: { skipSpecial?: boolean } = {}): string {
    const kept = skipSpecial ? ids.filter((id) => !this.#special.has(id)) : [...ids];
    if (kept.length === 0) return "";
    return this.#library.decode(kept, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  }

  /** The id of a token by its text, such as "<|im_end|>". */
  tokenId(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }

  streamDecoder(): StreamDecoder {
    return new StreamDecoder(this);
  }
}

/** Turns ids into text as they come; a character whose bytes are spread over several tokens appears when it is whole. */
export class StreamDecoder {
  #tokenizer: Tokenizer;
  #pending: number[] = [];

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** Text that is certain now. */
  push(id: number): string {
    this.#pending.push(id);
    const text = this.#tokenizer.decode(this.#pending);
    // A replacement character at the end: bytes of a character that may still be completed (at most 4, each maybe a token).
    if (text.endsWith("\ufffd") && this.#pending.length < 8) return "";
    this.#pending = [];
    return text;
  }

  /** The rest, at the end of an answer. */
  flush(): string {
    const text = this.#tokenizer.decode(this.#pending);
    this.#pending = [];
    return text;
  }
}
