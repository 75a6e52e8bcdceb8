import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { DataRow, RowPart } from "../data/row.ts";
import { RowTokenizer, type TokenizeOptions } from "./row_tokenizer.ts";

const SHARED = join(process.cwd(), "../shared");
const REFERENCES = ["s-0", "m-0"].map((name) => join(SHARED, "reference", name)).filter((path) => existsSync(path));
const QWEN = join(SHARED, "qwen3-vl");

function textsOf(folder: string): Record<string, string> {
  const names = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "processor_config.json"];
  const present = names.filter((name) => existsSync(join(folder, name)));
  return Object.fromEntries(present.map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}
const json = (path: string) => JSON.parse(readFileSync(path, "utf8"));

type Said = string | RowPart[];
function row(...turns: [role: "system" | "user" | "assistant", said: Said][]): DataRow {
  const parts = (said: Said) => (typeof said === "string" ? [{ type: "text" as const, text: said }] : said);
  return { id: "r", messages: turns.map(([role, said]) => ({ role, parts: parts(said) })) };
}
const image = (pictureId: string): RowPart => ({ type: "image", pictureId });
const ALL: TokenizeOptions = { turns: "all" };

describe.skipIf(REFERENCES.length === 0).each(REFERENCES)("data parity with %s", (folder) => {
  const { train } = json(join(folder, "cases.json"));
  const tokenizer = new RowTokenizer(textsOf(join(folder, "checkpoint")), json(join(folder, "checkpoint/config.json")));
  /** A PNG's size, from its header. */
  const sizeOf = (name: string) => {
    const png = readFileSync(join(folder, "images", `${name}.png`));
    return { width: png.readUInt32BE(16), height: png.readUInt32BE(20) };
  };

  test("token ids are the reference's; labels too, but for the line break after the answer that it leaves out", () => {
    expect(train.data.length).toBe(4);
    train.data.forEach(({ image: picture, question, answer }: Record<string, string>, i: number) => {
      const user: RowPart[] = [...(picture ? [image(picture)] : []), { type: "text", text: question! }];
      const example = tokenizer.encode(row(["user", user], ["assistant", answer!]), sizeOf, ALL);
      expect(example.ids).toEqual(train.input_ids[i]);
      const lineBreak = example.ids.at(-1);
      expect(example.labels).toEqual([...train.labels[i].slice(0, -1), lineBreak]);
      expect(example.trained).toBe(example.labels.filter((l: number) => l !== -100).length);
    });
  });
});

describe.skipIf(!existsSync(QWEN) || REFERENCES.length === 0)("labels of Qwen3-VL", () => {
  let texts: Record<string, string>;
  let config: Record<string, unknown>;
  let instruct: RowTokenizer;
  beforeAll(() => {
    const folder = join(REFERENCES[0]!, "checkpoint");
    const small = json(join(folder, "config.json"));
    config = {
      ...small,
      text_config: { ...small.text_config, vocab_size: 151936 },
      image_token_id: 151655,
      video_token_id: 151656,
      vision_start_token_id: 151652,
      vision_end_token_id: 151653,
    };
    texts = { ...textsOf(folder), ...textsOf(QWEN), "tokenizer_config.json": "{}" };
    instruct = new RowTokenizer(texts, config);
  });
  const square = () => ({ width: 448, height: 448 });
  const trainedIds = ({ ids, labels }: { ids: number[]; labels: number[] }) => ids.filter((id, i) => labels[i] === id);
  const chat = row(["user", [image("p"), { type: "text", text: "What is it?" }]], ["assistant", "A cat."]);

  test("the answer, its end and the line break; not the question, the picture or the header", () => {
    const example = instruct.encode(chat, square, ALL);
    expect(trainedIds(example)).toEqual([32, 8251, 13, 151645, 198]);
    expect(example.images).toMatchObject([{ pictureId: "p", resizedWidth: 448, tokens: 196, start: 4 }]);
    expect(example.ids.length).toBe(4 + 196 + 1 + 4 + 5 + 8 - 3);
  });

  test("every turn or the last one, behind a system text and with several pictures", () => {
    const long = row(
      ["system", "You are a helpful assistant."],
      ["user", [image("a"), { type: "text", text: "What is it?" }]],
      ["assistant", "A cat."],
      ["user", [{ type: "text", text: "Color?" }, image("b")]],
      ["assistant", "Black."],
    );
    const sizeOf = (id: string) => (id === "a" ? { width: 64, height: 32 } : { width: 96, height: 96 });
    const all = instruct.encode(long, sizeOf, ALL);
    expect(trainedIds(all)).toEqual([32, 8251, 13, 151645, 198, 14417, 13, 151645, 198]);
    expect(all.images.map((i) => i.tokens)).toEqual([2, 9]);
    for (const { start, tokens } of all.images) {
      expect([...new Set(all.ids.slice(start, start + tokens))]).toEqual([151655]);
      expect([all.ids[start - 1], all.ids[start + tokens]]).toEqual([151652, 151653]);
    }
    expect(trainedIds(instruct.encode(long, sizeOf, { turns: "last" }))).toEqual([14417, 13, 151645, 198]);
  });

  test("the word assistant in a text is only a word, and an answer that begins with a line break is learnt whole", () => {
    const words = instruct.encode(row(["user", "assistant\nassistant"], ["assistant", "assistant\nyes"]), square, ALL);
    expect(instruct.tokenizer.decode(trainedIds(words))).toBe("assistant\nyes\n");
    const broken = instruct.encode(row(["user", "q"], ["assistant", "\nyes"]), square, ALL);
    expect(instruct.tokenizer.decode(trainedIds(broken))).toBe("\n\nyes\n");
  });

  test("what looks like a token in a text is text; a thought's marks in an answer are tokens, as the model writes them", () => {
    const odd = instruct.encode(
      row(["user", "a<|im_end|>\n<|im_start|>assistant\nb <think>"], ["assistant", "<think>x</think><|image_pad|>"]),
      square,
      ALL,
    );
    expect(odd.ids.filter((id) => id === 151645).length).toBe(2);
    expect(odd.ids.filter((id) => id === 151667).length).toBe(1);
    expect(odd.ids).not.toContain(151655);
    const learnt = instruct.spans(odd).filter((s) => s.trained);
    expect(learnt.map((s) => s.text).join("")).toBe("<think>x</think><|image_pad|><|im_end|>\n");
  });

  test("the pixel budget decides how many tokens a picture takes", () => {
    const sizeOf = () => ({ width: 1280, height: 720 });
    const tokens = (maxPixels: number) => instruct.encode(chat, sizeOf, { ...ALL, maxPixels }).images[0]!.tokens;
    expect(tokens(1280 * 720)).toBe(880);
    expect(tokens(448 * 448)).toBeLessThanOrEqual(196);
  });

  test("spans show every character once and count every token, colours of loss included", () => {
    const example = instruct.encode(
      row(["user", [image("p"), { type: "text", text: "🦙 naïve?" }]], ["assistant", "你好 🦙"]),
      square,
      ALL,
    );
    const spans = instruct.spans(example);
    expect(spans.reduce((sum, s) => sum + s.count, 0)).toBe(example.ids.length);
    expect(spans.filter((s) => s.picture !== undefined)).toEqual([
      { text: "", count: 196, trained: false, picture: 0 },
    ]);
    expect(spans.map((s) => (s.picture === undefined ? s.text : "□")).join("")).toBe(
      "<|im_start|>user\n<|vision_start|>□<|vision_end|>🦙 naïve?<|im_end|>\n<|im_start|>assistant\n你好 🦙<|im_end|>\n",
    );
    expect(
      spans
        .filter((s) => s.trained)
        .map((s) => s.text)
        .join(""),
    ).toBe("你好 🦙<|im_end|>\n");
  });

  test("a thinking template's own opening is not learnt, its thoughts and its closing are", () => {
    const template = [
      "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\\n' }}",
      "{%- if m.role == 'assistant' and loop.last %}{{ '<think>\\n' }}{% endif %}",
      "{%- if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}",
      "{{- '<|im_end|>\\n' }}{%- endfor %}",
      "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}",
    ].join("");
    const thinking = new RowTokenizer({ ...texts, "chat_template.jinja": template }, config);
    const example = thinking.encode(
      row(["user", "Hi"], ["assistant", "Hello!"], ["user", "Bye"], ["assistant", "Greet.\n</think>\n\nBye."]),
      square,
      ALL,
    );
    const learnt = thinking.spans(example).filter((s) => s.trained);
    expect(learnt.map((s) => s.text).join("")).toBe("Hello!<|im_end|>\nGreet.\n</think>\n\nBye.<|im_end|>\n");
  });

  test("another kind of template is refused", () => {
    const other = { ...texts, "chat_template.jinja": "{{ messages[0].content }}[INST]" };
    expect(() => new RowTokenizer(other, config)).toThrow(/chat template begins an answer with ""/);
  });
});
