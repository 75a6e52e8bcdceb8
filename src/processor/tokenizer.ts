import { Tokenizer as Library } from "@huggingface/tokenizers";
import { TabTuneError } from "../errors.ts";

interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
}

interface TokenizerJson {
  added_tokens?: AddedToken[];
  decoder?: unknown;
  model: { vocab: Record<string, number> };
}

/** Stands after the first character of a token's text that is not to be read as that token; doubled, it stands for itself. */
const GUARD = "\ufdd0";

/**
 * The checkpoint's own tokenizer: byte-level BPE with added tokens. Normalising, splitting and merging is done by
 * @huggingface/tokenizers, from the makers of the format; this class finds the added tokens in a text, so that what a visitor types
 * can be kept from becoming one, and turns ids into bytes, so that text can be streamed.
 */
export class Tokenizer {
  #library: Library;
  #ids: Map<string, number>;
  #added: RegExp;
  #special: RegExp;
  /** Ids that text output leaves out (<|im_end|>, …; <think> and <tool_call> are kept). */
  #skipped = new Set<number>();
  #bytes: (Uint8Array | string)[] = [];
  /** Ids at or over this exist only as padding rows of the embedding table. */
  readonly size: number;

  private constructor(library: Library, json: TokenizerJson) {
    const added = json.added_tokens ?? [];
    this.#library = library;
    this.#ids = new Map(added.map(({ content, id }) => [content, id]));
    this.#added = anyOf(added);
    this.#special = anyOf(added.filter(({ special }) => special));
    for (const [token, id] of Object.entries(json.model.vocab)) this.#bytes[id] = token;
    for (const { content, id, special } of added) {
      this.#bytes[id] = new TextEncoder().encode(content);
      if (special) this.#skipped.add(id);
    }
    this.size = this.#bytes.length;
  }

  /** @param json tokenizer.json; @param config tokenizer_config.json. Throws `BadCheckpoint`. */
  static from(json: string, config?: string): Tokenizer {
    try {
      const parsed = JSON.parse(json) as TokenizerJson;
      if (!JSON.stringify(parsed.decoder ?? "").includes('"ByteLevel"')) {
        throw new Error(`expected a byte-level decoder, found ${JSON.stringify(parsed.decoder)}`);
      }
      const plain = { ...withExactWhitespace(parsed), added_tokens: [] };
      return new Tokenizer(new Library(plain, config ? JSON.parse(config) : {}), parsed);
    } catch (cause) {
      throw new TabTuneError(
        "BadCheckpoint",
        `tokenizer.json could not be read as a Hugging Face tokenizer (${cause instanceof Error ? cause.message : cause}). Fetch the checkpoint again.`,
        { cause },
      );
    }
  }

  /** Token ids of a text; added tokens written in it count as such unless they are guarded. Adds nothing of its own. */
  encode(text: string): number[] {
    const ids: number[] = [];
    const plain = (piece: string) => {
      const open = piece.replace(/\ufdd0(\ufdd0?)/g, "$1");
      if (open === "") return;
      for (const id of this.#library.encode(open, { add_special_tokens: false }).ids) ids.push(id);
    };
    let at = 0;
    for (const match of text.matchAll(this.#added)) {
      plain(text.slice(at, match.index));
      ids.push(this.#ids.get(match[0])!);
      at = match.index + match[0].length;
    }
    plain(text.slice(at));
    return ids;
  }

  /**
   * A text in which no added token will be found by `encode`: for what people write. Without `all`, tokens that a model writes itself
   * (<think>, <tool_call>) still are.
   */
  guard(text: string, { all }: { all: boolean }): string {
    const doubled = text.replaceAll(GUARD, GUARD + GUARD);
    return doubled.replace(all ? this.#added : this.#special, (token) => token[0] + GUARD + token.slice(1));
  }

  decode(ids: readonly number[], { skipSpecial = true }: { skipSpecial?: boolean } = {}): string {
    const text = utf8();
    let out = "";
    for (const id of ids) {
      if (!skipSpecial || !this.#skipped.has(id)) out += text.decode(this.#bytesOf(id), { stream: true });
    }
    return out + text.decode();
  }

  /** The id of a token by its text, such as "<|im_end|>". */
  tokenId(token: string): number | undefined {
    return this.#ids.get(token) ?? this.#library.token_to_id(token);
  }

  /** Turns ids into text as they come. A character whose bytes are spread over several tokens appears when it is whole. */
  streamDecoder(): StreamDecoder {
    const text = utf8();
    return {
      push: (id) => (this.#skipped.has(id) ? "" : text.decode(this.#bytesOf(id), { stream: true })),
      flush: () => text.decode(),
    };
  }

  /** Ids of padding rows are no text. */
  #bytesOf(id: number): Uint8Array {
    const known = this.#bytes[id] ?? "";
    if (typeof known !== "string") return known;
    const bytes = Uint8Array.from(known, (character) => BYTE_OF.get(character) ?? 0x3f);
    this.#bytes[id] = bytes;
    return bytes;
  }
}

export interface StreamDecoder {
  /** Text that is certain now. */
  push(id: number): string;
  /** The rest, at the end of an answer: a replacement character where bytes of a character are missing. */
  flush(): string;
}

const utf8 = () => new TextDecoder("utf-8", { ignoreBOM: true });

/** Byte-level BPE writes printable Latin-1 characters as themselves and moves the other bytes up, from 256 on, in order. */
const BYTE_OF = new Map<string, number>();
for (let byte = 0, moved = 256; byte < 256; byte++) {
  const isPrintable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  BYTE_OF.set(String.fromCharCode(isPrintable ? byte : moved++), byte);
}

/** Finds the leftmost, longest token. */
function anyOf(tokens: AddedToken[]): RegExp {
  const texts = tokens.map(({ content }) => content).sort((a, b) => b.length - a.length);
  const escaped = texts.map((text) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(escaped.length > 0 ? escaped.join("|") : "(?!)", "gu");
}

/** Unicode's White_Space, which \s means in tokenizer.json; JavaScript's \s lacks U+0085 and adds U+FEFF. Source: qwen3-vl.md §7. */
const WHITESPACE = "\\t\\n\\v\\f\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

/** The same tokenizer with \s and \S written out in the patterns of its splitters. */
function withExactWhitespace<T extends object>(json: T): T {
  const change = (_: string, value: unknown): unknown => {
    const pattern = (value as { Regex?: unknown } | null)?.Regex;
    if (typeof pattern !== "string") return value;
    let depth = 0;
    const Regex = pattern.replace(/\\.|[[\]]/g, (part) => {
      if (part === "[") depth++;
      if (part === "]") depth--;
      if (part === "\\s") return depth > 0 ? WHITESPACE : `[${WHITESPACE}]`;
      return part === "\\S" && depth === 0 ? `[^${WHITESPACE}]` : part;
    });
    return { ...(value as object), Regex };
  };
  const splitter =
    "pre_tokenizer" in json ? { pre_tokenizer: JSON.parse(JSON.stringify(json.pre_tokenizer), change) } : {};
  return { ...json, ...splitter };
}
