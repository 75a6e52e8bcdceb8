import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it, test } from "vitest";
import { findChatTemplate, renderChat, type TemplateMessage } from "./chat_template.ts";
import { Tokenizer } from "./tokenizer.ts";

const failure = (message: RegExp) =>
  expect.objectContaining({ name: "BadCheckpoint", message: expect.stringMatching(message) });

describe("the template is found", () => {
  const named = [
    { name: "tool_use", template: "tools" },
    { name: "default", template: "chat" },
  ];
  test.each<[string, Record<string, string>, string]>([
    ["in a file of its own", { "chat_template.jinja": "own", "chat_template.json": '{"chat_template":"json"}' }, "own"],
    [
      "in chat_template.json",
      { "chat_template.json": '{"chat_template":"json"}', "tokenizer_config.json": "{}" },
      "json",
    ],
    ["in tokenizer_config.json", { "tokenizer_config.json": '{"chat_template":"config"}' }, "config"],
    [
      "among several in tokenizer_config.json",
      { "tokenizer_config.json": JSON.stringify({ chat_template: named }) },
      "chat",
    ],
  ])("%s", (_, texts, expected) => {
    expect(findChatTemplate(texts)).toBe(expected);
  });

  test("or its absence is said, and broken files are named", () => {
    expect(() => findChatTemplate({ "tokenizer_config.json": "{}" })).toThrow(failure(/no chat template/));
    expect(() => findChatTemplate({ "chat_template.json": "{" })).toThrow(failure(/chat_template\.json/));
    expect(() => renderChat("{% for %}", [])).toThrow(failure(/could not be rendered/));
  });
});

const FOLDER = "../shared/qwen3-vl";
const isThere = existsSync(`${FOLDER}/tokenizer.json`);
describe.skipIf(!isThere)("Qwen3-VL's template (../shared/qwen3-vl)", () => {
  const template = isThere ? readFileSync(`${FOLDER}/chat_template.jinja`, "utf8") : "";
  const tokenizer = isThere ? Tokenizer.from(readFileSync(`${FOLDER}/tokenizer.json`, "utf8")) : undefined;
  const image = { type: "image" };
  const text = (text: string) => ({ type: "text", text });
  const user = (...content: Record<string, unknown>[]): TemplateMessage => ({ role: "user", content });
  const says = (role: string, content: string): TemplateMessage => ({ role, content });
  const open = { addGenerationPrompt: true };
  const ids = (list: string) => list.split(" ").map(Number);

  // Source: chat_template.md §4, rendered and tokenized by transformers.
  it.each<[string, TemplateMessage[], object, string]>([
    ["a question", [says("user", "Hello!")], open, "151644 872 198 9707 0 151645 198 151644 77091 198"],
    [
      "a system turn",
      [says("system", "You are a helpful assistant."), says("user", "Hello!")],
      open,
      "151644 8948 198 2610 525 264 10950 17847 13 151645 198 151644 872 198 9707 0 151645 198 151644 77091 198",
    ],
    [
      "a picture",
      [user(image, text("Describe this image."))],
      open,
      "151644 872 198 151652 151655 151653 74785 419 2168 13 151645 198 151644 77091 198",
    ],
    [
      "two pictures",
      [user(image, image, text("Compare."))],
      open,
      "151644 872 198 151652 151655 151653 151652 151655 151653 27374 13 151645 198 151644 77091 198",
    ],
    [
      "numbered pictures",
      [user(image, image, text("Compare."))],
      { ...open, addVisionId: true },
      "151644 872 198 24669 220 16 25 220 151652 151655 151653 24669 220 17 25 220 151652 151655 151653 27374 13 151645 198 151644 77091 198",
    ],
    [
      "two turns",
      [
        user(image, text("What is it?")),
        says("assistant", "A cat."),
        says("user", "Color?"),
        says("assistant", "Black."),
      ],
      {},
      "151644 872 198 151652 151655 151653 3838 374 432 30 151645 198 151644 77091 198 32 8251 13 151645 198 151644 872 198 1636 30 151645 198 151644 77091 198 14417 13 151645 198",
    ],
  ])("%s", (_, messages, options, expected) => {
    expect(tokenizer!.encode(renderChat(template, messages, options))).toEqual(ids(expected));
  });

  it("tools: their declaration, a call and its result", () => {
    const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
    const weather = { name: "get_weather", description: "Get weather.", parameters: city };
    const call = { type: "function", function: { name: "get_weather", arguments: { city: "Paris" } } };
    const rendered = renderChat(
      template,
      [
        says("system", "Be brief."),
        says("user", "Weather in Paris?"),
        { role: "assistant", content: "", tool_calls: [call] },
        says("tool", "18C"),
      ],
      { ...open, tools: [{ type: "function", function: weather }] },
    );
    // Source: qwen3-vl.md §8.1.
    expect(rendered).toBe(`<|im_start|>system
Be brief.

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type": "function", "function": {"name": "get_weather", "description": "Get weather.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
<|im_start|>user
Weather in Paris?<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "get_weather", "arguments": {"city": "Paris"}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
18C
</tool_response><|im_end|>
<|im_start|>assistant
`);
    const found = tokenizer!.encode(rendered);
    expect(found).toHaveLength(186);
    expect(found.slice(0, 9)).toEqual(ids("151644 8948 198 3430 9814 382 2 13852 271"));
    const called = "151657 198 4913 606 788 330 455 69364 497 330 16370 788 5212 8926 788 330 59604 95642 151658";
    const answered = "151644 872 198 151665 198 16 23 34 198 151666 151645 198";
    expect(found.join(" ")).toContain(called);
    expect(found.join(" ")).toContain(answered);
  });
});
