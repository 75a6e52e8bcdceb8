import { type Engine, importModel, planImport, promptChunks } from "../engine/index.ts";
import { HttpFileSet } from "../formats/index.ts";
import type { DeviceOptions, Gpu, Slice } from "../gpu/index.ts";
import { GREEDY } from "../kernels/index.ts";
import {
  expandPrompt,
  LOGIT_ROWS,
  parseConfig,
  prepareImage,
  prepareVideo,
  ropePositions,
  weightSlots,
} from "../models/index.ts";
import { decodeImage } from "../processor/index.ts";
import type { BenchApi } from "./bench_protocol.ts";
import type { DebugApi, DebugCache, DebugForward, DebugRequest } from "./debug_protocol.ts";
import { debugEncode } from "./worker_debug_encode.ts";
import { debugTrain } from "./worker_debug_train.ts";

/** The part of the worker that tests reach into. */
interface Host {
  readonly engine: Engine;
  gpu(): Promise<Gpu>;
  openDevice(options: DeviceOptions): Promise<void>;
  load(
    id: string,
    options: { contextLength: number; cacheType: DebugCache },
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
      debugDevice: (options) => this.#worker.openDevice(options),
      debugLoad: (options) => this.#load(options),
      debugForward: (request) => this.#forward(request),
      debugEncode: (pictures) => debugEncode(this.#worker.engine, pictures),
      debugGreedy: (request) => this.#greedy(request),
      debugBench: async (options, onRow) => {
        // Loaded on demand: visitors never need it.
        const { runBench } = await import("./worker_bench.ts");
        await runBench(await this.#worker.gpu(), options, onRow);
      },
      debugTrain: (request) => debugTrain(this.#worker.engine, request),
      debugLoseDevice: async () => (await this.#worker.gpu()).device.destroy(),
    };
  }

  async #load({ base, kv, scheme = "bf16", gguf }: Parameters<DebugApi["debugLoad"]>[0]): Promise<void> {
    const job = await planImport({
      files: new HttpFileSet(base),
      scheme,
      slots: (checkpoint) => weightSlots(parseConfig(checkpoint.config), checkpoint, scheme),
      restart: true,
      ...(gguf ? { gguf } : {}),
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
    const { gpu, model, config, session } = this.#worker.engine;
    const { expanded, seen } = await this.#inputs(request);
    const { ids } = expanded;
    const count = ids.length;
    const taken = new Taken(gpu);
    const features: Awaited<ReturnType<typeof model.vision.encode>>[] = [];
    for (const { pixels, grid } of seen) features.push(await model.vision.encode(pixels, grid, { tap: taken.tap }));
    const grids = seen.map((s) => s.grid);
    const { positions, delta } = ropePositions(ids, grids, config);
    const images = expanded.images.map(({ runs }, i) => ({ runs, grid: grids[i]!, key: String(i), pixels: never }));
    const byKey = new Map(features.map((f, i) => [String(i), f]));
    session.reset();
    const firstRow = Math.max(0, count - (request.lastRows ?? count));
    const hidden: Float32Array<ArrayBuffer>[][] = Array.from({ length: config.text.numHiddenLayers }, () => []);
    const logits: Float32Array<ArrayBuffer>[] = [];
    const { maxRows } = model.language;
    for (const { chunk, to } of promptChunks({ ids, images }, positions, byKey, 0, maxRows)) {
      const rows = chunk.ids.length;
      const skip = Math.min(rows, Math.max(0, firstRow - (to - rows)));
      const vocab = config.text.vocabSize;
      const blocks = Array.from({ length: skip < rows ? Math.ceil(rows / LOGIT_ROWS) : 0 }, () =>
        gpu.storage("debug", "logits", LOGIT_ROWS * vocab * 4),
      );
      await model.language.prefill(chunk, { last: false, tap: taken.tap, logits: blocks });
      for (const [i, data] of (await taken.read("hidden")).entries()) {
        hidden[i]!.push(data.subarray((data.length / rows) * skip));
      }
      for (const [i, block] of blocks.entries()) {
        const [from, end] = [Math.max(skip, i * LOGIT_ROWS), Math.min(rows, (i + 1) * LOGIT_ROWS)];
        const at = (from - i * LOGIT_ROWS) * vocab * 4;
        if (from < end) logits.push(await gpu.readFloats(block, (end - from) * vocab, at));
        gpu.free(block);
      }
    }
    const result: DebugForward = {
      inputIds: [...ids],
      pixelValues: concatenate(seen.map((s) => s.pixels)),
      grid: seen.map((s) => [...s.grid]),
      positionIds: Int32Array.from(
        { length: 3 * count },
        (_, i) => positions[3 * (i % count) + Math.floor(i / count)]!,
      ),
      ropeDelta: delta,
      visionHidden: await taken.read("vision"),
      visionMerged: await taken.read("merged"),
      hidden: hidden.map(concatenate),
      logits: concatenate(logits),
    };
    for (const { features: slices } of features) for (const slice of slices) gpu.free(slice);
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
        ...GREEDY,
        limit: config.text.vocabSize,
        ends: [],
      },
      maxTokens: request.maxNewTokens,
      onTokens: () => false,
    });
    return generated;
  }
}

/** Copies of intermediate results, taken while a program is recorded and read back when it has run. */
class Taken {
  #gpu: Gpu;
  #copies: { name: string; buffer: Slice; count: number }[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  readonly tap = (
    program: { copy(from: Slice, to: Slice, bytes: number): void },
    name: string,
    from: Slice,
    rows: number,
    cols: number,
  ): void => {
    const buffer = this.#gpu.storage("debug", name, rows * cols * 4);
    program.copy(from, buffer, rows * cols * 4);
    this.#copies.push({ name, buffer, count: rows * cols });
  };

  /** All copies of one name in the order they were taken; they are freed. */
  async read(name: string): Promise<Float32Array<ArrayBuffer>[]> {
    const out: Float32Array<ArrayBuffer>[] = [];
    for (const { buffer, count } of this.#copies.filter((copy) => copy.name === name)) {
      out.push(await this.#gpu.readFloats(buffer, count));
      this.#gpu.free(buffer);
    }
    this.#copies = this.#copies.filter((copy) => copy.name !== name);
    return out;
  }
}

function never(): never {
  throw new Error("the picture has been encoded already");
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
