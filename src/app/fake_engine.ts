// For looking at the page without a GPU, in development only: `?fake`, `?fake&missing=no-webgpu`, …
import type { Conversation, EngineApi, EngineClient, LoadedModel, ModelRecord, SelfTestRow } from "../api/index.ts";
import { TabTuneError } from "../errors.ts";

const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));
const cancelled = new Set<string>();
const ANSWERS = [
  `The chart has **five bars**. Here they are:\n\n| Fruit | Sold |\n|:--|--:|\n| Apples | 42 |\n| Pears | 17 |\n\n1. Read the title\n2. Compare the bars\n\n\`\`\`python\ndef highest(bars):\n    return max(bars, key=lambda b: b.value)\n\`\`\`\n\n> The tallest is *Apples*. See [more](https://example.com) <script>alert(1)</script>`,
  'Found them:\n```json\n[\n  {"bbox_2d": [80, 300, 240, 860], "label": "first bar"},\n  {"bbox_2d": [420, 120, 580, 860], "label": "tallest bar"},\n  {"point_2d": [700, 500], "label": "middle"}\n]\n```',
  "<think>\nThe user wants a number. Let me count: one, two, three.\n</think>\n\nThere are **three**.",
];

export function fakeEngine(): EngineClient {
  const query = new URLSearchParams(location.search);
  const conversations = new Map<string, Conversation>();
  const settings = new Map<string, unknown>();
  const models: ModelRecord[] = [];
  let count = 0;
  const demo: ModelRecord = {
    id: "demo",
    name: "Demo (charts)",
    source: "the page itself",
    scheme: "q4a32",
    state: "complete",
    bytesStored: 9_400_000,
    bytesTotal: 9_400_000,
    parameters: 11_000_000,
    licence: "Apache-2.0",
    created: 0,
    lastUsed: 0,
  };
  const progress = async (total: number, id: string, phase: string, on: (p: any) => void, steps = 30) => {
    for (let i = 0; i <= steps; i++) {
      if (cancelled.has(id)) throw new TabTuneError("Cancelled", "cancelled");
      const speed = 180e6;
      on({
        phase,
        bytesDone: (total * i) / steps,
        bytesTotal: total,
        bytesPerSecond: speed,
        secondsLeft: (total * (1 - i / steps)) / speed,
      });
      await sleep(Number(query.get("slow") ?? 40));
    }
  };
  const api: EngineApi = {
    async capabilities() {
      const missing = query.get("missing");
      if (missing)
        return {
          ok: false,
          reason: missing as "no-webgpu",
          found: "navigator.gpu is undefined",
          remedy: "Use a current Chrome or Edge, or Safari 26, on a computer with a GPU.",
        };
      return {
        ok: true,
        vendor: "nvidia",
        architecture: "hopper",
        description: "",
        software: false,
        features: [],
        maxBufferSize: 2 ** 31,
        maxBindingSize: 2 ** 31,
      };
    },
    listModels: async () => [...models],
    async planImport(source) {
      await sleep(600);
      if (source.kind === "url") throw new TabTuneError("Network", "could not connect");
      return {
        id: "qwen",
        name: "Qwen3-VL-4B-Instruct",
        parameters: 4_438_000_000,
        bytesToRead: 8_880_000_000,
        bytesToStore: 3_100_000_000,
        bytesAlreadyStored: 0,
        quotaFree: query.has("full") ? 2_000_000_000 : 120_000_000_000,
        gpuWeightBytes: 3_000_000_000,
        gpuCacheBytes: 1_400_000_000,
        contextLength: 8192,
        licence: "apache-2.0",
        warnings: ["The checkpoint holds 2 tensors that this page does not use."],
      };
    },
    async importModel(source, scheme, id, on) {
      if (source.kind === "demo") {
        await progress(9.4e6, id, "Reading and quantizing", on, 8);
        if (!models.includes(demo)) models.push(demo);
        return demo;
      }
      const record: ModelRecord = {
        ...demo,
        id: "qwen",
        name: "Qwen3-VL-4B-Instruct",
        scheme,
        source: "huggingface.co/Qwen/Qwen3-VL-4B-Instruct",
        state: "importing",
        bytesTotal: 3.1e9,
        bytesStored: 1.2e9,
        parameters: 4_438_000_000,
      };
      models.push(record);
      await progress(8.88e9, id, "Reading and quantizing", on, 60);
      record.state = "complete";
      record.bytesStored = record.bytesTotal;
      return record;
    },
    async verifyModel(_, id, on) {
      await progress(9.4e6, id, "Checking", on);
      return { damaged: query.has("damaged") ? [2] : [] };
    },
    async deleteModel(id) {
      models.splice(
        models.findIndex((m) => m.id === id),
        1,
      );
    },
    storageEstimate: async () => ({ used: 9.4e6, quota: 60e9, persistent: false }),
    async loadModel(id, _, task, on): Promise<LoadedModel> {
      await progress(9.4e6, task, "Loading onto the GPU", on, 10);
      if (query.has("oom"))
        throw new TabTuneError(
          "OutOfMemory",
          "The weights need 3.1 GB of GPU memory and 2 GB are free. Close other tabs that use the GPU, or take the smaller model.",
        );
      return {
        id,
        name: models.find((m) => m.id === id)!.name,
        contextLength: 4096,
        maxContextLength: 262144,
        gpuBytes: 61e6,
        ledger: { weights: 9.4e6, "KV cache": 38e6, activations: 12e6, "vision features": 1.6e6 },
        loadMilliseconds: 730,
        defaults: {
          temperature: 0.7,
          topK: 20,
          topP: 0.8,
          minP: 0,
          repetitionPenalty: 1,
          presencePenalty: 1.5,
          seed: 0,
          maxTokens: 2048,
          stop: [],
        },
        minPixels: 65536,
        maxPixels: 16777216,
        defaultMaxPixels: 1048576,
        isThinking: false,
        notes: query.has("note")
          ? ["A faster kernel (matmul, f16) is wrong on this device; the portable one is used."]
          : [],
      };
    },
    unloadModel: async () => {},
    async inspectPicture(p) {
      await sleep(150);
      const bitmap = await createImageBitmap(p.blob);
      const { width, height } = bitmap;
      const scale = Math.min(1, Math.sqrt((p.maxPixels ?? 1048576) / (width * height)));
      const round = (n: number) => Math.max(32, Math.round((n * scale) / 32) * 32);
      return {
        id: p.id,
        width,
        height,
        resizedWidth: round(width),
        resizedHeight: round(height),
        tokens: (round(width) * round(height)) / 1024,
      };
    },
    async generate(request, id, on) {
      const pictures = [];
      for (const p of request.pictures) pictures.push(await api.inspectPicture(p));
      on({ type: "pictures", pictures });
      for (let i = 0; i < pictures.length; i++) {
        on({ type: "progress", stage: "encoding", done: i, total: pictures.length });
        await sleep(500);
      }
      on({ type: "progress", stage: "prefill", done: 128, total: 512 });
      await sleep(500);
      if (query.has("fail"))
        throw new TabTuneError(
          "ContextFull",
          "The conversation has 5,120 tokens and the context holds 4,096. Delete earlier messages or load the model with a longer context.",
        );
      const answer = ANSWERS[count++ % ANSWERS.length]!;
      let text = "";
      for (const piece of answer.match(/[\s\S]{1,4}/g)!) {
        if (cancelled.has(id)) break;
        text += piece;
        on({ type: "text", text: piece });
        await sleep(Number(query.get("slow") ?? 15));
      }
      if (query.has("lost"))
        on({ type: "recovered", message: "The GPU was reset. The model was loaded again and the answer goes on." });
      const stats = {
        promptTokens: 612,
        reusedTokens: 480,
        newTokens: 96,
        encodeMilliseconds: pictures.length * 120,
        firstTokenMilliseconds: 840,
        prefillTokensPerSecond: 512,
        decodeTokensPerSecond: 41.3,
        contextUsed: 708 * count,
        contextLength: 4096,
      };
      return { text, finish: cancelled.has(id) ? "cancelled" : "stop", stats };
    },
    cancel: async (id) => void cancelled.add(id),
    async selfTest(_, id, on) {
      const rows: SelfTestRow[] = [];
      for (let i = 0; i < 40 && !cancelled.has(id); i++) {
        const row: SelfTestRow = {
          kernel: ["matmul", "rms_norm", "attention", "rope"][i % 4]!,
          shape: `[${64 << (i % 5)}, 2560] bf16`,
          error: 3.2e-7 * (i + 1),
          tolerance: 1e-4,
          pass: i !== 13,
          milliseconds: 0.08 * (i + 1),
          share: Math.min(1, 0.02 * i),
          bound: i % 2 ? "bandwidth" : "arithmetic",
        };
        if (!row.pass) row.message = "NaN at [3, 17]";
        rows.push(row);
        on(row);
        await sleep(30);
      }
      return {
        passed: rows.filter((r) => r.pass).length,
        failed: rows.filter((r) => !r.pass).length,
        copyBandwidth: 3.2e12,
        arithmetic: 5.1e13,
        milliseconds: 4200,
      };
    },
    listConversations: async () =>
      [...conversations.values()]
        .map(({ id, title, updated, messages }) => ({ id, title, updated, messages: messages.length }))
        .sort((a, b) => b.updated - a.updated),
    async loadConversation(id) {
      const found = conversations.get(id);
      if (!found) throw new TabTuneError("NotFound", "This conversation is not stored in this browser any more.");
      return structuredClone(found);
    },
    saveConversation: async (c) => void conversations.set(c.id, structuredClone(c)),
    deleteConversation: async (id) => void conversations.delete(id),
    getSetting: async (key) => settings.get(key),
    putSetting: async (key, value) => void settings.set(key, value),
  };
  const day = 86_400_000;
  for (const [i, title] of [
    "Which month sold most?",
    "Sketch of a plan",
    "Receipts from Lisbon",
    "A very long question about a very wide chart with many, many labels",
  ].entries())
    conversations.set(`old${i}`, {
      id: `old${i}`,
      title,
      created: 0,
      updated: Date.now() - i * i * 1.2 * day,
      system: "",
      messages: [
        { id: "a", role: "user", parts: [{ type: "text", text: title }] },
        { id: "b", role: "assistant", parts: [{ type: "text", text: "It is March." }], finish: "stop" },
      ],
      pictures: [],
    });
  return api as unknown as EngineClient;
}
