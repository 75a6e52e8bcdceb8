import { TabTuneError } from "../../errors.ts";
import type { GgufFile } from "./container.ts";
import { Metadata } from "./metadata.ts";

/** Kinds of tokens. Source: checkpoint-formats.md §4.8. */
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;

/** How text is cut before merging; the file has only its name, "qwen2". Source: qwen3-vl.md §7. */
const QWEN2_PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

export interface GgufTokenizer {
  /** tokenizer.json as Hugging Face would have it. */
  json: string;
  /** Ids of the tokens that are found as they are written, by their text. */
  added: ReadonlyMap<string, number>;
}

/** The tokenizer in the metadata of a language file, as tokenizer.json. Throws `BadCheckpoint`, `UnsupportedModel`. */
export function tokenizerOf(language: GgufFile): GgufTokenizer {
  const meta = new Metadata(language);
  const tokens = meta.texts("tokenizer.ggml.tokens");
  if (!tokens) {
    throw new TabTuneError(
      "BadCheckpoint",
      `${language.path}: its metadata holds no tokenizer (tokenizer.ggml.tokens). Get a full conversion.`,
    );
  }
  const kinds = meta.numbers("tokenizer.ggml.token_type") ?? [];
  const [model, pre] = [meta.text("tokenizer.ggml.model"), meta.text("tokenizer.ggml.pre")];
  if (model !== "gpt2" || pre !== "qwen2") {
    throw new TabTuneError(
      "UnsupportedModel",
      `${language.path}: expected a byte-level tokenizer that splits as "qwen2" does, found tokenizer.ggml.model ${JSON.stringify(model)}, tokenizer.ggml.pre ${JSON.stringify(pre)}.`,
    );
  }
  // A token may be named __proto__: entries, not an object that is written to.
  const vocab: [string, number][] = [];
  const added: { id: number; content: string; special: boolean }[] = [];
  tokens.forEach((content, id) => {
    const kind = kinds[id];
    if (content === "" && kind !== UNUSED)
      throw meta.bad("tokenizer.ggml.tokens", "tokens with a text", `"" as number ${id}`);
    if (kind === CONTROL || kind === USER_DEFINED) added.push({ id, content, special: kind === CONTROL });
    else if (kind !== UNUSED) vocab.push([content, id]);
  });
  const known = new Set(vocab.map(([content]) => content));
  if (known.size !== vocab.length) throw meta.bad("tokenizer.ggml.tokens", "different tokens", "some twice");
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
  const split = { type: "Split", pattern: { Regex: QWEN2_PATTERN }, behavior: "Isolated", invert: false };
  const json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added.map(({ id, content, special }) => ({
      ...{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special },
    })),
    normalizer: { type: "NFC" },
    pre_tokenizer: { type: "Sequence", pretokenizers: [split, bytes] },
    post_processor: bytes,
    decoder: bytes,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocab),
      merges: mergesOf(meta, known),
    },
  };
  return { json: JSON.stringify(json), added: new Map(added.map(({ content, id }) => [content, id])) };
}

/** `left right` in order of rank; the space that parts them is the first one that is not at the very beginning. */
function mergesOf(meta: Metadata, known: ReadonlySet<string>): [string, string][] {
  const key = "tokenizer.ggml.merges";
  return (meta.texts(key) ?? []).map((merge) => {
    const space = merge.indexOf(" ", 1);
    const [left, right] = [merge.slice(0, space), merge.slice(space + 1)];
    if (space < 0 || !known.has(left) || !known.has(right) || !known.has(left + right)) {
      throw meta.bad(key, "pairs of tokens whose joint text is a token too", merge);
    }
    return [left, right];
  });
}
