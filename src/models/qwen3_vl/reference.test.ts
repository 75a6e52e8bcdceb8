import { existsSync, openAsBlob, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { compareCase } from "../../../e2e/compare_case.ts";
import { readPng } from "../../../e2e/png.ts";
import { openReference, type ReferenceCase } from "../../../e2e/reference.ts";
import { ReferenceModel } from "../../../e2e/reference_model.ts";
import { BlobFileSet, openCheckpoint } from "../../formats/index.ts";
import { findChatTemplate, renderChat, Tokenizer } from "../../processor/index.ts";
import { parseConfig } from "./config.ts";
import { expandPrompt, prepareImage, prepareVideo } from "./processor.ts";
import { parseProcessorConfig } from "./processor_config.ts";

/** Written by make_reference.py; beside the repository, not in it. */
const FOLDERS: [name: string, cases: string[] | undefined][] = [
  ["s-0", undefined],
  ["m-0", ["text", "two_images"]],
];
const TEXTS = [
  "config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "processor_config.json",
  "chat_template.jinja",
];

async function open(folder: string) {
  const path = (name: string) => `${folder}/checkpoint/${name}`;
  const texts = Object.fromEntries(TEXTS.map((name) => [name, readFileSync(path(name), "utf8")]));
  const names = ["config.json", "model.safetensors"];
  const blobs = await Promise.all(names.map(async (name) => ({ path: name, file: await openAsBlob(path(name)) })));
  const checkpoint = await openCheckpoint(new BlobFileSet("reference", blobs));
  const weights = new Map<string, { shape: number[]; data: Float32Array }>();
  for (const [name, { shape, dtype }] of checkpoint.tensors) {
    expect(dtype).toBe("BF16");
    const bytes = await checkpoint.readRows(name, 0, shape[0]!);
    const words = Uint32Array.from(new Uint16Array(bytes.buffer), (half) => half << 16);
    weights.set(name, { shape, data: new Float32Array(words.buffer) });
  }
  const config = parseConfig(checkpoint.config);
  return {
    texts,
    config,
    model: new ReferenceModel(config, weights),
    tokenizer: Tokenizer.from(texts["tokenizer.json"]!),
  };
}

const joined = (parts: Float32Array[]) => Float32Array.from(parts.flatMap((part) => [...part]));
const f32 = (x: Float64Array) => Float32Array.from(x);

describe.each(FOLDERS)("the reference model and the processor against transformers: %s", (name, only) => {
  const folder = `../shared/reference/${name}`;
  if (!existsSync(folder)) return it.skip(`${folder} is absent`, () => {});
  const reference = openReference(folder);
  const opened = open(folder);

  it.each(only ?? Object.keys(reference.cases))("%s", { timeout: 60_000 }, async (name) => {
    const { texts, config, model, tokenizer } = await opened;
    const wanted = reference.cases[name] as ReferenceCase;
    const processor = parseProcessorConfig(texts, config);
    const picture = (file: string) => readPng(readFileSync(`${folder}/images/${file}.png`));
    const frames = Array.from({ length: wanted.frames ?? 0 }, (_, i) => picture(`video_${i}`));
    const seen = frames.length
      ? [prepareVideo(frames, processor)]
      : (wanted.images ?? []).map((file) => prepareImage(picture(file), processor));
    const grids = seen.map((s) => s.grid);
    const rendered = renderChat(findChatTemplate(texts), wanted.messages, { addGenerationPrompt: true });
    expect(rendered).toBe(wanted.prompt);
    const video = frames.length ? { video: { fps: wanted.fps!, frames: frames.length } } : {};
    const { ids } = expandPrompt(rendered, tokenizer, config, grids, video);

    const pixels = joined(seen.map((s) => s.pixels));
    const vision = grids.length ? model.vision(pixels, grids) : undefined;
    const { hidden, logits, positions, delta, past } = model.prefill(ids, grids, vision);
    const greedy: number[] = [];
    const vocab = config.text.vocabSize;
    for (let row = logits.subarray(-vocab); ; ) {
      greedy.push(row.indexOf(row.reduce((a, b) => Math.max(a, b))));
      if (greedy.length === wanted.greedy.length) break;
      row = model.decode(greedy.at(-1)!, delta, past).logits;
    }
    const report = compareCase(
      reference,
      name,
      {
        inputIds: ids,
        pixelValues: pixels,
        grid: grids.map((g) => [...g]),
        positionIds: Int32Array.from({ length: 3 * ids.length }, (_, i) => {
          return positions[3 * (i % ids.length) + Math.floor(i / ids.length)]!;
        }),
        ropeDelta: delta,
        visionHidden: vision?.blocks.map(f32) ?? [],
        visionMerged: vision ? [...vision.deepstack, vision.embeddings].map(f32) : [],
        hidden: hidden.map(f32),
        logits: f32(logits),
      },
      greedy,
    );
    expect(report).toMatchObject({ pass: true, inputIds: true, greedy: true });
    const errors = [report.visionHidden, report.visionMerged, report.hidden, report.logits].filter(
      (e) => e !== undefined,
    );
    expect(Math.max(...errors)).toBeLessThan(1e-5);
    expect(report.pixelValues ?? 0).toBe(0);
  });
});
