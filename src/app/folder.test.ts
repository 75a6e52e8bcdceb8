import { expect, it } from "vitest";
import { parseHubName } from "./actions/folder.ts";

it.each([
  ["Qwen/Qwen3-VL-4B-Instruct", { repo: "Qwen/Qwen3-VL-4B-Instruct" }],
  [" https://huggingface.co/Qwen/Qwen3-VL-4B-Instruct/ ", { repo: "Qwen/Qwen3-VL-4B-Instruct" }],
  ["huggingface.co/Qwen/Qwen3-VL-2B-Instruct?x=1", { repo: "Qwen/Qwen3-VL-2B-Instruct" }],
  ["https://huggingface.co/a/b/tree/refs%2Fpr%2F1/sub", { repo: "a/b", revision: "refs/pr/1" }],
  [
    "https://huggingface.co/a/b/blob/main/sub/m-Q8_0.gguf",
    { repo: "a/b", revision: "main", gguf: { language: "sub/m-Q8_0.gguf" } },
  ],
  [
    "https://huggingface.co/a/b/blob/main/onnx/decoder_model_merged_q4.onnx",
    { repo: "a/b", revision: "main", gguf: { language: "onnx/decoder_model_merged_q4.onnx" } },
  ],
  ["https://hf.co/a/b/blob/main/config.json", { repo: "a/b", revision: "main" }],
])("reads %s", (text, expected) => expect(parseHubName(text)).toEqual(expected));

it.each(["", "Qwen", "a/b/c", "https://example.com/a/b", "a b/c", "../../etc"])("refuses %s", (text) =>
  expect(parseHubName(text)).toBeUndefined(),
);
