import { TabTuneError, throwIfCancelled } from "../../errors.ts";
import { type Checkpoint, decodeFloats, encodeFloats, isWeightDtype, type WeightDtype } from "../../formats/index.ts";
import { type Adapter, checkAdapter, type LoraPair, scaleOf } from "./adapter.ts";
import { canonicalName } from "./peft.ts";

/**
 * Rows of W + s·B·A in the type that W has. Sums are f64, then f32, then the type, each time to nearest even.
 * Throws `BadCheckpoint` for NaN or infinity in W.
 * @param raw rows row0 … of W, little-endian; their number follows from its length
 * @internal
 */
export function mergeRows(
  dtype: WeightDtype,
  raw: Uint8Array,
  row0: number,
  { module, r, a, b }: LoraPair,
  scale: number,
): Uint8Array<ArrayBuffer> {
  const cols = a.length / r;
  const rows = raw.length / cols / (dtype === "F32" ? 4 : 2);
  const values = new Float32Array(rows * cols);
  const badAt = decodeFloats(dtype, raw, values.length, values);
  if (badAt >= 0) {
    const row = row0 + Math.floor(badAt / cols);
    throw new TabTuneError(
      "BadCheckpoint",
      `${module}.weight, row ${row}: found NaN or infinity. Fetch the checkpoint again.`,
    );
  }
  const delta = new Float64Array(cols);
  for (let i = 0; i < rows; i++) {
    delta.fill(0);
    for (let k = 0; k < r; k++) {
      const factor = scale * b[(row0 + i) * r + k]!;
      if (factor === 0) continue;
      for (let c = 0, at = k * cols; c < cols; c++, at++) delta[c]! += factor * a[at]!;
    }
    for (let c = 0, at = i * cols; c < cols; c++, at++) values[at] = values[at]! + delta[c]!;
  }
  return encodeFloats(dtype, values);
}

/** A file of the merged checkpoint; its bytes are made while they are asked for. */
export interface MergedFile {
  path: string;
  size: number;
  chunks(signal?: AbortSignal): AsyncGenerator<Uint8Array<ArrayBuffer>>;
}

/** Bytes that are in memory at once. */
const CHUNK = 8 << 20;
/** Files that are copied: everything small beside the weights. */
const MAX_COPIED = 64 << 20;
const NOT_COPIED = /\.(safetensors|bin|pt|pth|gguf|onnx|onnx_data|h5|msgpack)$|^\.|\//;
/** Where a place cannot list its files. */
const USUAL = [
  "config.json",
  "generation_config.json",
  "model.safetensors.index.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "chat_template.jinja",
  "chat_template.json",
  "preprocessor_config.json",
  "processor_config.json",
  "video_preprocessor_config.json",
];

/**
 * The files of a checkpoint with an adapter merged into it: the same names, types and order, so headers are copied as they are.
 * Throws `BadInput` when the adapter does not fit or a layer is stored in another form.
 */
export async function mergedFiles(
  checkpoint: Checkpoint,
  adapter: Adapter,
  signal?: AbortSignal,
): Promise<MergedFile[]> {
  const { files, tensors, config } = checkpoint;
  checkAdapter(adapter, { name: files.name, config });
  const pairs = new Map(adapter.pairs.map((pair) => [`${pair.module}.weight`, pair]));
  const paths = new Set([...tensors.values()].map(({ file }) => file));
  const merged: MergedFile[] = [];
  for (const path of paths) {
    const inside = [...tensors.values()].filter(({ file }) => file === path).sort((x, y) => x.offset - y.offset);
    const parts = inside.map((tensor) => ({ tensor, pair: pairs.get(canonicalName(tensor.name)) }));
    for (const { tensor, pair } of parts) {
      if (!pair) continue;
      pairs.delete(`${pair.module}.weight`);
      if (isWeightDtype(tensor.dtype) && tensor.format === undefined) continue;
      throw new TabTuneError(
        "BadInput",
        `${tensor.name} is stored as ${tensor.format ?? tensor.dtype}: an adapter can be merged into BF16, F16 or F32 only. Choose the original checkpoint.`,
      );
    }
    const size = await files.size(path, signal);
    async function* chunks(cancel?: AbortSignal): AsyncGenerator<Uint8Array<ArrayBuffer>> {
      let at = 0;
      const copy = async function* (end: number) {
        for (; at < end; at += CHUNK) {
          throwIfCancelled(cancel);
          yield await files.read(path, at, Math.min(CHUNK, end - at), cancel);
        }
        at = end;
      };
      for (const { tensor, pair } of parts) {
        if (!pair) continue;
        yield* copy(tensor.offset);
        const rows = tensor.shape[0]!;
        const step = Math.max(1, Math.floor((CHUNK * rows) / tensor.bytes));
        for (let row0 = 0; row0 < rows; row0 += step) {
          throwIfCancelled(cancel);
          const raw = await checkpoint.readRows(tensor.name, row0, Math.min(step, rows - row0), cancel);
          yield mergeRows(tensor.dtype as WeightDtype, raw, row0, pair, scaleOf(pair, adapter.rslora));
        }
        at = tensor.offset + tensor.bytes;
      }
      yield* copy(size);
    }
    merged.push({ path, size, chunks });
  }
  const [lost] = pairs.keys();
  if (lost)
    throw new TabTuneError("BadInput", `The checkpoint has no tensor ${lost} for the adapter to be merged into.`);
  const listed = (await files.list(signal)) ?? [];
  const others = listed.length > 0 ? listed.map(({ path }) => path) : USUAL;
  for (const path of others) {
    if (NOT_COPIED.test(path) || !(await files.has(path, signal))) continue;
    const size = await files.size(path, signal);
    if (size > MAX_COPIED) continue;
    async function* chunks(cancel?: AbortSignal) {
      yield await files.read(path, 0, size, cancel);
    }
    merged.push({ path, size, chunks });
  }
  return merged;
}
