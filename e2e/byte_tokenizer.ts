/** Special tokens of the byte tokenizer and their ids. */
export const SPECIAL = {
  "<|endoftext|>": 256,
  "<|im_start|>": 257,
  "<|im_end|>": 258,
  "<|vision_start|>": 259,
  "<|vision_end|>": 260,
  "<|image_pad|>": 261,
  "<|video_pad|>": 262,
};

/** The same with the ids that Qwen's checkpoints have for them. */
export const QWEN_SPECIAL: typeof SPECIAL = {
  "<|endoftext|>": 151643,
  "<|im_start|>": 151644,
  "<|im_end|>": 151645,
  "<|vision_start|>": 151652,
  "<|vision_end|>": 151653,
  "<|image_pad|>": 151655,
  "<|video_pad|>": 151656,
};

/** What byte-level BPE writes for each byte: printable characters stand for themselves, the others move up by 256. */
function byteCharacters(): string[] {
  const isPrintable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let moved = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(isPrintable(b) ? b : moved++));
}

/** The tags of a thinking model, which are no special tokens: they are part of its answers' text. */
export const THINKING = { "<think>": 263, "</think>": 264 };

/** tokenizer.json of a byte-level BPE without merges: a token for each byte, whose id is the byte; with `tags` as added tokens. */
export function byteTokenizer(tags: Readonly<Record<string, number>> = {}, special = SPECIAL): string {
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: true };
  return JSON.stringify({
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: Object.entries({ ...special, ...tags }).map(([content, id]) => ({
      ...{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false },
      special: !(content in tags),
    })),
    normalizer: { type: "NFC" },
    pre_tokenizer: bytes,
    post_processor: bytes,
    decoder: bytes,
    model: {
      type: "BPE",
      vocab: Object.fromEntries(byteCharacters().map((character, id) => [character, id])),
      merges: [],
    },
  });
}

/** A template like Qwen's, without tools. */
export const SIMPLE_TEMPLATE = `{%- for m in messages -%}
{{- '<|im_start|>' + m.role + '\\n' -}}
{%- if m.content is string -%}{{- m.content -}}{%- else -%}
{%- for p in m.content -%}
{%- if p.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif p.type == 'video' -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- else -%}{{- p.text -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
`;

/** The same as a thinking model has it: an answer begins inside its thoughts. */
export const THINKING_TEMPLATE = SIMPLE_TEMPLATE.replace("assistant\\n", "assistant\\n<think>\\n");
