import "fake-indexeddb/auto";
import { existsSync, readFileSync } from "node:fs";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { BlobFileSet, MANIFEST_VERSION, type ModelManifest, openZip } from "../formats/index.ts";
import { putManifest, putRecord } from "../storage/index.ts";
import { type Adapter, DEFAULT_SETTINGS, readPeft } from "../train/index.ts";
import type { RunRecord } from "../training_records.ts";
import { Adapters } from "./worker_adapters.ts";
import type { TrainingData } from "./worker_datasets.ts";
import { exportMerged } from "./worker_merge.ts";
import { exportScript, planTraining, seenRow } from "./worker_plans.ts";
import { deleteRun, listRuns, loadRun, renameRun, runLog, saveRun } from "./worker_runs.ts";

const REFERENCE = "../shared/reference/s-0";
const never = new AbortController().signal;
const text = async (blob: Blob) => await blob.text();

/** A stored model as an import leaves it, without its shards. */
async function storeModel(): Promise<void> {
  const names = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "processor_config.json"];
  const texts = Object.fromEntries(
    names.map((name) => [name, readFileSync(`${REFERENCE}/checkpoint/${name}`, "utf8")]),
  );
  const manifest: ModelManifest = {
    version: MANIFEST_VERSION,
    id: "m",
    name: "checkpoint",
    source: "Some/Model at 0123456789ab",
    sourceFingerprint: "",
    config: JSON.parse(readFileSync(`${REFERENCE}/checkpoint/config.json`, "utf8")),
    texts: {},
    scheme: "bf16",
    slots: [],
    shards: [],
    state: "complete",
    parameters: 1_000_000,
    bytesTotal: 0,
    bytesSource: 0,
    created: 0,
    lastUsed: 0,
  };
  await putRecord("model-texts", "m", texts);
  await putManifest("m", manifest);
}

const row = (id: string, answer: string, pictureId?: string) => ({
  id,
  messages: [
    {
      role: "user" as const,
      parts: [
        ...(pictureId ? [{ type: "image" as const, pictureId }] : []),
        { type: "text" as const, text: "How many?" },
      ],
    },
    { role: "assistant" as const, parts: [{ type: "text" as const, text: answer }] },
  ],
});
const data: TrainingData = {
  name: "dots",
  hash: "h",
  rows: [row("a", "5", "p"), row("b", "long ".repeat(3000)), row("c", "6", "p"), row("d", "7")],
  parts: ["train", "train", "heldBack", "train"],
  sizeOf: () => ({ width: 64, height: 96 }),
};

describe.skipIf(!existsSync(REFERENCE))("with a stored model", () => {
  beforeEach(async () => {
    vi.stubGlobal("navigator", {});
    await storeModel();
  });

  test("a row as the model sees it", async () => {
    const seen = await seenRow("m", data, DEFAULT_SETTINGS);
    expect(seen.pictures).toEqual([
      { pictureId: "p", width: 64, height: 96, resizedWidth: 64, resizedHeight: 96, tokens: 6 },
    ]);
    expect(seen.spans.reduce((sum, s) => sum + s.count, 0)).toBe(seen.tokens);
    expect(
      seen.spans
        .filter((s) => s.trained)
        .map((s) => s.text)
        .join(""),
    ).toBe("5<|im_end|>\n");
    expect([seen.trained, seen.isTooLong]).toEqual([3, false]);
    expect((await seenRow("m", data, { ...DEFAULT_SETTINGS, maxTokens: 16 })).isTooLong).toBe(true);
    await expect(seenRow("m", { ...data, rows: [] }, DEFAULT_SETTINGS)).rejects.toThrow(/no longer in the data set/);
    await expect(seenRow("x", data, DEFAULT_SETTINGS)).rejects.toThrow(/no imported model x/);
  });

  const device = { maxBytes: 2 ** 31, variants: { subgroups: false, half: false, matrix: undefined } };

  test("a plan: what trains, how long, what is left out; bad settings come back as problems", async () => {
    const { plan, problems } = await planTraining("m", data, DEFAULT_SETTINGS, device, never, () => {});
    expect(problems).toEqual([]);
    expect(plan).toMatchObject({ examples: 2, heldBackExamples: 1, stepsPerEpoch: 1, steps: 3, failed: [] });
    expect(plan!.tooLong.map((t) => t.number)).toEqual([2]);
    const bad = await planTraining(
      "m",
      data,
      { ...DEFAULT_SETTINGS, learningRate: Number.NaN },
      device,
      never,
      () => {},
    );
    expect([bad.plan, bad.problems.map((p) => p.field)]).toEqual([undefined, ["learningRate"]]);
  });

  test("a script with the same rows, settings and base for another machine", async () => {
    const picture = async () => new Blob(["png"], { type: "image/png" });
    const files = await openZip(await exportScript("m", data, DEFAULT_SETTINGS, picture, never, () => {}), "z");
    const read = async (path: string) => new TextDecoder().decode(await files.find((f) => f.path === path)!.read());
    expect(files.map((f) => f.path).sort()).toEqual(["pictures/p.png", "test.jsonl", "train.jsonl", "train.py"]);
    // The row that is too long is not there.
    expect((await read("train.jsonl")).trim().split("\n").length).toBe(2);
    expect(await read("train.py")).toContain('BASE = "Some/Model"');
    const bad = { ...DEFAULT_SETTINGS, epochs: 0 };
    await expect(exportScript("m", data, bad, picture, never, () => {})).rejects.toThrow(
      /epochs: expected a whole number/,
    );
  });

  const files = (...names: string[]) =>
    names.map((name) => ({ path: `adapter/${name}`, file: new Blob([readFileSync(`${REFERENCE}/adapter/${name}`)]) }));

  test("an adapter of PEFT: imported, listed, renamed, exported in both forms, deleted", async () => {
    const adapters = new Adapters();
    const source = {
      kind: "files" as const,
      name: "mine",
      files: files("adapter_config.json", "adapter_model.safetensors"),
    };
    const record = await adapters.importAdapter(source, "m", never);
    expect(record).toMatchObject({ name: "mine", origin: "imported", r: 8, alpha: 16, layers: 28, hasVision: false });
    expect([record.parameters, record.warnings]).toEqual([52224, []]);
    expect((await adapters.renameAdapter(record.id, "Dots")).name).toBe("Dots");
    const compared: boolean[] = [];
    const same = async (modelId: string, live: Adapter, file: Adapter) => {
      compared.push(modelId === "m" && live !== file && live.pairs.length === file.pairs.length);
      return { tokens: 9, difference: 1e-6 };
    };
    const peft = await adapters.exportAdapter(record.id, "peft", same);
    expect(peft.proof).toEqual({ tokens: 9, difference: 1e-6 });
    const zip = await openZip(peft.blob, "z");
    const read = (path: string) => zip.find((f) => f.path === path)!.read();
    const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    const again = readPeft(decode(await read("adapter_config.json")), await read("adapter_model.safetensors"));
    expect(again.adapter).toEqual(await adapters.load(record.id));
    expect(decode(await read("README.md"))).toContain("# Dots");
    const { blob, proof } = await adapters.exportAdapter(record.id, "gguf", async () => undefined);
    expect(proof).toBeUndefined();
    const gguf = new Uint8Array(await blob.arrayBuffer());
    const other = async () => ({ tokens: 9, difference: 0.01 });
    await expect(adapters.exportAdapter(record.id, "gguf", other)).rejects.toThrow(
      /answers differently .* over 9 tokens its logits are off by 1.0e-2, at most 1e-4 is allowed. It is not offered/,
    );
    expect(compared).toEqual([true]);
    expect(decode(gguf.subarray(0, 4))).toBe("GGUF");
    expect((await new Adapters().listAdapters()).map((a) => a.name)).toEqual(["Dots"]);
    // A run's better adapter takes the place of its own, under the name that a visitor has given it.
    const better = { ...(await adapters.load(record.id)), base: "B" };
    const facts = { name: "new", modelId: "m", origin: "trained" as const, warnings: [] };
    expect(await adapters.store(better, facts, record.id)).toMatchObject({ id: record.id, name: "Dots", base: "B" });
    const separate = await adapters.store(better, facts, "deleted meanwhile");
    expect((await adapters.listAdapters()).map((a) => a.name).sort()).toEqual(["Dots", "new"]);
    await adapters.deleteAdapter(separate.id);
    await adapters.deleteAdapter(record.id);
    expect(await adapters.listAdapters()).toEqual([]);
    await expect(adapters.load(record.id)).rejects.toThrow(/not stored in this browser/);
  });

  test("a checkpoint with the adapter merged in, as a zip and into a folder", async () => {
    const list = ["adapter_config.json", "adapter_model.safetensors"];
    const adapter = readPeft(
      readFileSync(`${REFERENCE}/adapter/${list[0]}`, "utf8"),
      readFileSync(`${REFERENCE}/adapter/${list[1]}`),
    ).adapter;
    const names = ["config.json", "model.safetensors"];
    const set = new BlobFileSet(
      "base",
      names.map((path) => ({ path, file: new Blob([readFileSync(`${REFERENCE}/checkpoint/${path}`)]) })),
    );
    const seen: number[] = [];
    const { zip, proof } = await exportMerged(set, adapter, undefined, never, (d, total) => seen.push(d / total));
    expect(seen.at(-1)).toBe(1);
    expect(proof!.layers).toBe(28);
    // Something was rounded, and no more than that.
    expect(proof!.difference).toBeGreaterThan(0);
    expect(proof!.difference).toBeLessThan(2 ** -8);
    const zipped = await openZip(zip!, "z");
    expect(zipped.map((f) => f.path).sort()).toEqual(names);

    const written = new Map<string, Uint8Array[]>();
    const folder = {
      async getFileHandle(path: string) {
        written.set(path, []);
        return {
          createWritable: async () => new WritableStream({ write: (chunk) => void written.get(path)!.push(chunk) }),
          getFile: async () => {
            const bytes = Buffer.concat(written.get(path)!);
            // A disk that forgets: the second half of what was written is zero.
            return new Blob([forgets && path.endsWith(".safetensors") ? bytes.fill(0, bytes.length / 2) : bytes]);
          },
        };
      },
    } as unknown as FileSystemDirectoryHandle;
    let forgets = false;
    expect(await exportMerged(set, adapter, folder, never, () => {})).toEqual({ proof });
    const file = zipped.find((f) => f.path === "model.safetensors")!;
    expect(Buffer.concat(written.get("model.safetensors")!).equals(Buffer.from(await file.read()))).toBe(true);
    forgets = true;
    await expect(exportMerged(set, adapter, folder, never, () => {})).rejects.toThrow(
      /read back, and model.* answers differently from the adapter/,
    );
    await expect(exportMerged(set, adapter, folder, AbortSignal.abort(), () => {})).rejects.toThrow(/cancelled/);
  });

  test("what is no adapter, or one of another model, is explained and not kept", async () => {
    const adapters = new Adapters();
    const from = (list: { path: string; file: Blob }[]) =>
      adapters.importAdapter({ kind: "files", name: "x", files: list }, "m", never);
    await expect(from(files("adapter_config.json"))).rejects.toThrow(
      /adapter_model.safetensors is missing, found adapter/,
    );
    const pickle = [...files("adapter_config.json"), { path: "adapter/adapter_model.bin", file: new Blob(["x"]) }];
    await expect(from(pickle)).rejects.toThrow(/can run programs/);
    const twice = files("adapter_config.json", "adapter_model.safetensors");
    await expect(from([...twice, ...twice.map(({ path, file }) => ({ path: `b/${path}`, file }))])).rejects.toThrow(
      /found 2/,
    );
    const other = "../shared/reference/m-0/adapter";
    if (existsSync(other)) {
      const list = ["adapter_config.json", "adapter_model.safetensors"].map((path) => ({
        path,
        file: new Blob([readFileSync(`${other}/${path}`)]),
      }));
      await expect(from(list)).rejects.toThrow(/for “checkpoint”, found .* model of another size/);
    }
    expect(await adapters.listAdapters()).toEqual([]);
  });
});

test("the history of runs: kept, listed newest first, renamed, written as CSV, deleted", async () => {
  const run = (id: string, created: number): RunRecord => ({
    id,
    name: id,
    created,
    updated: created,
    state: "running",
    model: { id: "m", name: "m" },
    dataset: { id: "d", name: "d", hash: "h", trainRows: 1, heldBackRows: 0 },
    settings: DEFAULT_SETTINGS,
    patience: 0,
    steps: 1,
    log: [],
    evaluations: [],
  });
  await saveRun(run("old", 1));
  await saveRun(run("new", 2));
  const step = {
    step: 1,
    epoch: 0,
    loss: 2,
    learningRate: 0,
    gradientNorm: 1,
    tokens: 5,
    trainedTokens: 2,
    milliseconds: 10,
  };
  await saveRun({ ...(await loadRun("old")), state: "finished", log: [step] });
  expect((await listRuns()).map((r) => [r.id, r.state])).toEqual([
    ["new", "running"],
    ["old", "finished"],
  ]);
  expect((await renameRun("old", "  ")).name).toBe("Run");
  expect((await text(await runLog("old"))).split("\r\n")[1]).toBe("1,0,2,0,1,5,2,10,500,,,");
  await deleteRun("old");
  await expect(loadRun("old")).rejects.toThrow(/not in the history/);
  expect((await listRuns()).length).toBe(1);
});
