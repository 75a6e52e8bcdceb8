import "fake-indexeddb/auto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createStore, delMany } from "idb-keyval";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { isError } from "../errors.ts";
import { f32ToBf16 } from "../formats/dtype.ts";
import {
  BlobFileSet,
  type Checkpoint,
  type ModelManifest,
  rowLayout,
  type SlotScheme,
  type WeightSlot,
} from "../formats/index.ts";
import { dequantizeRows } from "../formats/quant/rows.ts";
import { writeSafetensors } from "../formats/safetensors.ts";
import { getShard, listShards, putShard } from "../storage/index.ts";
import { type ImportOptions, importModel, planImport } from "./import.ts";
import { deleteModel, listModels, openModel, readShards, verifyModel } from "./import_models.ts";
import { planShards, shardPieces } from "./import_plan.ts";
import { inlineEncoder, produceShard } from "./import_shard.ts";
import type { ImportRequest, LoadedShard } from "./import_types.ts";

const SHARD_BYTES = 1024;
const realPut = IDBObjectStore.prototype.put;

beforeEach(async () => {
  for (const { id } of await listModels()) await deleteModel(id);
});
afterEach(() => {
  IDBObjectStore.prototype.put = realPut;
  vi.unstubAllGlobals();
});

function noise(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const value = (state / 2 ** 32 - 0.5) * 0.1;
    return new Float32Array(new Uint32Array([f32ToBf16(value) << 16]).buffer)[0]!;
  });
}
const bf16 = (values: Float32Array) => new Uint8Array(Uint16Array.from(values, f32ToBf16).buffer);

const shapes: Record<string, number[]> = {
  q: [48, 96],
  k: [16, 96],
  v: [16, 96],
  norm: [96],
  conv: [10, 3, 2, 4],
  column: [5],
};
const weights: Record<string, Float32Array> = Object.fromEntries(
  Object.entries(shapes).map(([name, shape], i) => [
    name,
    noise(
      shape.reduce((a, b) => a * b),
      i + 1,
    ),
  ]),
);
const slots: WeightSlot[] = [
  {
    name: "qkv",
    sources: [
      { tensor: "q", rows: 48 },
      { tensor: "k", rows: 16 },
      { tensor: "v", rows: 16 },
    ],
    rows: 80,
    cols: 96,
    scheme: "q4a32",
  },
  { name: "norm", sources: [{ tensor: "norm", rows: 1 }], rows: 1, cols: 96, scheme: "f32" },
  { name: "conv", sources: [{ tensor: "conv", rows: 10 }], rows: 10, cols: 24, scheme: "bf16" },
  { name: "column", sources: [{ tensor: "column", rows: 5 }], rows: 5, cols: 1, scheme: "f32" },
];
/** The reference: a slot's rows from the numbers above. */
const slotValues = (slot: WeightSlot) => slot.sources.flatMap(({ tensor }) => [...weights[tensor]!]);

function files(change: (tensors: Record<string, Uint8Array>) => void = () => undefined, name = "test"): BlobFileSet {
  const bytes = Object.fromEntries(Object.entries(weights).map(([key, values]) => [key, bf16(values)]));
  change(bytes);
  const tensors = Object.entries(bytes).map(([key, raw]) => ({
    ...{ name: key, dtype: "BF16", shape: shapes[key]!, bytes: raw },
  }));
  const parts: Record<string, BlobPart> = {
    "config.json": '{"model_type":"test"}',
    "tokenizer.json": '{"hello":"é"}',
    "README.md": "---\nlicense: apache-2.0\n---\n# Test",
    "model.safetensors": writeSafetensors(tensors),
  };
  return new BlobFileSet(
    name,
    Object.entries(parts).map(([path, data]) => ({ path, file: new Blob([data]) })),
  );
}
const request = (more: Partial<ImportRequest> = {}): ImportRequest => ({
  ...{ files: files(), scheme: "q4a32", slots: () => slots, shardBytes: SHARD_BYTES },
  ...more,
});
const importNow = async (more: Partial<ImportRequest> = {}, options: ImportOptions = {}) =>
  await importModel(await planImport(request(more)), options);
async function storedBytes(manifest: ModelManifest): Promise<(Uint8Array | undefined)[]> {
  return await Promise.all(manifest.shards.map((_, index) => getShard(manifest.id, index)));
}
const failure = async (promise: Promise<unknown>) => {
  const error: unknown = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(Error);
  return error as Error;
};
/** Puts the chunks of all shards where the GPU buffers would have them. */
function assemble(manifest: ModelManifest, shards: LoadedShard[]): { codes: Uint8Array; meta: Uint8Array }[] {
  const planes = manifest.slots.map(({ scheme, rows, cols }) => {
    const layout = rowLayout(scheme, cols);
    return { codes: new Uint8Array(rows * layout.codesBytes), meta: new Uint8Array(rows * layout.metaBytes) };
  });
  for (const { bytes, chunks } of shards) {
    for (const chunk of chunks) {
      const { scheme, cols } = manifest.slots[chunk.slot]!;
      const layout = rowLayout(scheme, cols);
      const codes = bytes.subarray(chunk.codesOffset, chunk.codesOffset + chunk.codesBytes);
      const meta = bytes.subarray(chunk.metaOffset, chunk.metaOffset + chunk.metaBytes);
      planes[chunk.slot]!.codes.set(codes, chunk.row0 * layout.codesBytes);
      planes[chunk.slot]!.meta.set(meta, chunk.row0 * layout.metaBytes);
    }
  }
  return planes;
}

test("what is imported comes back as the weights of the checkpoint", async () => {
  const manifest = await importNow();
  const opened = await openModel(manifest.id);
  expect(opened).toMatchObject({ state: "complete", licence: "apache-2.0", config: { model_type: "test" } });
  expect(opened.texts).toEqual({ "tokenizer.json": '{"hello":"é"}' });
  expect(opened.shards.length).toBeGreaterThan(2);
  expect(opened.parameters).toBe(80 * 96 + 96 + 240 + 5);
  const shards: LoadedShard[] = [];
  for await (const shard of readShards(opened)) shards.push(shard);
  const planes = assemble(opened, shards);
  slots.forEach((slot, i) => {
    const found = dequantizeRows(slot.scheme, planes[i] as never, slot.rows, slot.cols);
    const expected = slotValues(slot);
    if (slot.scheme !== "q4a32") expect([...found]).toEqual(expected);
    else found.forEach((x, k) => void expect(Math.abs(x - expected[k]!)).toBeLessThan(0.1 / 15));
  });
});

test("shards hold whole rows, each once, planes aligned and apart, and no shard is too large", () => {
  for (const size of [400, 1000, 4096, 1 << 20]) {
    const rows = slots.map(() => 0);
    for (const shard of planShards(slots, size)) {
      expect(shard.bytes).toBeLessThanOrEqual(size);
      let end = 0;
      for (const chunk of shard.chunks) {
        expect(chunk.row0).toBe(rows[chunk.slot]);
        rows[chunk.slot]! += chunk.rows;
        expect(chunk.codesOffset).toBeGreaterThanOrEqual(end);
        expect(chunk.metaOffset).toBeGreaterThanOrEqual(chunk.codesOffset + chunk.codesBytes);
        expect([chunk.codesOffset % 16, chunk.metaBytes && chunk.metaOffset % 16]).toEqual([0, 0]);
        end = chunk.metaOffset + chunk.metaBytes;
      }
      expect(end).toBe(shard.bytes);
    }
    expect(rows).toEqual(slots.map((slot) => slot.rows));
  }
  expect(() => planShards(slots, 50)).toThrow(/does not fit/);
});

test("a shard is the same made alone, in any order, and by an encoder that works on several parts at once", async () => {
  const manifest = await importNow();
  const stored = await storedBytes(manifest);
  const job = await planImport(request());
  for (const index of [...manifest.shards.keys()].reverse()) {
    const encoder = { parallel: 3, encode: inlineEncoder.encode };
    const shard = manifest.shards[index]!;
    expect(await produceShard(shard, slots, job.checkpoint, encoder, () => undefined)).toEqual(stored[index]);
  }
});

test("reads are as long as allowed and no longer", async () => {
  const { checkpoint } = await planImport(request());
  const [whole] = planShards(slots, 1 << 20);
  const reads = shardPieces(whole!, slots, checkpoint, 400);
  // Two rows of 192 bytes at a time from q, k and v, the norm, eight conv rows of 48 bytes, the column.
  expect(reads.map((piece) => piece.rows)).toEqual([...new Array(40).fill(2), 1, 8, 2, 5]);
  expect(Math.max(...reads.map((piece) => piece.bytes))).toBe(384);
  expect(reads.reduce((sum, piece) => sum + piece.bytes, 0)).toBe(2 * (80 * 96 + 96 + 240 + 5));
});

test("a source in several shard files, f16 and f32 gives what one bf16 file gives", async () => {
  const one = await importNow({ files: files(undefined, "one") });
  const halves = ["q", "norm", "column"];
  const file = (names: string[]) =>
    writeSafetensors(
      names.map((name) => ({ name, dtype: "F32", shape: shapes[name]!, bytes: new Uint8Array(weights[name]!.buffer) })),
    );
  const rest = Object.keys(shapes).filter((name) => !halves.includes(name));
  const map = Object.fromEntries(
    Object.keys(shapes).map((name) => [name, halves.includes(name) ? "a.safetensors" : "b.safetensors"]),
  );
  const parts: Record<string, BlobPart> = {
    "config.json": '{"model_type":"test"}',
    "tokenizer.json": "{}",
    "model.safetensors.index.json": JSON.stringify({ weight_map: map }),
    "a.safetensors": file(halves),
    "b.safetensors": file(rest),
  };
  const set = new BlobFileSet(
    "several",
    Object.entries(parts).map(([path, data]) => ({ path, file: new Blob([data]) })),
  );
  const job = await planImport(request({ files: set }));
  expect(job.warnings).toEqual([expect.stringMatching(/F32.*rounded/)]);
  const several = await importModel(job);
  expect(await storedBytes(several)).toEqual(await storedBytes(one));
});

test.each<[string, (tensors: WeightSlot[]) => WeightSlot[], RegExp]>([
  [
    "a missing tensor",
    (s) => [...s, { ...s[1]!, name: "n2", sources: [{ tensor: "absent", rows: 1 }] }],
    /absent: expected a tensor \[96\], found none/,
  ],
  ["a wrong width", (s) => [{ ...s[2]!, cols: 25 }], /conv: expected \[10, 25\], found \[10, 3, 2, 4\].*another size/],
  [
    "a wrong height",
    (s) => [{ ...s[2]!, rows: 12, cols: 20, sources: [{ tensor: "conv", rows: 12 }] }],
    /expected \[12, 20\]/,
  ],
])("%s is refused before anything is written", async (_, change, message) => {
  const error = await failure(planImport(request({ slots: () => change(slots) })));
  expect(isError(error, "BadCheckpoint")).toBe(true);
  expect(error.message).toMatch(message);
  expect(await listModels()).toEqual([]);
});

test("integer weights are refused by name", async () => {
  const tensors = [{ name: "norm", dtype: "U8", shape: [96], bytes: new Uint8Array(96) }];
  const set = new BlobFileSet("quantized", [
    { path: "config.json", file: new Blob(["{}"]) },
    { path: "tokenizer.json", file: new Blob(["{}"]) },
    { path: "model.safetensors", file: new Blob([writeSafetensors(tensors)]) },
  ]);
  const error = await failure(planImport(request({ files: set, slots: () => [slots[1]!] })));
  expect(error.message).toMatch(/norm: expected BF16, F16 or F32, found U8/);
});

test("NaN weights are named with tensor and row; the model does not look complete", async () => {
  const set = files((tensors) => {
    new Uint16Array(tensors.v!.buffer)[7 * 96 + 3] = 0x7fc0;
  });
  const error = await failure(importNow({ files: set }));
  expect(isError(error, "BadCheckpoint")).toBe(true);
  expect(error.message).toMatch(/^v: .*NaN.* row 7, column 3/);
  const [model] = await listModels();
  expect(model?.state).toBe("importing");
  expect(isError(await failure(openModel(model!.id)), "NotFound")).toBe(true);
});

test("a quota that is too small is said before the first byte is written", async () => {
  vi.stubGlobal("navigator", { storage: { estimate: async () => ({ usage: 1_000_000, quota: 1_001_000 }) } });
  const puts = vi.spyOn(IDBObjectStore.prototype, "put");
  const job = await planImport(request());
  expect(job.quotaFree).toBe(1000);
  const error = await failure(importModel(job));
  puts.mockRestore();
  expect(isError(error, "Quota")).toBe(true);
  expect(error.message).toMatch(/needs 0 MB more storage.*only 0 MB.*nothing has been written/);
  expect(puts).not.toHaveBeenCalled();
});

test("a quota that runs out in the middle: told so, resumable, and the end is as if nothing had happened", async () => {
  const undisturbed = await storedBytes(await importNow({ files: files(undefined, "other place") }));
  let room = 2 * SHARD_BYTES;
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    if (value instanceof Blob) {
      room -= value.size;
      if (room < 0) throw new DOMException("full", "QuotaExceededError");
    }
    return realPut.call(this, value, key);
  };
  const error = await failure(importNow());
  expect(isError(error, "Quota")).toBe(true);
  const half = (await listModels()).find((model) => model.state === "importing")!;
  expect(half.bytesStored).toBeGreaterThan(0);
  expect(half.bytesStored).toBeLessThan(half.bytesTotal);
  expect(isError(await failure(openModel(half.id)), "NotFound")).toBe(true);

  IDBObjectStore.prototype.put = realPut;
  const job = await planImport(request());
  expect(job.existing).toBe("partial");
  expect(job.bytesAlreadyStored).toBe(half.bytesStored);
  const before = (await listShards(job.id)).length;
  let puts = 0;
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    if (value instanceof Blob) puts++;
    return realPut.call(this, value, key);
  };
  const manifest = await importModel(job);
  expect(puts).toBe(manifest.shards.length - before);
  expect(await storedBytes(manifest)).toEqual(undisturbed);
});

test("cancel keeps what is stored; the next import goes on and progress counts what was there", async () => {
  const abort = new AbortController();
  const onProgress = ({ shard }: { shard: number }) => {
    if (shard === 1) abort.abort();
  };
  const error = await failure(importNow({}, { signal: abort.signal, onProgress }));
  expect(isError(error, "Cancelled")).toBe(true);
  const [half] = await listModels();
  expect(half!.bytesStored).toBeGreaterThan(0);
  const seen: { phase: string; bytesDone: number; bytesTotal: number; shard: number; shards: number }[] = [];
  const manifest = await importNow({}, { onProgress: (progress) => seen.push(progress) });
  expect(seen[0]!.phase).toBe("Checking what is stored");
  expect(seen.find(({ phase }) => phase === "Reading and storing")!.bytesDone).toBeGreaterThan(0);
  expect(seen.at(-1)).toMatchObject({ shard: manifest.shards.length, shards: manifest.shards.length });
  expect(seen.at(-1)!.bytesDone / seen.at(-1)!.bytesTotal).toBeGreaterThan(0.95);
  for (let i = 1; i < seen.length; i++) {
    if (seen[i]!.phase === seen[i - 1]!.phase)
      expect(seen[i]!.bytesDone).toBeGreaterThanOrEqual(seen[i - 1]!.bytesDone);
  }
});

test("an import that is already complete is not made again", async () => {
  const manifest = await importNow();
  const job = await planImport(request());
  expect(job.existing).toBe("complete");
  const again = await importModel(job);
  expect(again.created).toBe(manifest.created);
  expect(again.shards).toEqual(manifest.shards);
});

test.each<[string, (id: string, bytes: Uint8Array<ArrayBuffer>) => Promise<void>]>([
  [
    "one flipped bit",
    async (id, bytes) => {
      bytes[100]! ^= 4;
      await putShard(id, { index: 1, bytes: bytes.length, sha256: "0" }, bytes);
    },
  ],
  ["half of it", async (id, bytes) => await putShard(id, { index: 1, bytes: 9, sha256: "0" }, bytes.slice(0, 500))],
  [
    "nothing",
    async (id) => {
      const store = createStore("tabtune-weights", "shards");
      await delMany(
        [
          [id, "data", 1],
          [id, "info", 1],
        ],
        store,
      );
    },
  ],
])("a shard with %s is detected, named and repaired", async (_, damage) => {
  const manifest = await importNow();
  const good = await storedBytes(manifest);
  await damage(manifest.id, good[1]!.slice());
  const read = async () => {
    const seen: number[] = [];
    for await (const shard of readShards(manifest)) seen.push(shard.index);
    return seen;
  };
  const error = await failure(read());
  expect(isError(error, "DamagedShard")).toBe(true);
  expect(error.message).toMatch(new RegExp(`^Shard 2 of ${manifest.shards.length} of test is damaged`));
  expect(await verifyModel(manifest.id)).toEqual({ damaged: [1] });

  let reads = 0;
  const set = files();
  const original = set.read.bind(set);
  set.read = async (path, offset, length, signal) => {
    reads += length;
    return await original(path, offset, length, signal);
  };
  const job = await planImport(request({ files: set }));
  const before = reads;
  await importModel(job);
  expect(reads - before).toBeLessThan(job.bytesToRead);
  expect(await verifyModel(manifest.id)).toEqual({ damaged: [] });
  expect(await storedBytes(manifest)).toEqual(good);
  expect(await read()).toEqual([...manifest.shards.keys()]);
});

test("a half-written shard of an interrupted import is made again", async () => {
  const abort = new AbortController();
  const stop = ({ shard }: { shard: number }) => shard === 2 && abort.abort();
  await failure(importNow({}, { signal: abort.signal, onProgress: stop }));
  const [half] = await listModels();
  const [first] = await listShards(half!.id);
  await putShard(half!.id, first!, new Uint8Array(first!.bytes));
  const manifest = await importNow();
  expect(await verifyModel(manifest.id)).toEqual({ damaged: [] });
  const fresh = await importNow({ files: files(undefined, "fresh") });
  expect(await storedBytes(manifest)).toEqual(await storedBytes(fresh));
});

test("two importers at once: the second is told so, and the first is not disturbed", async () => {
  const first = importNow();
  const job = await planImport(request());
  const second = importModel(job);
  const error = await failure(second);
  expect(isError(error, "Busy")).toBe(true);
  expect(error.message).toMatch(/another tab/);
  expect((await first).state).toBe("complete");
  expect((await importModel(job)).state).toBe("complete");
});

test("the lock is the browser's where it has one", async () => {
  const held = new Set<string>();
  const locks = {
    request: async (name: string, options: { ifAvailable: boolean }, action: (lock: unknown) => Promise<unknown>) => {
      expect(options.ifAvailable).toBe(true);
      if (held.has(name)) return await action(null);
      held.add(name);
      try {
        return await action({ name });
      } finally {
        held.delete(name);
      }
    },
  };
  vi.stubGlobal("navigator", { locks });
  const job = await planImport(request());
  const results = await Promise.allSettled([importModel(job), importModel(job), deleteModel(job.id)]);
  expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "rejected"]);
});

test("a source that has changed is refused, unless a restart is asked for", async () => {
  const first = await importNow();
  const changed = files((tensors) => void new Uint16Array(tensors.q!.buffer).fill(0x3c00));
  const fewer = request({ files: changed });
  const job = await planImport(fewer);
  expect(job.existing).toBe("changed");
  expect(job.bytesAlreadyStored).toBe(0);
  const error = await failure(importModel(job));
  expect(isError(error, "BadInput")).toBe(true);
  expect(error.message).toMatch(/has changed/);
  expect(await verifyModel(first.id)).toEqual({ damaged: [] });
  const restarted = await importModel(await planImport({ ...fewer, restart: true }));
  expect(restarted.id).toBe(first.id);
  expect((await listShards(first.id)).length).toBe(restarted.shards.length);
  expect(await verifyModel(first.id)).toEqual({ damaged: [] });
});

test("weights that change while they are read cannot slip into a repair", async () => {
  const manifest = await importNow();
  await putShard(manifest.id, { index: 0, bytes: 1, sha256: "0" }, new Uint8Array(1));
  const set = files();
  const job = await planImport(request({ files: set }));
  const read = set.read.bind(set);
  set.read = async (...range) => (await read(...range)).fill(0x3c);
  const error = await failure(importModel(job));
  expect(isError(error, "BadInput")).toBe(true);
  expect(error.message).toMatch(/now gives other weights/);
  expect(await verifyModel(manifest.id)).toEqual({ damaged: [0] });
});

test("models are listed with what they take, deleted with all shards, and orphans are freed", async () => {
  const a = await importNow();
  const b = await importNow({ files: files(undefined, "b"), name: "B" });
  const models = await listModels();
  expect(models.map((model) => model.name).sort()).toEqual(["B", "test"]);
  for (const model of models) {
    expect(model).toMatchObject({ state: "complete", bytesStored: a.bytesTotal, bytesTotal: a.bytesTotal });
  }
  await deleteModel(a.id);
  expect((await listModels()).map((model) => model.id)).toEqual([b.id]);
  expect(await listShards(a.id)).toEqual([]);
  expect(await verifyModel(b.id)).toEqual({ damaged: [] });
  await putShard("orphan", { index: 0, bytes: 3, sha256: "0" }, new Uint8Array(3));
  expect((await listModels()).map((model) => model.id)).toEqual([b.id]);
  expect(await listShards("orphan")).toEqual([]);
  expect(await verifyModel(b.id)).toEqual({ damaged: [] });
});

test("opening what is not there says so", async () => {
  expect(isError(await failure(openModel("nothing")), "NotFound")).toBe(true);
  expect(isError(await failure(verifyModel("nothing")), "NotFound")).toBe(true);
});

test("reading is never more than one shard ahead", async () => {
  const manifest = await importNow();
  const gets = vi.spyOn(IDBObjectStore.prototype, "get");
  let shard = 0;
  for await (const _ of readShards(manifest)) {
    shard++;
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(gets.mock.calls.length).toBeLessThanOrEqual(shard + 1);
  }
  gets.mockRestore();
});

test("importing holds two shards at most: the next is begun only when the one before the last is written", async () => {
  const job = await planImport(request());
  const shardOf = new Map<string, number>();
  for (const [index, shard] of job.manifest.shards.entries()) {
    for (const { tensor, row0 } of shardPieces(shard, slots, job.checkpoint, 8 << 20))
      shardOf.set(`${tensor} ${row0}`, index);
  }
  // Hashing takes its time, so that a pipeline without a bound would run ahead.
  const digest = crypto.subtle.digest.bind(crypto.subtle);
  const slow = vi.spyOn(crypto.subtle, "digest").mockImplementation(async (...args) => {
    await new Promise((resolve) => setTimeout(resolve, 10));
    return await digest(...args);
  });
  let written = 0;
  IDBObjectStore.prototype.put = function (value: unknown, key?: IDBValidKey) {
    if (value instanceof Blob) written++;
    return realPut.call(this, value, key);
  };
  const ahead: number[] = [];
  const encoder = {
    parallel: 1,
    encode: async (...args: Parameters<typeof inlineEncoder.encode>) => {
      ahead.push(shardOf.get(`${args[0].tensor} ${args[0].row0}`)! - written);
      return await inlineEncoder.encode(...args);
    },
  };
  await importModel(job, { encoder });
  slow.mockRestore();
  expect(written).toBe(job.manifest.shards.length);
  expect(Math.max(...ahead)).toBe(1);
});

const reference = fileURLToPath(new URL("../../../shared/reference/s-0/checkpoint", import.meta.url));
test.skipIf(!existsSync(reference))(
  "the reference checkpoint (../shared/reference/s-0) as bf16 is exact, as 4 bits is close",
  async () => {
    const parts = readdirSync(reference).map((path) => ({
      path,
      file: new Blob([readFileSync(`${reference}/${path}`)]),
    }));
    const set = new BlobFileSet("s-0", parts);
    const slotsOf = (scheme: SlotScheme) => (checkpoint: Checkpoint) =>
      [...checkpoint.tensors.values()].map(({ name, shape }) => {
        const flat = shape.length === 1;
        const rows = flat ? 1 : shape[0]!;
        const cols = flat ? shape[0]! : shape.slice(1).reduce((a, b) => a * b);
        return { name, sources: [{ tensor: name, rows }], rows, cols, scheme: flat ? "f32" : scheme } as WeightSlot;
      });
    for (const scheme of ["bf16", "q4a32"] as const) {
      const job = await planImport({ files: set, scheme, slots: slotsOf(scheme), shardBytes: 1 << 18 });
      const manifest = await importModel(job);
      const shards: LoadedShard[] = [];
      for await (const shard of readShards(manifest)) shards.push(shard);
      const planes = assemble(manifest, shards);
      for (const [i, slot] of manifest.slots.entries()) {
        const found = dequantizeRows(slot.scheme, planes[i] as never, slot.rows, slot.cols);
        const raw = await job.checkpoint.readRows(slot.name, 0, job.checkpoint.tensors.get(slot.name)!.shape[0]!);
        const expected = new Float32Array(Uint32Array.from(new Uint16Array(raw.buffer), (u) => u << 16).buffer);
        if (slot.scheme !== "q4a32") expect(found).toEqual(expected);
        else {
          let error = 0;
          let norm = 0;
          expected.forEach((x, k) => {
            error += (x - found[k]!) ** 2;
            norm += x * x;
          });
          expect(Math.sqrt(error / norm), slot.name).toBeLessThan(0.1);
        }
      }
    }
  },
);
