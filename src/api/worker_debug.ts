import { type Engine, importModel, planImport } from "../engine/index.ts";
import { HttpFileSet } from "../formats/index.ts";
import type { Gpu, Slice } from "../gpu/index.ts";
import { expandPrompt, parseConfig, prepareImage, prepareVideo, ropePositions, weightSlots } from "../models/index.ts";
import { decodeImage } from "../processor/index.ts";
import type { BenchApi } from "./bench_protocol.ts";
import type { DebugApi, DebugForward, DebugRequest } from "./debug_protocol.ts";

/** The part of the worker that tests reach into. */
interface Host {
  readonly engine: Engine;
  gpu(): Promise<Gpu>;
  load(
    id: string,
    options: { contextLength: number; cacheType: "f32" | "f16" },
    taskId: string,
    onProgress: () => void,
  ): Promise<unknown>;
}

/** What tests and the parity command use: intermediate results as they are, and a device that is lost on demand. */
export class DebugSide {
  #worker: Host;

  constructor(worker: Host) {
    this.#worker = worker;
  }

  methods(): DebugApi & BenchApi {
    return {
      debugLoad: (options) => this.#load(options),
      debugForward: (request) => this.#forward(request),
      debugGreedy: (request) => this.#greedy(request),
      debugBench: async (options, onRow) => {
        // Loaded on demand: visitors never need it.
        const { runBench } = await import("./worker_bench.ts");
        await runBench(await this.#worker.gpu(), options, onRow);
      },
      debugLoseDevice: async () => (await this.#worker.gpu()).device.destroy(),
    };
  }

  async #load({ base, kv, scheme = "bf16" }: Parameters<DebugApi["debugLoad"]>[0]): Promise<void> {
    const job = await planImport({
      files: new HttpFileSet(base),
      scheme,
      slots: (checkpoint) => weightSlots(parseConfig(checkpoint.config), checkpoint, scheme),
      restart: true,
    });
    const { id } = await importModel(job);
    await this.#worker.load(id, { contextLength: 4096, cacheType: kv }, "debug", () => {});
  }

  /** Tokens, pixels and grids as the app itself makes them. */
  async #inputs(request: DebugRequest) {
    const { chat, config } = this.#worker.engine;
    const blob = async (url: string) => await (await fetch(url)).blob();
    const seen: { pixels: Float32Array<ArrayBuffer>; grid: readonly [number, number, number] }[] = [];
    if (request.video) {
      const frames = [];
      for (const url of request.video.urls) frames.push(await decodeImage(await blob(url), url));
      seen.push(prepareVideo(frames, chat.processor));
    }
    const parts = request.messages.flatMap((m) => m.parts.filter((p) => p.type === "image"));
    for (const part of parts) {
      const picture = request.pictures.find((p) => p.name === part.pictureId)!;
      seen.push(prepareImage(await decodeImage(await blob(picture.url), picture.name), chat.processor));
    }
    const rendered = request.prompt ?? chat.render(templateMessages(request));
    const grids = seen.map((s) => s.grid);
    const video = request.video ? { video: { fps: request.video.fps, frames: request.video.urls.length } } : {};
    const expanded = expandPrompt(rendered, chat.tokenizer, config, grids, video);
    return { expanded, seen };
  }

  async #forward(request: DebugRequest): Promise<DebugForward> {
    const { gpu, model, config } = this.#worker.engine;
    const { expanded, seen } = await this.#inputs(request);
    const taken: { name: string; buffer: Slice; count: number }[] = [];
    const tap = (
      program: { copy(from: Slice, to: Slice, bytes: number): void },
      name: string,
      from: Slice,
      rows: number,
      cols: number,
    ) => {
      const buffer = gpu.storage("debug", name, rows * cols * 4);
      program.copy(from, buffer, rows * cols * 4);
      taken.push({ name, buffer, count: rows * cols });
    };
    const count = expanded.ids.length;
    const logits = gpu.storage("debug", "logits", count * config.text.vocabSize * 4);
    const features: Awaited<ReturnType<typeof model.vision.encode>>[] = [];
    for (const { pixels, grid } of seen) features.push(await model.vision.encode(pixels, grid, { tap }));
    const { positions, delta } = ropePositions(
      expanded.ids,
      seen.map((s) => s.grid),
      config,
    );
    const quads = new Uint32Array(4 * count);
    for (let i = 0; i < count; i++)
      quads.set([positions[3 * i]!, positions[3 * i + 1]!, positions[3 * i + 2]!, i], 4 * i);
    const images = expanded.images.flatMap(({ runs }, n) => {
      let first = 0;
      return runs.map(({ start, tokens }) => {
        const at = Uint32Array.from({ length: tokens }, (_, i) => start + i);
        const part = { features: features[n]!, first, at };
        first += tokens;
        return part;
      });
    });
    this.#worker.engine.session.reset();
    await model.language.prefill(
      { ids: Uint32Array.from(expanded.ids), positions: quads, images },
      { last: false, tap, allLogits: logits },
    );
    const read = async (name: string) => {
      const out: Float32Array<ArrayBuffer>[] = [];
      for (const t of taken) if (t.name === name) out.push(await gpu.readFloats(t.buffer, t.count));
      return out;
    };
    const result: DebugForward = {
      inputIds: [...expanded.ids],
      pixelValues: concatenate(seen.map((s) => s.pixels)),
      grid: seen.map((s) => [...s.grid]),
      positionIds: Int32Array.from(
        { length: 3 * count },
        (_, i) => positions[3 * (i % count) + Math.floor(i / count)]!,
      ),
      ropeDelta: delta,
      visionHidden: await read("vision"),
      visionMerged: await read("merged"),
      hidden: await read("hidden"),
      logits: await gpu.readFloats(logits, count * config.text.vocabSize),
    };
    for (const { buffer } of taken) gpu.free(buffer);
    for (const { features: slices } of features) for (const slice of slices) gpu.free(slice);
    gpu.free(logits);
    return result;
  }

  async #greedy(request: DebugRequest & { maxNewTokens: number }): Promise<number[]> {
    const { session, config } = this.#worker.engine;
    const { expanded, seen } = await this.#inputs(request);
    const generated: number[] = [];
    const images = expanded.images.map((image, i) => ({
      runs: image.runs,
      grid: seen[i]!.grid,
      key: `debug ${Math.random()}`,
      pixels: async () => seen[i]!.pixels,
    }));
    await session.generate({ ids: expanded.ids, images }, generated, {
      settings: {
        temperature: 0,
        topK: 0,
        topP: 1,
        minP: 0,
        repetitionPenalty: 1,
        presencePenalty: 0,
        seed: 0,
        limit: config.text.vocabSize,
        ends: [],
      },
      maxTokens: request.maxNewTokens,
      onTokens: () => false,
    });
    return generated;
  }
}

/** Messages as the template takes them; a video comes first in the first user's turn. */
function templateMessages({ messages, video }: DebugRequest) {
  const first = messages.findIndex((m) => m.role === "user");
  return messages.map(({ role, parts }, i) => ({
    role,
    content: [
      ...(video && i === first ? [{ type: "video" }] : []),
      ...parts.map((part) => (part.type === "image" ? { type: "image" } : { type: "text", text: part.text })),
    ],
  }));
}

function concatenate(parts: Float32Array[]): Float32Array<ArrayBuffer> {
  const out = new Float32Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
