// Other runtimes on the same shapes, in the same browser: onnxruntime-web on chains of 4-bit products, transformers.js on a whole language model.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BrowserContext, Page } from "playwright-core";
import { ensurePeers, PEER_VERSIONS } from "../scripts/peers.mjs";
import { serve } from "../scripts/serve.mjs";
import type { Qwen3VLConfig } from "../src/models/index.ts";
import type { PeerRow } from "./bench_report.ts";
import { writeOnnx } from "./onnx_writer.ts";
import { decoder, type Float, linearChain, WeightFile } from "./peer_graphs.ts";

/** What is used of onnxruntime-web and transformers.js. */
interface Value {
  dispose(): void;
}
interface Ort {
  env: { wasm: { wasmPaths: unknown }; webgpu: { device: Promise<GPUDevice> | GPUDevice } };
  Tensor: { new (type: string, data: unknown, dims: number[]): Value };
  InferenceSession: {
    create(
      url: string,
      options: unknown,
    ): Promise<{ run(feeds: Record<string, unknown>): Promise<Record<string, Value>>; release(): Promise<void> }>;
  };
}
type Session = Awaited<ReturnType<Ort["InferenceSession"]["create"]>>;
interface Transformers {
  env: Record<string, unknown> & { backends: { onnx: { wasm: { wasmPaths: unknown } } } };
  Tensor: { new (type: string, data: unknown, dims: number[]): unknown };
  AutoModelForCausalLM: {
    from_pretrained(
      name: string,
      options: unknown,
    ): Promise<{ generate(options: unknown): Promise<unknown>; dispose(): Promise<unknown> }>;
  };
}

/** onnxruntime-web's names. */
const FLOAT_TYPES = { f32: "float32", f16: "float16" } as const;
/** Layers of the two chains; the time of a layer is their difference over 8. */
const CHAINS = [4, 12] as const;
const ROWS = [1, 326, 1024];
const CONTEXT = 128;
const PROMPT = 512;
const NEW_TOKENS = 64;
const ORT = `onnxruntime-web ${PEER_VERSIONS["onnxruntime-web"]}`;
const TRANSFORMERS = `transformers.js ${PEER_VERSIONS["@huggingface/transformers"]}`;
/** Addresses on the page's own server. */
const ORT_URL = `/peers/onnxruntime-web-${PEER_VERSIONS["onnxruntime-web"]}/`;
const TRANSFORMERS_URL = `/peers/@huggingface-transformers-${PEER_VERSIONS["@huggingface/transformers"]}/transformers.web.min.js`;
const PATHS = {
  mjs: `${ORT_URL}ort-wasm-simd-threaded.jspi.mjs`,
  wasm: `${ORT_URL}ort-wasm-simd-threaded.jspi.wasm`,
};

/** transformers.js finds onnxruntime-web by its names. */
const PAGE = `<!doctype html><title>peers</title><script type="importmap">${JSON.stringify({
  imports: {
    "onnxruntime-web/webgpu": `${ORT_URL}ort.jspi.min.mjs`,
    "onnxruntime-common": `${ORT_URL}ort.jspi.min.mjs`,
  },
})}</script>`;

export interface PeerOptions {
  config: Qwen3VLConfig;
  onRow: (row: PeerRow) => void;
  /** A single measurement that would take longer is left out. */
  capMilliseconds: number;
}

/** Measures every peer in a page of `context`. A peer that can't run is a row with the reason. */
export async function measurePeers(context: BrowserContext, options: PeerOptions): Promise<void> {
  const peers = fileURLToPath(new URL("./peers", import.meta.url));
  ensurePeers(peers);
  const site = mkdtempSync(join(tmpdir(), "tabtune-peers-"));
  writeFileSync(join(site, "index.html"), PAGE);
  const server = await serve({ "/peers/": peers, "/": site });
  const page = await context.newPage();
  try {
    await page.goto(server.url);
    const floats: Float[] = (await hasF16(page)) ? ["f32", "f16"] : ["f32"];
    for (const float of floats) {
      for (const activations of ["as they are", "int8"] as const) {
        const name = `${float}${activations === "int8" ? ", int8 activations" : ""}`;
        const kind: ChainKind = { float, activations, name };
        await attempt(`${ORT}, ${name}`, options, () => measureChains(page, site, kind, options));
      }
      await attempt(`${TRANSFORMERS}, ${float}`, options, () => measureDecoder(page, site, float, options));
    }
  } finally {
    await page.close();
    await server.close();
    rmSync(site, { recursive: true });
  }
}

async function attempt(name: string, { onRow }: PeerOptions, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const note = `did not run: ${String(error).split("\n")[0]}`;
    onRow({ row: { part: "peers", name, value: 0, unit: "ms", note } });
  }
}

const hasF16 = (page: Page) =>
  page.evaluate(async () => (await navigator.gpu.requestAdapter())?.features.has("shader-f16") ?? false);

interface ChainKind {
  float: Float;
  /** onnxruntime-web may round activations to int8 if the graph allows it; its products are then of another accuracy than ours. */
  activations: "as they are" | "int8";
  name: string;
}

async function measureChains(page: Page, site: string, kind: ChainKind, options: PeerOptions): Promise<void> {
  const { config, onRow, capMilliseconds } = options;
  const { float } = kind;
  const file = new WeightFile("chain.data", float);
  const graphs = CHAINS.map((layers) => linearChain(config.text, layers, file, kind.activations === "int8"));
  writeFileSync(join(site, file.name), file.close());
  for (const [i, graph] of graphs.entries()) writeFileSync(join(site, `chain${CHAINS[i]}.onnx`), writeOnnx(graph));
  const times = await page.evaluate(runChains, {
    module: `${ORT_URL}ort.jspi.min.mjs`,
    paths: PATHS,
    file: file.name,
    layers: [...CHAINS],
    type: FLOAT_TYPES[float],
    width: config.text.hiddenSize,
    rows: ROWS,
    capMilliseconds,
  });
  for (const [i, rows] of ROWS.entries()) {
    const name = `${ORT}, linears of a layer, ${rows} rows, ${kind.name}`;
    const value = times[i];
    const row = { part: "peers", name, unit: "ms" as const };
    if (value === undefined) onRow({ row: { ...row, value: 0, note: "left out: would take too long" } });
    else if (!(value > 0)) onRow({ row: { ...row, value: 0, note: "lost in the noise of this machine" } });
    else {
      const part = rows === 1 ? "decode kernels" : "prefill kernels";
      onRow({ row: { ...row, value }, ours: [part, `linears of a layer, ${rows} rows, by the processor's clock`] });
    }
  }
}

interface ChainRun {
  module: string;
  paths: unknown;
  file: string;
  layers: number[];
  type: "float32" | "float16";
  width: number;
  rows: number[];
  capMilliseconds: number;
}

/** In the page: milliseconds of a layer for each number of rows, undefined where it was too slow to measure. */
async function runChains(o: ChainRun): Promise<(number | undefined)[]> {
  const ort = (await import(/* @vite-ignore */ o.module)) as Ort;
  ort.env.wasm.wasmPaths = o.paths;
  const sessions: Session[] = [];
  for (const layers of o.layers) {
    sessions.push(
      await ort.InferenceSession.create(`/chain${layers}.onnx`, {
        executionProviders: ["webgpu"],
        preferredOutputLocation: "gpu-buffer",
        externalData: [{ path: o.file, data: `/${o.file}` }],
      }),
    );
  }
  const device = await ort.env.webgpu.device;
  const results: (number | undefined)[] = [];
  let slow = false;
  for (const rows of o.rows) {
    if (slow) {
      results.push(undefined);
      continue;
    }
    const count = rows * o.width;
    // 0x3800 is 0.5 in f16.
    const values = o.type === "float16" ? new Uint16Array(count).fill(0x3800) : new Float32Array(count).fill(0.5);
    const x = new ort.Tensor(o.type, values, [rows, o.width]);
    const time = async (index: number, repeats: number) => {
      await device.queue.onSubmittedWorkDone();
      const started = performance.now();
      for (let i = 0; i < repeats; i++) {
        for (const y of Object.values(await sessions[index]!.run({ x }))) y.dispose();
      }
      await device.queue.onSubmittedWorkDone();
      return (performance.now() - started) / repeats;
    };
    await time(0, 1);
    await time(1, 1);
    const once = await time(1, 1);
    slow = 8 * once > o.capMilliseconds;
    // Long enough that the clock's grain and the wait at the end don't matter.
    const repeats = Math.max(1, Math.min(64, Math.ceil(200 / once)));
    const slopes: number[] = [];
    for (let i = 0; i < (slow ? 1 : 5); i++) {
      const short = await time(0, repeats);
      slopes.push(((await time(1, repeats)) - short) / (o.layers[1]! - o.layers[0]!));
    }
    results.push(slopes.sort((a, b) => a - b)[slopes.length >> 1]!);
    x.dispose();
  }
  for (const session of sessions) await session.release();
  return results;
}

async function measureDecoder(page: Page, site: string, float: Float, { config, onRow }: PeerOptions): Promise<void> {
  const { text } = config;
  const model = join(site, "models/language");
  mkdirSync(join(model, "onnx"), { recursive: true });
  const dtype = float === "f16" ? "q4f16" : "q4";
  const file = new WeightFile(`model_${dtype}.onnx_data`, float);
  const graph = decoder(text, file);
  writeFileSync(join(model, "onnx", file.name), file.close());
  writeFileSync(join(model, "onnx", `model_${dtype}.onnx`), writeOnnx(graph));
  const json = {
    architectures: ["Qwen3ForCausalLM"],
    model_type: "qwen3",
    hidden_size: text.hiddenSize,
    num_hidden_layers: text.numHiddenLayers,
    num_attention_heads: text.numAttentionHeads,
    num_key_value_heads: text.numKeyValueHeads,
    head_dim: text.headDim,
    vocab_size: text.vocabSize,
  };
  writeFileSync(join(model, "config.json"), JSON.stringify(json));
  const { token, prefill } = await page.evaluate(runDecoder, {
    module: TRANSFORMERS_URL,
    paths: PATHS,
    dtype,
    vocabulary: Math.min(500, text.vocabSize),
    context: CONTEXT,
    prompt: PROMPT,
    newTokens: NEW_TOKENS,
  });
  const row = (what: string, value: number) => {
    return { part: "peers", name: `${TRANSFORMERS}, ${what}, ${float}`, value, unit: "tok/s" as const };
  };
  onRow({ row: row(`decode, context ${CONTEXT}`, 1000 / token), ours: ["decode", `context ${CONTEXT}, greedy`] });
  onRow({ row: row(`prefill, ${PROMPT} tokens`, (1000 * PROMPT) / prefill), ours: ["prefill", `${PROMPT} tokens`] });
}

interface DecoderRun {
  module: string;
  paths: unknown;
  dtype: string;
  vocabulary: number;
  context: number;
  prompt: number;
  newTokens: number;
}

/** In the page: milliseconds of a decoded token and of a prefill, as a program that uses transformers.js sees them. */
async function runDecoder(o: DecoderRun): Promise<{ token: number; prefill: number }> {
  const { env, Tensor, AutoModelForCausalLM } = (await import(/* @vite-ignore */ o.module)) as Transformers;
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/models/" });
  Object.assign(env, { useBrowserCache: false, useWasmCache: false });
  env.backends.onnx.wasm.wasmPaths = o.paths;
  const model = await AutoModelForCausalLM.from_pretrained("language", {
    device: "webgpu",
    dtype: o.dtype,
    use_external_data_format: true,
  });
  /** When each token came, from the call on. */
  const generate = async (tokens: number, newTokens: number) => {
    const ids = BigInt64Array.from({ length: tokens }, (_, i) => BigInt((i * 7919) % o.vocabulary));
    const times: number[] = [];
    const started = performance.now();
    await model.generate({
      input_ids: new Tensor("int64", ids, [1, tokens]),
      attention_mask: new Tensor("int64", new BigInt64Array(tokens).fill(1n), [1, tokens]),
      max_new_tokens: newTokens,
      do_sample: false,
      // The prompt comes first, then a token at a time.
      streamer: { put: () => times.push(performance.now() - started), end: () => {} },
    });
    return times.slice(1);
  };
  const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1]!;
  await generate(o.prompt, 1);
  const prefills: number[] = [];
  for (let i = 0; i < 3; i++) prefills.push((await generate(o.prompt, 1))[0]!);
  await generate(o.context, 4);
  const decodes: number[] = [];
  for (let i = 0; i < 3; i++) {
    const times = await generate(o.context, o.newTokens + 1);
    decodes.push((times.at(-1)! - times[0]!) / (times.length - 1));
  }
  await model.dispose();
  return { token: median(decodes), prefill: median(prefills) };
}
