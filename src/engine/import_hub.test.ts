import "fake-indexeddb/auto";
import { createHash } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type HubFiles, HubServer, seeded } from "../../e2e/hub_server.ts";
import { failure, storedBytes } from "../../e2e/import_fixture.ts";
import { writeBnb } from "../../e2e/write_formats.ts";
import { isError } from "../errors.ts";
import { type ModelManifest, openHub, type WeightSlot } from "../formats/index.ts";
import { writeSafetensors } from "../formats/safetensors.ts";
import { getRecord, listShards } from "../storage/index.ts";
import { type ImportOptions, importModel, planImport } from "./import.ts";
import { deleteModel, listModels } from "./import_models.ts";

/* Imports from a server that behaves like the Hub, and misbehaves like one. */

const ROWS = 192;
const COLS = 1024;
const NAMES = ["layers.0.a", "layers.0.b", "layers.1.a", "layers.10.a", "layers.2.a", "unused"];
/** Two weight files of 1.2 MB in all, whose order is not that of the slots; one tensor that nobody reads. */
function checkpoint(seed = 1): HubFiles {
  const random = seeded(seed);
  const tensor = (name: string) => {
    const values = Uint16Array.from({ length: ROWS * COLS }, () => 0x3c00 + Math.floor(random() * 256));
    return { name, dtype: "BF16", shape: [ROWS, COLS], bytes: new Uint8Array(values.buffer) };
  };
  const norm = {
    name: "norm",
    dtype: "F32",
    shape: [COLS],
    bytes: new Uint8Array(new Float32Array(COLS).fill(1).buffer),
  };
  const halves = [NAMES.slice(0, 3), NAMES.slice(3)];
  const map = Object.fromEntries([
    ...halves.flatMap((names, i) => names.map((name) => [name, `model-${i}.safetensors`] as const)),
    ["norm", "model-1.safetensors"] as const,
  ]);
  const text = (value: string) => new TextEncoder().encode(value);
  return {
    "README.md": text("# A model"),
    "config.json": text('{"model_type":"test"}'),
    "model-0.safetensors": writeSafetensors(halves[0]!.map(tensor)),
    "model-1.safetensors": writeSafetensors([norm, ...halves[1]!.map(tensor)]),
    "model.safetensors.index.json": text(JSON.stringify({ weight_map: map })),
    "tokenizer.json": text(JSON.stringify({ words: "é".repeat(1500) })),
    "tokenizer_config.json": text('{"add_bos_token":false}'),
  };
}

const slots = (): WeightSlot[] => [
  { name: "norm", sources: [{ tensor: "norm", rows: 1 }], rows: 1, cols: COLS, scheme: "f32" },
  ...[2, 0, 1, 10].map((i): WeightSlot => {
    const parts = i === 0 ? ["layers.0.b", "layers.0.a"] : [`layers.${i}.a`];
    const sources = parts.map((tensor) => ({ tensor, rows: ROWS }));
    return { name: `layer ${i}`, sources, rows: ROWS * parts.length, cols: COLS, scheme: "bf16" };
  }),
];

let hub: HubServer;
const waits: number[] = [];
beforeEach(async () => {
  hub = await HubServer.open(checkpoint());
  waits.length = 0;
  for (const { id } of await listModels()) await deleteModel(id);
});
afterEach(async () => await hub.close());

const open = async (more: { token?: string; revision?: string } = {}) =>
  await openHub(hub.repo, {
    ...more,
    endpoint: hub.endpoint,
    client: { delay: async (milliseconds) => void waits.push(milliseconds), idleMilliseconds: 2000 },
  });
const plan = async (more: { token?: string; revision?: string } = {}) =>
  await planImport({ files: await open(more), scheme: "bf16", slots, shardBytes: 1 << 18 });
const importNow = async (options: ImportOptions = {}) => await importModel(await plan(), options);
const weightRanges = () => hub.requests.filter(({ host }) => host === "cdn");

const storedHashes = async (manifest: ModelManifest) =>
  (await storedBytes(manifest)).map((bytes) => createHash("sha256").update(bytes!).digest("hex"));

/** What an undisturbed import stores. */
async function undisturbed(): Promise<string[]> {
  const manifest = await importNow();
  const bytes = await storedHashes(manifest);
  await deleteModel(manifest.id);
  hub.requests.length = 0;
  return bytes;
}

test("the commit is named in every request, both weight files are compared, neighbours come in one request", async () => {
  const job = await plan();
  expect(job).toMatchObject({ hashedFiles: 2, weightFiles: ["model-0.safetensors", "model-1.safetensors"] });
  hub.requests.length = 0;
  const manifest = await importModel(job);
  expect(manifest).toMatchObject({ state: "complete", verifiedFiles: 2, licence: "apache-2.0" });
  expect(manifest.source).toBe(`some/model at ${hub.branches.main!.slice(0, 12)} (${new URL(hub.endpoint).host})`);
  for (const { path } of hub.requests) expect(path).toContain(hub.branches.main);
  // Six tensors and the two headers, which the hash needs as well.
  expect(weightRanges().length).toBeLessThanOrEqual(6);
  expect(await getRecord("import-hashes", manifest.id)).toBeUndefined();
});

test.each(["awq", "gptq"])(
  "%s, whose matrices are turned as a whole: no byte comes twice, whole files are compared",
  async (quant_method) => {
    // Larger than what is fetched together with its neighbours; each matrix lies in several shards.
    const [out, cols, groups] = [1024, 2304, 36];
    const random = seeded(5);
    const words = (name: string, shape: [number, number]) => ({
      ...{ name, dtype: "I32", shape },
      bytes: Uint8Array.from({ length: 4 * shape[0] * shape[1] }, () => random() * 256),
    });
    const tensors = ["a", "b"].flatMap((name) => [
      words(`${name}.qweight`, quant_method === "awq" ? [cols, out / 8] : [cols / 8, out]),
      words(`${name}.qzeros`, [groups, out / 8]),
      {
        ...{ name: `${name}.scales`, dtype: "F16", shape: [groups, out] },
        bytes: new Uint8Array(new Uint16Array(groups * out).fill(0x2c00).buffer),
      },
    ]);
    const text = (value: object) => new TextEncoder().encode(JSON.stringify(value));
    hub.commit("main", {
      "config.json": text({ quantization_config: { quant_method, bits: 4 } }),
      "tokenizer.json": text({}),
      "model.safetensors": writeSafetensors(tensors),
    });
    const sources = ["a", "b"].map((name) => ({ tensor: `${name}.weight`, rows: out }));
    const matrices: WeightSlot[] = [{ name: "ab", sources, rows: 2 * out, cols, scheme: "q4z64" }];
    const job = await planImport({ files: await open(), scheme: "q4a32", slots: () => matrices, shardBytes: 1 << 18 });
    hub.requests.length = 0;
    expect(await importModel(job)).toMatchObject({ state: "complete", verifiedFiles: 1 });
    const times = new Uint8Array(hub.commits.get(hub.branches.main!)!["model.safetensors"]!.length);
    for (const { range } of weightRanges()) {
      const [first, last] = /(\d+)-(\d+)/.exec(range!)!.slice(1).map(Number) as [number, number];
      for (let at = first; at <= last; at++) times[at]!++;
    }
    expect(times.findIndex((n) => n > 1)).toBe(-1);
  },
);

test("the many small parts of quantized weights come together", async () => {
  const random = seeded(6);
  const [out, cols] = [16, 256];
  const tensors = Array.from({ length: 20 }, (_, i) => {
    const values = Float32Array.from({ length: out * cols }, () => random() - 0.5);
    return writeBnb({ module: `m${i}`, out, cols, values }).tensors;
  }).flat();
  tensors.sort((a, b) => (a.dtype < b.dtype ? -1 : 1));
  const text = (value: object) => new TextEncoder().encode(JSON.stringify(value));
  hub.commit("main", {
    "config.json": text({}),
    "tokenizer.json": text({}),
    // Larger than what comes with the header.
    "model.safetensors": writeSafetensors([
      { name: "a", dtype: "BF16", shape: [1 << 18], bytes: new Uint8Array(1 << 19) },
      ...tensors,
    ]),
  });
  const matrices = Array.from({ length: 20 }, (_, i): WeightSlot => {
    return { name: `m${i}`, sources: [{ tensor: `m${i}.weight`, rows: out }], rows: out, cols, scheme: "nf4g64" };
  });
  const job = await planImport({ files: await open(), scheme: "q4a32", slots: () => matrices, shardBytes: 1 << 18 });
  hub.requests.length = 0;
  expect(await importModel(job)).toMatchObject({ state: "complete", verifiedFiles: 1 });
  // All parts, and what nobody reads, for the hash.
  expect(weightRanges().length).toBeLessThanOrEqual(2);
});

test("a branch that moves in the middle changes nothing", async () => {
  const expected = await undisturbed();
  const job = await plan();
  hub.commit("main", checkpoint(2));
  expect(await storedHashes(await importModel(job))).toEqual(expected);
});

test("a later import of a branch that has moved is told so and keeps what there is", async () => {
  const manifest = await importNow();
  const before = await storedHashes(manifest);
  hub.commit("main", checkpoint(2));
  const error = await failure(importNow());
  expect(error.message).toMatch(/has changed since/);
  expect(await storedHashes(manifest)).toEqual(before);
});

test("connections cut at random, 429, 503 and addresses that ran out: the bytes are the same", {
  timeout: 20_000,
}, async () => {
  const expected = await undisturbed();
  const random = seeded(7);
  let refused = false;
  hub.fault = ({ host }) => {
    const x = random();
    // Two refusals in a row and a third would end the import, as they should.
    const mayRefuse = !refused;
    refused = host === "cdn" && mayRefuse && x >= 0.15 && x < 0.25;
    if (x < 0.1) return { status: 429, headers: { "retry-after": "3" } };
    if (x < 0.15) return { status: 503 };
    if (host === "hub") return undefined;
    if (refused) return { status: 403 };
    return x < 0.7 ? { cutAfter: Math.floor(random() * 200_000) } : undefined;
  };
  const manifest = await importNow();
  expect(manifest.verifiedFiles).toBe(2);
  expect(await storedHashes(manifest)).toEqual(expected);
  expect(waits).toContain(3000);
  expect(weightRanges().length).toBeGreaterThan(12);
});

test("an import that breaks off goes on, reads little twice, and still compares whole files", async () => {
  const expected = await undisturbed();
  const job = await plan();
  const abort = new AbortController();
  const stop = importModel(job, {
    signal: abort.signal,
    onProgress: ({ phase, shard }) => void (phase === "Reading and storing" && shard === 4 && abort.abort()),
  });
  expect(isError(await failure(stop), "Cancelled")).toBe(true);
  const [half] = await listModels();
  expect(half).toMatchObject({ state: "importing" });
  expect((await listShards(job.id)).length).toBeGreaterThan(2);
  const states = Object.values((await getRecord("import-hashes", job.id)) as Record<string, { bytesHashed: number }>);
  expect(states[0]!.bytesHashed).toBeGreaterThan(500_000);

  const manifest = await importNow();
  expect(manifest.verifiedFiles).toBe(2);
  expect(await storedHashes(manifest)).toEqual(expected);
});

test.each<[string, number]>([
  ["in a weight that is imported", 500_000],
  ["in a tensor that nobody reads", 1_500_000],
])("a server that sends one wrong byte %s is found out, and nothing is kept", async (_, at) => {
  const job = await plan();
  hub.fault = ({ path }) =>
    path.includes("model-1")
      ? {
          change: (bytes) => {
            const wrong = bytes.slice();
            wrong[Math.min(at, wrong.length - 10)]! ^= 1;
            return wrong;
          },
        }
      : undefined;
  const error = await failure(importModel(job));
  expect(isError(error, "BadCheckpoint")).toBe(true);
  expect(error.message).toMatch(
    /^model-1\.safetensors: expected SHA-256 [0-9a-f]{12}….* found [0-9a-f]{12}….*nothing of them is kept/,
  );
  expect(await listModels()).toEqual([]);
  expect(await listShards(job.id)).toEqual([]);
});

test("small files are compared as well, with SHA-256 or git's own hash", async () => {
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
    hub.fault = ({ path }) =>
      path.includes(name) ? { change: (bytes) => bytes.map((byte, i) => (i === 3 ? byte ^ 1 : byte)) } : undefined;
    const error = await failure(plan());
    expect(error.message).toMatch(new RegExp(`^${name.replace(".", "\\.")}: expected SHA-(1|256) .*another mirror`));
  }
});

test("a file of another size than the list says is refused before anything is stored", async () => {
  hub.fault = ({ path }) => (path.includes("model-0") ? { change: (bytes) => bytes.slice(0, -4) } : undefined);
  expect((await failure(plan())).message).toMatch(
    /model-0\.safetensors: the list of files says \d+ bytes, the server has \d+/,
  );
  expect(await listModels()).toEqual([]);
});

test("a token goes to the Hub and never to the host that it redirects to", async () => {
  hub.token = "hf_secret";
  const manifest = await importModel(await plan({ token: "hf_secret" }));
  expect(manifest.state).toBe("complete");
  const sent = (host: string) => hub.requests.filter((r) => r.host === host).map((r) => r.authorization);
  expect(new Set(sent("hub"))).toEqual(new Set(["Bearer hf_secret"]));
  expect(new Set(sent("cdn"))).toEqual(new Set([undefined]));
  expect(hub.requests.every(({ path }) => !path.includes("secret"))).toBe(true);
  expect(JSON.stringify(manifest)).not.toContain("secret");
});

test("what a gated, a private and an unknown repository say", async () => {
  hub.token = "hf_secret";
  hub.gated = true;
  expect((await failure(open())).message).toMatch(/gated.*terms.*token/);
  expect((await failure(open({ token: "old" }))).message).toMatch(/does not take this access token \(401\)/);
  hub.gated = false;
  expect((await failure(open())).message).toMatch(/wants an access token \(401\), or the repository does not exist/);
  hub.token = undefined;
  const missing = await failure(open({ revision: "nope" }));
  expect([isError(missing, "NotFound"), missing.message]).toEqual([true, expect.stringMatching(/no revision “nope”/)]);
});

test("a lasting refusal, a lasting 500 and an endless 429 end with their number", async () => {
  for (const [status, words] of [
    [403, /refuses access \(403\)/],
    [500, /answered 500/],
    [429, /answered 429/],
    [418, /answered 418/],
  ] as const) {
    hub.fault = ({ host }) => (host === "cdn" ? { status, headers: { ratelimit: '"resolvers";r=0;t=9' } } : undefined);
    const error = await failure(plan());
    expect([isError(error, "Network"), error.message]).toEqual([true, expect.stringMatching(words)]);
  }
  expect(new Set(waits)).toContain(9000);
});

test("mirrors must be https addresses, or on this computer", async () => {
  for (const endpoint of ["http://mirror.example", "ftp://a.b", "mirror", "https://a.b/?x=1"]) {
    expect((await failure(openHub("a/b", { endpoint }))).message).toMatch(/Expected the address of a mirror/);
  }
});
