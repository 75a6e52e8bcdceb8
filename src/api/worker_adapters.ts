import { openModel } from "../engine/index.ts";
import { TabTuneError } from "../errors.ts";
import { BlobFileSet, type FileSet, writeZip } from "../formats/index.ts";
import { deleteRecord, getRecord, listRecords, putRecord } from "../storage/index.ts";
import {
  type Adapter,
  type AdapterFiles,
  CONFIG_FILE,
  checkAdapter,
  findAdapter,
  modelCard,
  readGgufLora,
  readPeft,
  WEIGHTS_FILE,
  writeGgufLora,
  writePeft,
} from "../train/index.ts";
import type { RunRecord } from "../training_records.ts";
import type { AdapterForm, AdapterRecord, AdapterSource, ExportedAdapter, ExportProof } from "./train_protocol.ts";
import { openSource } from "./worker_models.ts";

/** Relative L2 of logits that an export may be off by. PEFT's form is the same bits; GGUF's scales are rounded once. */
const MOST_DIFFERENCE = 1e-4;

/** Compares logits of a stored adapter with those of its file, on the model of this id. */
type Compare = (modelId: string, live: Adapter, again: Adapter) => Promise<ExportProof | undefined>;

/** As stored beside its record: PEFT's own two files. */
interface StoredFiles {
  config: string;
  weights: Blob;
}

/** Adapters in this browser's storage, in PEFT's own form. */
export class Adapters {
  /** Reads an adapter, compares it with a stored model and keeps it. Throws `BadInput` that explains what does not fit. */
  async importAdapter(source: AdapterSource, modelId: string, signal: AbortSignal): Promise<AdapterRecord> {
    const model = await openModel(modelId);
    const { name, files } = await open(source, signal);
    const { adapter, warnings } = readPeft(files.config, files.weights);
    warnings.push(...checkAdapter(adapter, model));
    return await this.store(adapter, { name, modelId, origin: "imported", warnings });
  }

  /**
   * Keeps an adapter as PEFT's files, which must read back as the same numbers.
   * @param inPlaceOf an adapter whose id and name it takes over, if that is still stored
   */
  async store(
    adapter: Adapter,
    facts: Pick<AdapterRecord, "name" | "modelId" | "origin" | "warnings"> & { runId?: string },
    inPlaceOf?: string,
  ): Promise<AdapterRecord> {
    const files = proved(adapter);
    const before = inPlaceOf && ((await getRecord("adapter", inPlaceOf)) as AdapterRecord | undefined);
    const record: AdapterRecord = {
      ...facts,
      ...(before ? { id: before.id, name: before.name } : { id: crypto.randomUUID() }),
      created: Date.now(),
      base: adapter.base,
      r: adapter.r,
      alpha: adapter.alpha,
      rslora: adapter.rslora,
      layers: adapter.pairs.length,
      hasVision: adapter.pairs.some(({ module }) => module.startsWith("model.visual.")),
      parameters: adapter.pairs.reduce((sum, { a, b }) => sum + a.length + b.length, 0),
      bytes: files[WEIGHTS_FILE].length,
    };
    const stored: StoredFiles = { config: files[CONFIG_FILE], weights: new Blob([files[WEIGHTS_FILE]]) };
    await putRecord("adapter-file", record.id, stored);
    await putRecord("adapter", record.id, record);
    return record;
  }

  async listAdapters(): Promise<AdapterRecord[]> {
    const all = (await listRecords("adapter")).map(({ value }) => value as AdapterRecord);
    return all.sort((a, b) => b.created - a.created);
  }

  async renameAdapter(id: string, name: string): Promise<AdapterRecord> {
    const record = { ...(await find(id)), name: name.trim() || "Adapter" };
    await putRecord("adapter", id, record);
    return record;
  }

  async deleteAdapter(id: string): Promise<void> {
    await deleteRecord("adapter", id);
    await deleteRecord("adapter-file", id);
  }

  /** Throws `NotFound`. */
  async load(id: string): Promise<Adapter> {
    const stored = (await getRecord("adapter-file", id)) as StoredFiles | undefined;
    if (!stored) throw new TabTuneError("NotFound", "This adapter is not stored in this browser any more.");
    return readPeft(stored.config, new Uint8Array(await stored.weights.arrayBuffer())).adapter;
  }

  /**
   * A zip for PEFT, vLLM and Unsloth with a model card, or a file for llama.cpp, read back from what was written.
   * @param compare puts both on the model and compares their logits; undefined where that cannot be done now
   * Throws `BadInput` where a form cannot hold it, `Internal` where the file is not the adapter.
   */
  async exportAdapter(id: string, form: AdapterForm, compare: Compare): Promise<ExportedAdapter> {
    const record = await find(id);
    const adapter = await this.load(id);
    const { blob, again } = form === "gguf" ? await asGguf(record, adapter) : await this.#asZip(record, adapter);
    const proof = await compare(record.modelId, adapter, again);
    if (proof && !(proof.difference <= MOST_DIFFERENCE)) {
      throw new TabTuneError(
        "Internal",
        `The file answers differently from the adapter: over ${proof.tokens} tokens its logits are off by ${proof.difference.toExponential(1)}, at most ${MOST_DIFFERENCE.toExponential(0)} is allowed. It is not offered. Please report this.`,
      );
    }
    return { blob, ...(proof ? { proof } : {}) };
  }

  async #asZip(record: AdapterRecord, adapter: Adapter): Promise<Written> {
    const run = record.runId ? ((await getRecord("run", record.runId)) as RunRecord | undefined) : undefined;
    const files = proved(adapter);
    const blob = await writeZip([
      { path: CONFIG_FILE, data: files[CONFIG_FILE] },
      { path: WEIGHTS_FILE, data: files[WEIGHTS_FILE] },
      { path: "README.md", data: modelCard(record.name, adapter, run) },
    ]);
    const { config, weights } = await findAdapter([{ path: "adapter.zip", file: blob }]);
    return { blob, again: readPeft(config, weights).adapter };
  }
}

/** An export, and the adapter that is read from it. */
interface Written {
  blob: Blob;
  again: Adapter;
}

async function asGguf({ name }: AdapterRecord, adapter: Adapter): Promise<Written> {
  const blob = new Blob([writeGgufLora(adapter, name)]);
  return { blob, again: await readGgufLora(new BlobFileSet(name, [{ path: "lora.gguf", file: blob }]), "lora.gguf") };
}

/** PEFT's files, read back and compared number by number. */
function proved(adapter: Adapter): ReturnType<typeof writePeft> {
  const files = writePeft(adapter);
  const again = readPeft(files[CONFIG_FILE], files[WEIGHTS_FILE]).adapter;
  const isSame = (x: Float32Array, y: Float32Array) => x.length === y.length && x.every((value, i) => value === y[i]);
  const pairs = new Map(again.pairs.map((pair) => [pair.module, pair]));
  const wrong = adapter.pairs.find(({ module, r, alpha, a, b }) => {
    const other = pairs.get(module);
    return !other || other.r !== r || other.alpha !== alpha || !isSame(a, other.a) || !isSame(b, other.b);
  });
  if (!wrong && again.rslora === adapter.rslora && pairs.size === adapter.pairs.length) return files;
  throw new TabTuneError(
    "Internal",
    `The adapter did not read back as it was written (${wrong?.module ?? CONFIG_FILE}), so it was not kept. Please report this.`,
  );
}

async function open(source: AdapterSource, signal: AbortSignal): Promise<{ name: string; files: AdapterFiles }> {
  if (source.kind === "files") return { name: source.name, files: await findAdapter(source.files, signal) };
  const set: FileSet = await openSource(source, signal);
  const size = await set.size(WEIGHTS_FILE, signal);
  const config = await set.text(CONFIG_FILE, signal);
  return { name: set.name, files: { config, weights: await set.read(WEIGHTS_FILE, 0, size, signal) } };
}

async function find(id: string): Promise<AdapterRecord> {
  const found = (await getRecord("adapter", id)) as AdapterRecord | undefined;
  if (!found) throw new TabTuneError("NotFound", "This adapter is not stored in this browser any more.");
  return found;
}
